"""What every command shares: help, one-line errors, exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mytalk import command
from mytalk.command import UserError
from tests.helpers.checkout import ROOT

FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__main__.py") if path.parent.name != "benchmarks")


def test_the_folders_that_are_commands():
    assert {"data_pipeline", "train", "eval"} <= set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_help_lists_every_command_and_each_has_help_with_an_example(folder, capsys):
    """What is listed exists: its module imports, its help ends with a command line that it would itself parse."""
    main = importlib.import_module(f"{folder}.__main__")
    program = f"python -m {folder}"
    assert main.COMMANDS
    assert command.main(program, main.__doc__, main.COMMANDS, ["--help"]) == 0
    listed = capsys.readouterr().out
    assert command.main(program, main.__doc__, main.COMMANDS, []) == command.EXIT_USAGE
    for name, (_, line) in main.COMMANDS.items():
        assert name in listed
        assert line in listed
        with pytest.raises(SystemExit) as ended:
            command.main(program, main.__doc__, main.COMMANDS, [name, "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert f"usage: {program} {name}" in said
        assert "--debug" in said
        example = said.split("example:\n")[1].strip().splitlines()[0]
        assert example.startswith(f"{program} {name}"), example
        words = shlex.split(example)[4:]
        importlib.import_module(main.COMMANDS[name][0]).arguments().parse_args(words)
        for line, below in itertools.pairwise(said.splitlines()):  # the help of an option stands beside or below it
            assert not line.startswith("  -") or re.search(r"\S  +\S", line) or below.startswith(" " * 20), line


def test_an_empty_word_is_refused_as_it_would_name_the_current_folder(capsys):
    parser = command.parser("x", "X.", "x")
    parser.add_argument("out", type=Path)
    with pytest.raises(SystemExit):
        parser.parse_args([""])
    assert "one of the words is empty" in capsys.readouterr().err


def test_help_states_every_default_that_the_text_of_an_option_leaves_out():
    parser = command.parser("x", "X.", "x")
    parser.add_argument("--steps", type=int, default=30, help="of the sampler")
    parser.add_argument("--rate", type=int, default=25, help="in Hz (default: the file's)")
    parser.add_argument("--none", help="of nothing")
    parser.add_argument("--many", nargs="+", default=[], help="of them")
    parser.add_argument("place", nargs="?", default="here", help="of work")
    said = parser.format_help()
    assert "of the sampler (default: 30)" in said
    assert re.findall(r"\(default: .*?\)", said) == ["(default: 30)", "(default: the file's)"]


@pytest.fixture
def stub(monkeypatch):
    """A folder of one command, `work`, that does what the test says."""

    class Stub:
        COMMANDS = {"work": ("stubbed_work", "work")}  # noqa: RUF012

        @staticmethod
        def arguments():
            return command.parser("python -m stub work", "Work.", "python -m stub work")

        def __call__(self, do, *argv: str) -> int:
            self.run = lambda args: do()
            return command.main("python -m stub", "Stub.", self.COMMANDS, ["work", *argv])

    made = Stub()
    monkeypatch.setitem(sys.modules, "stubbed_work", made)
    return made


def raising(error: BaseException):
    """A function that raises `error`."""

    def do() -> int:
        raise error

    return do


def test_a_command_returns_its_own_exit_code(stub):
    assert stub(lambda: 0) == 0
    assert stub(lambda: command.EXIT_RUN_AGAIN) == 75


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    known = {"extract": ("x", "y"), "annotate": ("x", "y")}
    assert command.main("python -m p", "", known, ["extrct"]) == command.EXIT_USAGE
    assert capsys.readouterr().err == "python -m p: error: no command 'extrct'; did you mean 'extract'?\n"
    assert command.main("python -m p", "", known, ["qqq"]) == command.EXIT_USAGE
    assert "there are: extract, annotate" in capsys.readouterr().err


def test_a_file_that_is_taken_for_an_option_is_named(stub, capsys):
    with pytest.raises(SystemExit):
        stub(lambda: 0, "-v.mp4")
    assert "if -v.mp4 is a file, type ./-v.mp4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        stub(lambda: 0, "--stepz")
    assert "is a file" not in capsys.readouterr().err


def os_error(number: int, file: str = "/out/x") -> OSError:
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("a is wrong;\n  do b"), "a is wrong; do b"),
        (os_error(errno.ENOSPC), "the disk is full (/out/x); free some space and type the same command again"),
        (os_error(errno.EDQUOT), "the disk quota is used up (/out/x); free some space"),
        (os_error(errno.EROFS), "the file system is read-only (/out/x); name an output folder that can be written"),
        (os_error(errno.EACCES), "permission denied (/out/x); name a folder that you may read and write"),
        (os_error(errno.ENOENT), "no such file or folder (/out/x); check the path"),
        (os_error(errno.ENOTDIR), "a file stands where a folder is needed (/out/x)"),
        (os_error(errno.EEXIST), "a file stands where a folder is needed (/out/x)"),
        (os_error(errno.EISDIR), "a folder stands where a file is needed (/out/x); name a file"),
        (os_error(errno.ELOOP), "a link leads to itself (/out/x); name the file that is meant"),
        (os_error(errno.ENAMETOOLONG), "the name is too long (/out/x); name a shorter one"),
        (os_error(errno.EFBIG), "the file is larger than this shell or disk allows (/out/x); see ulimit -f"),
        (OSError(errno.ENOSPC, "full"), "the disk is full; free some space"),
        (ConnectionResetError("the peer\nleft"), "the peer left"),
        (OSError(), "OSError"),
        (ModuleNotFoundError("no", name="mediapipe.tasks"), "pip install -c constraints.txt -e '.[landmarks]'"),
        (ModuleNotFoundError("no", name="deepspeed"), "'deepspeed' is missing; install it with: pip install"),
        (ModuleNotFoundError("no", name="espeakng_loader"), "-e '.[demo]'"),
        (ModuleNotFoundError("no", name="somewhere.else"), "package 'somewhere' is missing; install it with pip"),
        (ImportError("a library\nis torn"), "a library is torn"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_user_can_mend_is_one_line_and_exit_1(stub, capsys, error, said):
    assert stub(raising(error)) == command.EXIT_NOT_DONE
    err = capsys.readouterr().err
    assert err.startswith("python -m stub work: error: ")
    assert said in err
    assert err.count("\n") == 1
    with pytest.raises(type(error)):
        stub(raising(error), "--debug")


def test_a_mistake_of_ours_keeps_its_traceback(stub):
    with pytest.raises(ZeroDivisionError):
        stub(raising(ZeroDivisionError()))


@pytest.fixture
def error_file(monkeypatch, tmp_path) -> Path:
    """Where a launcher has asked for the reason of a failure."""
    path = tmp_path / "rank-1.json"
    monkeypatch.setenv(command.ERROR_FILE, str(path))
    return path


class DistBackendError(RuntimeError):
    """Named as torch's own."""


