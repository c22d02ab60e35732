"""What every command of the project shares: help with examples, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

EXIT_DONE = 0
EXIT_NOT_DONE = 1
EXIT_USAGE = 2
EXIT_RUN_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command, typed again, continues
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Something a user can mend. The message is one line: what is wrong, then how to mend it."""


class RunAgain(OSError):
    """The machine's fault, and a passing one: the same command continues when it is mended. One line, as UserError."""


EXTRA_OF_MODULE = {
    "accelerate": "train",
    "decord": "train",
    "deepspeed": "train",
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
    "mediapipe": "landmarks",
    "cv2": "landmarks",
    "espeakng_loader": "demo",
}


def parser(program: str, description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser with an example below its help and the `--debug` switch."""
    made = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return made


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
        print(f"{program}: error: no command '{name}'; {hint}", file=sys.stderr)
        return EXIT_USAGE
    debug = "--debug" in rest

    def go() -> int:
        import importlib

        module = importlib.import_module(commands[name][0])
        return int(module.run(module.arguments().parse_args(rest)))

    return guarded(f"{program} {name}", go, debug)


def guarded(program: str, go, debug: bool = False) -> int:
    """Call `go()`; turn what a user can mend into one line on stderr and an exit code.

    A command that cannot go on where it was interrupted says what is true of it: KeyboardInterrupt("what then").
    """
    try:
        return go()
    except KeyboardInterrupt as interrupt:
        print(f"{program}: interrupted; {str(interrupt) or 'the same command continues'}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (UserError, OSError, ImportError) as error:
        if debug:
            raise
        print(f"{program}: error: {one_line(error)}", file=sys.stderr)
        return EXIT_RUN_AGAIN if isinstance(error, RunAgain) else EXIT_NOT_DONE


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
        }
        if error.errno in fixes:
            return fixes[error.errno]
    text = " ".join(str(error).split())
    return text or type(error).__name__
