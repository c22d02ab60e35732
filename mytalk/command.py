"""What every command of the project shares: help with examples, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mytalk import atomic

EXIT_DONE = 0
EXIT_NOT_DONE = 1
EXIT_USAGE = 2
EXIT_CRASHED = 70  # EX_SOFTWARE: a bug, a device or another rank is gone; worth a few tries
EXIT_RUN_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command, typed again, continues
EXIT_INTERRUPTED = 130

EVENTS = "events.jsonl"  # in a run folder: its starts, ends and restarts, a line each
ERROR_FILE = "MYTALK_ERROR_FILE"  # variable of the environment: where a rank that fails leaves why, for its launcher
# gloo and NCCL name a lost rank in a RuntimeError's text alone; torch's own classes for it are in `kind_of`.
LOST_PEER = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Socket closed|gloo/transport"
    r"|nccl(Remote|System)Error|NCCL communicator was aborted|recvValue failed|failed to recv"
)


class UserError(Exception):
    """Something a user can mend. The message is one line: what is wrong, then how to mend it."""


class RunAgain(OSError):
    """The machine's fault, and a passing one: the same command continues when it is mended. One line, as UserError."""


EXTRA_OF_MODULE = {
    "accelerate": "train",
    "decord": "train",
    "deepspeed": "train",
    "jinja2": "train",
    "omegaconf": "train",
    "PIL": "train",
    "pyarrow": "train",
    "scipy": "train",
    "tensorboard": "train",
    "torchmetrics": "train",
    "webdataset": "train",
    "aiohttp": "remote",
    "fsspec": "remote",
    "s3fs": "remote",
    "ray": "ray",
    "transformers": "speech",
    "huggingface_hub": "speech",
    "mediapipe": "landmarks",
    "cv2": "landmarks",
    "scenedetect": "landmarks",
    "onnxruntime": "judges",
    "espeakng_loader": "demo",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors reach the launcher too."""

    typed: Sequence[str] = ()

    def parse_args(self, args=None, namespace=None):
        """Options may stand before, between and behind the other words; those behind -- are another command's."""
        if "--" in (sys.argv if args is None else args):
            return super().parse_args(args, namespace)
        return self.parse_intermixed_args(args, namespace)

    def parse_known_args(self, args=None, namespace=None):
        self.typed = sys.argv[1:] if args is None else list(args)
        if "" in self.typed:  # as a path it would be the current folder
            self.error("one of the words is empty, as an unset variable of the shell is; leave it out or fill it in")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        for word in self.typed:
            if word.startswith("-") and (os.path.exists(word) or re.fullmatch(r"-.*\.\w{2,4}", word)):
                message += f"; if {word} is a file, type ./{word}"
        leave_error("user", message, EXIT_USAGE)
        super().error(message)


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that states the default of each option, where its own text does not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        told = "default" in text or not action.option_strings
        if told or action.default in (None, False, "", [], argparse.SUPPRESS):
            return text
        return f"{text} (default: %(default)s)"


def parser(program: str, description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser with an example below its help and the `--debug` switch."""
    parser = Parser(
        prog=program,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=Help,
    )
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def main(
    program: str,
    description: str,
    commands: dict[str, tuple[str, str]],
    argv: Sequence[str] | None = None,
) -> int:
    """Run one command of a folder and return its exit code.

    `commands` maps a command's name to (module, one line of help). Only the chosen module is imported;
    it has `arguments() -> ArgumentParser` and `run(args) -> int`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that is not UTF-8 ends no command that prints it
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {program} COMMAND ...\n\n{description}\n\ncommands (each takes --help):")
        for name, (_, line) in commands.items():
            print(f"  {name:<12} {line}")
        return EXIT_DONE if argv else EXIT_USAGE
    name, rest = argv[0], argv[1:]
    if name not in commands:
        import difflib

        near = difflib.get_close_matches(name, commands, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(commands)}"
        message = f"no command '{name}'; {hint}"
        leave_error("user", message, EXIT_USAGE)
        print(f"{program}: error: {message}", file=sys.stderr)
        return EXIT_USAGE
    debug = "--debug" in rest

    def go() -> int:
        import importlib

        module = importlib.import_module(commands[name][0])
        return int(module.run(module.arguments().parse_args(rest)))

    return guarded(f"{program} {name}", go, debug)


def guarded(program: str, go: Callable[[], int], debug: bool = False) -> int:
    """Call `go()`; turn what a user can mend into one line on stderr and an exit code.

    Every failure is also left for the launcher (`leave_error`); a bug is raised on, with its traceback.
    A command that cannot go on where it was interrupted says what is true of it: KeyboardInterrupt("what then").
    """
    try:
        return go()
    except KeyboardInterrupt as interrupt:
        close_what_was_open(interrupt)
        print(f"{program}: interrupted; {str(interrupt) or 'the same command continues'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        code = EXIT_RUN_AGAIN if isinstance(error, RunAgain) else EXIT_NOT_DONE
        shown = code_of(error) != EXIT_CRASHED
        message = one_line(error) if shown else f"{type(error).__name__}: {one_line(error)}"
        raised = debug or not shown
        leave_error(kind_of(error), message, EXIT_NOT_DONE if raised else code, error)
        if raised:
            raise
        print(f"{program}: error: {message}", file=sys.stderr)
        return code


def close_what_was_open(error: BaseException) -> None:
    """End what the frames of an error hold, as if they were gone, such as a generator that keeps stderr silent.

    An interrupt may come between a `with` and its block; then nothing ends what was entered until the error is gone.
    """
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__context__


def code_of(error: BaseException) -> int:
    """The exit code of a training that this error ends; all but EXIT_CRASHED are shown in one line."""
    if isinstance(error, RunAgain):
        return EXIT_RUN_AGAIN
    return EXIT_NOT_DONE if isinstance(error, (UserError, OSError, ImportError)) else EXIT_CRASHED


def kind_of(error: BaseException) -> str:
    """Who can mend an error: "user", "machine" (disk, network, storage), "peer" (another rank is gone), or "bug"."""
    if isinstance(error, (UserError, ImportError)):
        return "user"
    if isinstance(error, OSError):
        return "machine"
    by_torch = type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError")
    lost = by_torch or (isinstance(error, RuntimeError) and LOST_PEER.search(str(error)))
    return "peer" if lost else "bug"


def leave_error(kind: str, message: str, exit_code: int, error: BaseException | None = None) -> None:
    """Write why this process fails to the JSON file that its launcher has named in MYTALK_ERROR_FILE, if it has.

    {"kind": see `kind_of`, "message": one line, "traceback": text or "", "exit_code": what the process ends with}.
    The first error of a process stays: what follows is its consequence. A full disk makes it go without.
    """
    path = os.environ.get(ERROR_FILE)
    if not path or os.path.exists(path):
        return
    text = "".join(traceback.format_exception(error)) if error is not None else ""
    report = {"kind": kind, "message": message, "traceback": text, "exit_code": exit_code}
    with contextlib.suppress(OSError):
        atomic.write_json(path, report)


def note(run: str | os.PathLike, event: str, **facts: Any) -> None:
    """Add a line to the run folder's EVENTS: what happened, and when (seconds since 1970).

    Ends nothing where the folder is not there or its disk is full.
    """
    with contextlib.suppress(OSError):
        line = json.dumps({"event": event, "time": round(time.time(), 3), **facts}, allow_nan=False)
        atomic.append(os.path.join(run, EVENTS), f"{line}\n".encode())


def process() -> dict[str, Any]:
    """Which process this is: host, pid, and when it began (ticks since the host's start; 0 where unknown)."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": began(os.getpid())}


def began(pid: int) -> int:
    """When a process of this host began, in ticks since the host's own start; 0 where there is none, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])  # proc(5): field 22, counted from the name on
    except OSError:
        return 0


def end(code: int) -> NoReturn:
    """End the process now, not by way of the interpreter's own end. For one that was in a process group.

    There, threads of gloo, NCCL and DeepSpeed's own groups can abort or hold up a run that has done all it had to do.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):  # closed by some daemons
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def one_line(error: BaseException) -> str:
    """The message of an error as one line, with the fix where the error is one of the machine's."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.split(".")[0]
        if top in EXTRA_OF_MODULE:
            extra = EXTRA_OF_MODULE[top]
            return f"package '{top}' is missing; install it with: pip install -c constraints.txt -e '.[{extra}]'"
        return f"package '{top}' is missing; install it with pip"
    if isinstance(error, OSError):
        where = f" ({os.fspath(error.filename)})" if error.filename else ""
        fixes = {
            errno.ENOSPC: f"the disk is full{where}; free some space and type the same command again",
            errno.EDQUOT: f"the disk quota is used up{where}; free some space and type the same command again",
            errno.EROFS: f"the file system is read-only{where}; name an output folder that can be written",
            errno.EACCES: f"permission denied{where}; name a folder that you may read and write",
            errno.ENOENT: f"no such file or folder{where}; check the path",
            errno.ENOTDIR: f"a file stands where a folder is needed{where}; name another folder",
            errno.EEXIST: f"a file stands where a folder is needed{where}; name another folder",
            errno.EISDIR: f"a folder stands where a file is needed{where}; name a file",
            errno.ELOOP: f"a link leads to itself{where}; name the file that is meant",
            errno.ENAMETOOLONG: f"the name is too long{where}; name a shorter one",
            errno.EFBIG: f"the file is larger than this shell or disk allows{where}; see ulimit -f",
        }
        if error.errno in fixes:
            return fixes[error.errno]
    text = " ".join(str(error).split())
    return text or type(error).__name__