@pytest.mark.parametrize(
    ("error", "kind", "message", "code"),
    [
        (UserError("a is wrong;\n  do b"), "user", "a is wrong; do b", 1),
        (ModuleNotFoundError("no", name="nowhere"), "user", "package 'nowhere' is missing; install it with pip", 1),
        (os_error(errno.ENOSPC), "machine", "the disk is full (/out/x); free some space and type the same command", 1),
        (command.RunAgain("the storage is away"), "machine", "the storage is away", 75),
        (ZeroDivisionError("by zero"), "bug", "ZeroDivisionError: by zero", 1),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), "peer", "RuntimeError: [gloo", 1),
        (RuntimeError("shapes differ"), "bug", "RuntimeError: shapes differ", 1),
        (DistBackendError("NCCL"), "peer", "DistBackendError: NCCL", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_failure_leaves_its_reason_for_the_launcher(stub, error_file, error, kind, message, code):
    with contextlib.suppress(type(error)):
        assert stub(raising(error)) == code
    left = json.loads(error_file.read_text())
    assert (left["kind"], left["exit_code"]) == (kind, code)
    assert left["message"].startswith(message)
    assert "\n" not in left["message"]
    assert left["traceback"].startswith("Traceback (most recent call last)")
    assert type(error).__name__ in left["traceback"]


def test_a_wrong_command_line_leaves_its_reason_for_the_launcher(stub, error_file):
    with pytest.raises(SystemExit):
        stub(lambda: 0, "--no-such-switch")
    left = json.loads(error_file.read_text())
    assert left["kind"] == "user"
    assert "--no-such-switch" in left["message"]
    assert left["exit_code"] == command.EXIT_USAGE


def test_a_command_that_succeeds_or_is_interrupted_leaves_no_error_file(stub, error_file):
    assert stub(lambda: 0) == 0
    assert stub(raising(KeyboardInterrupt())) == command.EXIT_INTERRUPTED
    assert not error_file.exists()


def test_the_first_error_of_a_process_stays_and_a_missing_folder_hides_no_error(stub, error_file, monkeypatch):
    assert stub(raising(UserError("first"))) == 1
    assert stub(raising(UserError("second"))) == 1
    assert json.loads(error_file.read_text())["message"] == "first"
    monkeypatch.setenv(command.ERROR_FILE, "/proc/nowhere/error.json")
    assert stub(raising(UserError("third"))) == 1


def test_an_interrupt_is_one_line_and_exit_130(stub, capsys):
    assert stub(raising(KeyboardInterrupt())) == command.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "python -m stub work: interrupted; the same command continues\n"


def test_a_command_that_cannot_continue_says_so_when_interrupted(stub, capsys):
    assert stub(raising(KeyboardInterrupt("begin again"))) == command.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "python -m stub work: interrupted; begin again\n"


SILENCED = """
from mytalk import command
from mytalk.face.mediapipe_mesh import quiet

def go():
    silence = quiet()
    silence.__enter__()
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise KeyboardInterrupt("begin again") from None

raise SystemExit(command.guarded("stub", go))
"""


def test_what_silenced_stderr_as_the_interrupt_came_is_ended_before_it_is_told():
    """It came when the silence was entered and its block was not, so that no `with` ends it."""
    done = subprocess.run([sys.executable, "-c", SILENCED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == command.EXIT_INTERRUPTED
    assert done.stderr == "stub: interrupted; begin again\n"


def test_every_package_of_an_extra_is_told_by_that_extra():
    """EXTRA_OF_MODULE agrees with setup.cfg (every extra brings what the wheel itself needs as well)."""
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {name: text.lower().replace("-", "_") for name, text in setup["options.extras_require"].items()}
    package = {"PIL": "pillow", "cv2": "opencv_contrib_python"}
    for module, extra in command.EXTRA_OF_MODULE.items():
        name = package.get(module, module).lower()
        brings = "mediapipe" if (module, extra) == ("cv2", "landmarks") else name  # it depends on OpenCV
        brought = setup["options"]["install_requires"] + extras[extra]
        assert re.search(rf"^{brings}\b", brought, re.MULTILINE), (module, extra)


def test_a_real_command_end_to_end(command, tmp_path):
    """One process as a user starts it: a refused config is one line and 1, and with --debug a traceback."""
    missing = str(tmp_path / "none.yaml")
    plain = command("-m", "train", "motion", "--config", missing)
    assert plain.returncode == 1
    assert re.fullmatch(r"python -m train motion: error: no config file .*none\.yaml.*\n", plain.stderr)
    told = command("-m", "train", "motion", "--config", missing, "--debug")
    assert told.returncode == 1
    assert "Traceback" in told.stderr
    assert "UserError: no config file" in told.stderr


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_name_that_the_terminal_cannot_show_ends_no_command(command, tmp_path, locale):
    (tmp_path / "printing.py").write_text(
        "from mytalk import command\n"
        "def arguments(): return command.parser('print', '', '')\n"
        "def run(args): print('\\udcca\\xe9'); return 0\n"
        "if __name__ == '__main__': command.main('x', '', {'print': ('printing', '')}, ['print'])\n"
    )
    environment = {**locale, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = command(str(tmp_path / "printing.py"), env=environment, check=True)
    assert done.stdout.strip() in ("\\udcca\\xe9", "\\udccaé")
