"""What every command shares: configs, help, one-line errors, exit codes, atomic files and progress."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import re
import shlex
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mytalk import atomic, command, config
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from train.config import LoopConfig


@dataclass
class Inner:
    """A part of a configuration."""

    width: int = 8
    rates: tuple[float, float] = (0.1, 0.2)


@dataclass
class Part:
    """A part with a text."""

    path: str = ""


@dataclass
class Outer:
    """A configuration."""

    steps: int = 10
    name: str = "a"
    inner: Inner = field(default_factory=Inner)
    raw: dict[str, Any] = field(default_factory=dict)
    maybe: Inner | None = None
    part: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, not {self.steps}")


def refusal(file=None, overrides=()) -> str:
    """The one line with which a config is refused."""
    with pytest.raises(UserError) as refused:
        config.load(Outer, file, overrides)
    said = str(refused.value)
    assert "\n" not in said
    return said


def test_defaults_then_file_then_overrides(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("steps: 20\nname: file\ninner: {width: 16}\nraw: {any: {key: 1}}\n")
    made = config.load(Outer, file, ["name=typed", "inner.rates=[1, 2.5]", "inner.width=32", "raw.more=[x]"])
    expected = Outer(20, "typed", Inner(32, (1.0, 2.5)), {"any": {"key": 1}, "more": ["x"]})
    assert made == expected
    assert config.load(Outer, None) == Outer()
    file.write_text("")
    assert config.load(Outer, file).steps == 10, "an empty file changes nothing"
    assert config.load(Outer, None, ["name=a=b"]).name == "a=b"
    assert config.load(Outer, None, ["name='7'"]).name == "7"
    assert config.load(Outer, None, ["steps=4", "name=of ${steps}"]).name == "of 4"


def names_itself(text: str) -> bool:
    """No reference to another key, no mark of OmegaConf's own for "missing", no quotes to take off."""
    return "${" not in text and text != "???" and text[:1] not in ("'", '"')


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12) | st.text("ab /\\#:[]{}'\"*&!|>%@`$-~,=?.0 \n\t", max_size=12))
@example("runs/demo #2/x")
@example("runs/a: b/x")
@example("[a]/x")
@example("*x")
@example("007")
@example("null")
@example("a 'quoted' word")
def test_a_text_is_taken_as_it_is_typed(text):
    """A path may look like YAML."""
    assume(names_itself(text))
    assert config.load(Outer, None, [f"name={text}"]).name == text
    assert config.load(Outer, None, [f"part.path={text}"]).part.path == text
    for quote in "'\"":
        if quote not in text:
            assert config.load(Outer, None, [f"name={quote}{text}{quote}"]).name == text


