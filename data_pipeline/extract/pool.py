"""Worker processes that may die: one task at a time each, and a death costs only the item that caused it.

`multiprocessing.Pool` loses the task of a killed worker and waits for ever; `concurrent.futures` breaks the
whole run. Videos from the wild do crash decoders and do fill memory, so neither will do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

TICK_EVERY_S = 0.2

Task = TypeVar("Task")
Work = Callable[[Any, Callable[[int, int], None]], Any]  # work(task, tick) -> result


class WorkerCrash(RuntimeError):
    """A worker died before it began an item, or ran into a bug of ours (its traceback is the message)."""


class _Worker:
    """A process, the task it has, and the item of that task it last said it was at."""

    def __init__(self, work: Work):
        context = multiprocessing.get_context("spawn")  # a fork would copy threads of the decoders
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Any = None
        self.item: int | None = None

    def give(self, task: Any) -> None:
        self.task, self.item = task, None
        self.pipe.send(task)

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def run(
    tasks: Sequence[Task],
    work: Work,
    workers: int,
    condemn: Callable[[Task, int], Task],
    on_tick: Callable[[Task, int, int], None],
    on_done: Callable[[Task, Any], None],
) -> None:
    """Do `work` on every task in `workers` processes.

    `work` says through `tick(item, n)` which item of its task it is at, and that n more units are done. When
    a worker dies, its task is done again at the end, alone on the machine (it may have been killed for the
    memory of others). A worker that dies then names its item: `condemn(task, item)` gives the task without
    it. With `workers` 0 all is done in this process, for a debugger.

    Raises what `work` raised: OSError as itself, anything else as WorkerCrash.
    """
    if workers == 0:
        for task in tasks:
            on_done(task, work(task, lambda item, n, task=task: on_tick(task, item, n)))  # type: ignore[misc]
        return
    died: list[Task] = []
    _drive(list(tasks), work, workers, on_tick, on_done, lambda task, item: died.append(task))
    while died:
        task = died.pop(0)

        def again(task: Task, item: int | None) -> None:
            if item is None:
                raise WorkerCrash("a worker process died before it began; is the machine out of memory?")
            died.insert(0, condemn(task, item))

        _drive([task], work, 1, on_tick, on_done, again)


def _drive(tasks, work, workers, on_tick, on_done, on_death) -> None:
    waiting = list(reversed(tasks))
    busy: list[_Worker] = []
    try:
        for _ in range(min(workers, len(waiting))):
            busy.append(_Worker(work))
            busy[-1].give(waiting.pop())
        while busy:
            for pipe in wait([worker.pipe for worker in busy]):
                worker = next(w for w in busy if w.pipe is pipe)
                if _listen(worker, on_tick, on_done, on_death):
                    continue
                alive = worker.process.is_alive() and worker.task is None
                if alive and waiting:
                    worker.give(waiting.pop())
                    continue
                busy.remove(worker)
                worker.end()
                if waiting:
                    busy.append(_Worker(work))
                    busy[-1].give(waiting.pop())
    finally:
        for worker in busy:
            worker.end()


def _listen(worker: _Worker, on_tick, on_done, on_death) -> bool:
    """Take one message of a worker; True while its task goes on."""
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        on_death(worker.task, worker.item)
        return False
    if kind == "tick":
        worker.item = value[0]
        on_tick(worker.task, *value)
        return True
    if kind == "error":
        raise value
    if kind == "bug":
        raise WorkerCrash(value)
    on_done(worker.task, value)
    worker.task = None
    return False


def _serve(pipe: Connection, work: Work) -> None:
    """A worker's life. It ends with its parent: the pipe breaks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends us
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            while True:
                task = pipe.recv()
                pipe.send(("done", work(task, _ticker(pipe))))
        except (EOFError, BrokenPipeError):
            raise
        except MemoryError:
            os._exit(137)  # as if the kernel had killed us: the same retry serves
        except OSError as error:
            pipe.send(("error", OSError(error.errno, error.strerror, error.filename)))
        except Exception:
            pipe.send(("bug", traceback.format_exc()))


def _ticker(pipe: Connection) -> Callable[[int, int], None]:
    """`tick(item, n)`: a new item is told at once, units are gathered to five messages a second."""
    state = {"item": None, "n": 0, "sent": 0.0}

    def tick(item: int, n: int) -> None:
        state["n"] += n  # type: ignore[operator]
        now = time.monotonic()
        if item != state["item"] or now - state["sent"] > TICK_EVERY_S:  # type: ignore[operator]
            pipe.send(("tick", (item, state["n"])))
            state.update(item=item, n=0, sent=now)

    return tick
