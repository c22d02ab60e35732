"""Work for the pool whose items may kill their process. On its own, so that a worker starts quickly."""

from __future__ import annotations

import os
import signal
import time

from data_pipeline.pool import ItemFailed
from mytalk.command import UserError


def work(task: tuple, tick) -> list[str]:
    """Work whose items may fail as their names say; with ` once` a file in the folder remembers it.

    Returns the items that were done and the number of this process.
    """
    folder, items, condemned = task
    done: list[str] = []
    if items[0].startswith("hang early") and not os.path.exists(f"{folder}/hang early"):
        open(f"{folder}/hang early", "w").close()
        _hang(tick, 0)
    for position, item in enumerate(items):
        tick(position, 1)
        if position in condemned:
            done.append(f"{item}: {condemned[position]}")
            continue
        kind, _, once = item.partition(" once")
        if kind in FAILURES and not (once == "" and item.endswith(" once") and os.path.exists(f"{folder}/{kind}")):
            open(f"{folder}/{kind}", "w").close()
            FAILURES[kind](tick, position)
        done.append(item)
    return [*done, str(os.getpid())]


def two_units(task: int, tick) -> None:
    """Work on one item that says its units at once."""
    for units in (0, 1, 1):
        tick(0, units)


def _hang(tick, position) -> None:
    time.sleep(60)


def _never_end(tick, position) -> None:
    while True:
        time.sleep(0.01)
        tick(position, 1)


def _die_in_a_message(tick, position) -> None:
    pipe = tick.__closure__[tick.__code__.co_freevars.index("pipe")].cell_contents
    os.write(pipe.fileno(), b"\0\0\1\0half")  # a length of 256 bytes, of which four follow
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: BaseException):
    def fail(tick, position) -> None:
        raise error

    return fail


FAILURES = {
    "die": lambda tick, position: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda tick, position: os.kill(os.getpid(), signal.SIGSEGV),
    "die in a message": _die_in_a_message,
    "hang": _hang,
    "never end": _never_end,
    "no memory": _raise(MemoryError()),
    "dead disk": _raise(ItemFailed("storage", "Input/output error")),
    "full disk": _raise(OSError(28, "No space left on device", "/some/file")),
    "bug": _raise(KeyError("oops")),
    "wrong": _raise(UserError("this is wrong; mend it")),
}