def test_what_is_no_text_is_still_yaml():
    made = config.load(Outer, None, ["raw.a=[1, x]", "raw.b=7", "raw.c='7'"])
    assert made.raw == {"a": [1, "x"], "b": 7, "c": "7"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stpes=3", "'stpes=3': unknown key 'stpes'; did you mean 'steps'?"),
        ("inner.widht=3", "unknown key 'inner.widht'; did you mean 'inner.width'?"),
        ("maybe.widht=3", "did you mean 'maybe.width'?"),
        ("zzzzzz=3", "there are: inner, inner.rates, inner.width, maybe"),
        ("part=x", "'part' holds keys of its own: part.path"),
        ("steps=ten", "steps"),
        ("inner.width=wide", "inner.width"),
        ("inner=3", "'inner=3': 'inner' holds keys of its own: inner.rates, inner.width"),
        ("steps=0", "steps must be 1 or more, not 0"),
        ("steps", "write key=value"),
        ("--steps=3", "write key=value"),
        ("steps=[1", "not YAML"),
        ("raw.x=*x", "not YAML"),
        ("name=${nowhere}", "nowhere"),
        ("=3", "unknown key"),
    ],
)
def test_overrides_that_cannot_be_are_refused_in_one_line(override, said):
    assert said in refusal(overrides=[override])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stpes: 3", "unknown key 'stpes'; did you mean 'steps'?"),
        ("inner: {widht: 3}", "did you mean 'inner.width'?"),
        ("steps: [", "is not YAML"),
        ("steps: ten", "steps"),
        ("- steps", "a config is keys and values, not list"),
        ("just words", "config.yaml"),
        ("steps: -4", "steps must be 1 or more"),
        ("7: 8", "unknown key '7'"),
        ("inner: 3", "'inner' holds keys of its own: inner.rates, inner.width"),
        ("inner:", "'inner' holds keys of its own"),
        ("\x00", "is not YAML"),
    ],
)
def test_files_that_cannot_be_are_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert said in refusal(file)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    assert "no config file" in refusal(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x80")
    assert "is not YAML" in refusal(tmp_path / "bytes.yaml")


def test_difference_names_dotted_keys():
    changed = Outer(steps=3, inner=Inner(width=9))
    assert config.difference(changed, Outer()) == {"steps": (10, 3), "inner.width": (8, 9)}
    assert config.difference(Outer(), Outer()) == {}


def recipes() -> dict[str, type[LoopConfig]]:
    """The config class of every command of `python -m train` that runs the loop."""
    found = {}
    for name, (module, _) in importlib.import_module("train.__main__").COMMANDS.items():
        for value in vars(importlib.import_module(module)).values():
            own = isinstance(value, type) and issubclass(value, LoopConfig) and value.__module__ == module
            if own:
                found[name] = value
    return found


def test_every_config_that_ships_loads():
    """Every YAML under configs/ is one; those named after a recipe load as that recipe's."""
    schemas = recipes()
    assert "motion" in schemas
    loaded = []
    for file in sorted((ROOT / "configs").rglob("*.y*ml")):
        assert isinstance(yaml.safe_load(file.read_text()), dict), file
        recipe = re.split(r"[-_]", file.stem)[0]
        if recipe in schemas:
            made = config.load(schemas[recipe], file)
            assert made.global_batch >= 1
            assert made != schemas[recipe](), f"{file} says something"
            loaded.append(file.relative_to(ROOT).as_posix())
    assert "configs/demo/motion.yaml" in loaded
    assert config.load(schemas["motion"], ROOT / "tests" / "helpers" / "tiny_motion.yaml").steps == 12


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


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(atomic.TEMPORARY)]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path, error):
    path = tmp_path / "deep" / "file"
    atomic.write_bytes(path, b"old")

    def half() -> None:
        with atomic.file(path) as handle:
            handle.write(b"half of the new")
            handle.flush()
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_bytes() == b"old"
    assert not temporaries(path.parent)
    with atomic.file(path, "w") as handle:
        handle.write("new")
    assert path.read_text() == "new"


def test_json_with_a_nan_writes_nothing(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"x": [1, None]})
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_bytes() == before
    assert not temporaries(tmp_path)


def test_what_is_renamed_was_flushed_first(tmp_path, monkeypatch):
    """A power cut after the rename finds the data: fsync of the file, rename, fsync of the folder."""
    done = []
    kinds = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(kinds[stat.S_ISDIR(os.fstat(handle).st_mode)]))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    atomic.write_bytes(tmp_path / "a", b"x")
    assert done == ["file", "rename", "folder"]
    done.clear()
    made = tmp_path / ".tmp-folder"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "b").write_bytes(b"y")
    atomic.rename_folder(made, tmp_path / "folder")
    assert done == ["folder", "file", "folder", "rename", "folder"]


def test_rename_folder_replaces_nothing_finished(tmp_path):
    for name, text in (("folder", "old"), (".tmp-folder", "new")):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / text).write_text(text)
    with pytest.raises(OSError, match="not empty"):
        atomic.rename_folder(tmp_path / ".tmp-folder", tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder" / "inner").iterdir()] == ["old"]


def test_sweep_removes_what_was_left_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-folder" / "inner").mkdir(parents=True)
    (tmp_path / ".tmp-folder" / "inner" / "file").write_text("")
    (tmp_path / ".tmp-12-file").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".tmp-deeper").write_text("")
    (tmp_path / ".hidden").write_text("")
    atomic.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "kept"]
    assert (tmp_path / "kept" / ".tmp-deeper").exists()
    atomic.sweep(tmp_path / "nowhere")
