"""Worker processes that may die or hang: one task at a time each, and a failure costs only the item that caused it.

`multiprocessing.Pool` loses the task of a killed worker and waits for ever; `concurrent.futures` breaks the
whole run. Videos from the wild do crash decoders, fill memory and never end, so neither will do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from mytalk.command import RunAgain, UserError

TICK_EVERY_S = 0.2
LOOK_EVERY_S = 1.0  # at the clocks of the workers
END_S = 5.0  # a worker has so long to end by SIGTERM
WORKER_DIED, OUT_OF_MEMORY, TIMEOUT, BUG = "worker_died", "out_of_memory", "timeout", "bug"
# Read by numerical libraries when they are loaded, that is in the new process.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Task = TypeVar("Task")
Work = Callable[[Any, Callable[[int, int], None]], Any]  # work(task, tick) -> result


class WorkerCrash(RuntimeError):
    """A worker ran into a bug of ours; its traceback is the message."""


@dataclass(frozen=True)
class Failure:
    """Why an item failed: a short snake_case code for ledgers, and a message."""

    cause: str
    message: str


class ItemFailed(Exception):
    """Raised by work where the item it is at cannot be done now: its task is tried again at the end."""

    def __init__(self, cause: str, message: str):
        super().__init__(message)
        self.failure = Failure(cause, message)


@dataclass(frozen=True)
class TimeLimits:
    """How long a worker may be silent, and how long one item may take, before it is killed."""

    idle_s: float = float("inf")
    item_s: float = float("inf")


@dataclass(frozen=True)
class Hooks(Generic[Task]):
    """What the process that runs the pool does meanwhile.

    `on_done(task, result)`. `on_tick(task, item, n)` as the worker says it. `on_failed(task, item, failure)` at each
    failure; what it raises ends the run. `condemn(task, item, failure)` gives the task without an item that failed for
    good; without it such a failure ends the run with UserError. `set_aside(task, failure)` takes a task that ran into a
    bug of ours twice, the failure's message is the traceback; without it the first time ends the run with WorkerCrash.
    """

    on_done: Callable[[Task, Any], None]
    on_tick: Callable[[Task, int, int], None] = lambda task, item, n: None
    on_failed: Callable[[Task, int, Failure], None] = lambda task, item, failure: None
    condemn: Callable[[Task, int, Failure], Task] | None = None
    set_aside: Callable[[Task, Failure], None] | None = None


def run(tasks: Iterable[Task], work: Work, workers: int, hooks: Hooks[Task], limits: TimeLimits | None = None) -> None:
    """Do `work` on every task in `workers` processes. A task is taken from `tasks` when a worker is free to do it.

    `work` says through `tick(item, n)` which item of its task it is at, and that n more units are done. An item that
    is over the time limits is condemned at once and its worker replaced. A task whose worker dies, has no memory left
    or raises ItemFailed is done again at the end, alone on the machine (others may have taken the memory, storage may
    be back); an item that fails then is condemned. With `workers` 0 all is done in this process, for a debugger, and
    nothing is killed.

    Raises what `work` raised: OSError, ImportError and UserError as themselves, anything else as WorkerCrash; RunAgain
    where a worker dies or hangs twice before it begins an item.
    """
    again: list[Task] = []

    def later(task: Task, item: int | None, failure: Failure) -> Task | None:
        if failure.cause == BUG and hooks.set_aside is None:
            raise WorkerCrash(failure.message)
        if item is not None and failure.cause != BUG:
            hooks.on_failed(task, item, failure)
            if failure.cause == TIMEOUT:
                return _condemned(hooks, task, item, failure)
        again.append(task)
        return None

    def at_once(task: Task, item: int | None, failure: Failure) -> Task | None:
        if failure.cause == BUG and hooks.set_aside is None:
            raise WorkerCrash(failure.message)
        if failure.cause == BUG and hooks.set_aside is not None:
            hooks.set_aside(task, failure)
            return None
        if item is None:
            raise RunAgain("a worker process died or hung before it began; is the machine out of memory?")
        hooks.on_failed(task, item, failure)
        return _condemned(hooks, task, item, failure)

    drive = _drive_here if workers == 0 else _drive
    drive(_Queue(iter(tasks)), work, workers, hooks, limits or TimeLimits(), later)
    for task in again:
        drive(_Queue(iter([task])), work, min(workers, 1), hooks, limits or TimeLimits(), at_once)


def _condemned(hooks: Hooks[Task], task: Task, item: int, failure: Failure) -> Task:
    if hooks.condemn is None:
        raise UserError(f"{failure.message}; type the same command again, with fewer --workers")
    return hooks.condemn(task, item, failure)


# What becomes of a task whose item failed: the task to do next in its place, or None.
OnFailure = Callable[[Any, "int | None", Failure], Any]


class _Queue:
    """Tasks as they are asked for, those that were put back first."""

    def __init__(self, tasks: Iterator[Any]):
        self.tasks, self.returned = tasks, list[Any]()

    def take(self) -> Any:
        """The next task; None: there is no more."""
        return self.returned.pop() if self.returned else next(self.tasks, None)

    def put_back(self, task: Any) -> None:
        """Do this one next; None: nothing."""
        if task is not None:
            self.returned.append(task)


class Worker:
    """A process, the task it has, the item of that task it last said it was at, and its clocks."""

    def __init__(self, work: Work):
        for name, value in ONE_THREAD.items():
            os.environ.setdefault(name, value)
        context = multiprocessing.get_context("spawn")  # a fork would copy threads of the decoders
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.task: Any = None
        self.item: int | None = None
        self.idle_s = self.item_s = 0.0

    def give(self, task: Any) -> None:
        self.task, self.item = task, None
        self.idle_s = self.item_s = 0.0
        self.pipe.send(task)

    def heard(self, item: int) -> None:
        """Set the clocks back."""
        self.idle_s = 0.0
        if item != self.item:
            self.item, self.item_s = item, 0.0

    def overdue(self, passed_s: float, limits: TimeLimits) -> Failure | None:
        """Move the clocks on; the failure of an item, or of a worker without one yet, that is over the limits."""
        self.idle_s, self.item_s = self.idle_s + passed_s, self.item_s + passed_s
        if self.idle_s > limits.idle_s:
            if self.item is None:
                return Failure(TIMEOUT, f"it did not begin its work in {limits.idle_s:g} s")
            return Failure(TIMEOUT, f"nothing was decoded for {limits.idle_s:g} s")
        if self.item is not None and self.item_s > limits.item_s:
            return Failure(TIMEOUT, f"it takes longer than {limits.item_s:g} s")
        return None

    def end(self) -> None:
        """End the process, if it can be ended: one that waits for a dead disk cannot."""
        self.process.terminate()
        self.process.join(END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(END_S)
        self.pipe.close()


def _drive_here(queue: _Queue, work, workers, hooks: Hooks, limits, on_failure: OnFailure) -> None:
    item: int | None
    while (task := queue.take()) is not None:
        item = None

        def tick(at: int, n: int, task=task) -> None:
            nonlocal item
            item = at
            hooks.on_tick(task, at, n)

        try:
            result = work(task, tick)
        except (MemoryError, ItemFailed) as error:
            queue.put_back(on_failure(task, item, _failure(error)))
        except (OSError, ImportError, UserError):
            raise
        except Exception as error:
            if hooks.set_aside is None:
                raise
            queue.put_back(on_failure(task, item, Failure(BUG, "".join(traceback.format_exception(error)))))
        else:
            hooks.on_done(task, result)


def _drive(queue: _Queue, work, workers, hooks: Hooks, limits: TimeLimits, on_failure: OnFailure) -> None:
    busy: list[Worker] = []
    looked_at = time.monotonic()
    try:
        while True:
            while len(busy) < workers and (task := queue.take()) is not None:
                busy.append(Worker(work))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: _listen hears of it
                    busy[-1].give(task)
            if not busy:
                return
            for pipe in wait([worker.pipe for worker in busy], LOOK_EVERY_S):
                worker = next(w for w in busy if w.pipe is pipe)
                if failure := _listen(worker, hooks):
                    queue.put_back(on_failure(worker.task, worker.item, failure))
                    worker.task = None
                if worker.task is None:
                    _next(worker, busy, queue)
            now = time.monotonic()
            passed_s, looked_at = min(now - looked_at, 2 * LOOK_EVERY_S), now  # more: the job was stopped for a while
            for worker in list(busy):
                if failure := worker.overdue(passed_s, limits):
                    busy.remove(worker)
                    worker.end()
                    queue.put_back(on_failure(worker.task, worker.item, failure))
    finally:
        for worker in busy:
            worker.end()


def _next(worker: Worker, busy: list[Worker], queue: _Queue) -> None:
    """Give a worker its next task; one that is dead or out of work leaves."""
    if worker.process.is_alive() and (task := queue.take()) is not None:
        try:
            worker.give(task)
            return
        except (BrokenPipeError, ConnectionResetError):  # it ended at this moment
            queue.put_back(task)
    busy.remove(worker)
    worker.end()


def _listen(worker: Worker, hooks: Hooks) -> Failure | None:
    """Take one message of a worker, which has no task once it is done; returns why its item failed."""
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, OSError):  # OSError: it was killed in the middle of a message
        worker.process.join(END_S)
        return Failure(WORKER_DIED, f"its worker process died (exit code {worker.process.exitcode})")
    if kind == "tick":
        worker.heard(value[0])
        hooks.on_tick(worker.task, *value)
    elif kind == "failed":
        return value
    elif kind == "error":
        raise value
    elif kind == "bug":
        return Failure(BUG, value)
    else:
        hooks.on_done(worker.task, value)
        worker.task = None
    return None


def _serve(pipe: Connection, work: Work) -> None:
    """A worker's life. It ends with its parent, whatever it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(_answer(work, pipe.recv(), pipe))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _answer(work: Work, task: Any, pipe: Connection) -> tuple[str, Any]:
    """Do a task; returns the message that says how it ended. Raises BrokenPipeError where the parent is gone."""
    tick, flush = _ticker(pipe)
    try:
        result = work(task, tick)
        flush()
        return "done", result
    except (MemoryError, ItemFailed) as error:
        return "failed", _failure(error)
    except BrokenPipeError:
        raise
    except RunAgain as error:
        return "error", error
    except OSError as error:
        return "error", OSError(error.errno, error.strerror or str(error), error.filename)
    except ImportError as error:
        return "error", ModuleNotFoundError(str(error), name=error.name)
    except UserError as error:
        return "error", error
    except Exception:
        return "bug", traceback.format_exc()


def _failure(error: MemoryError | ItemFailed) -> Failure:
    if isinstance(error, ItemFailed):
        return error.failure
    return Failure(OUT_OF_MEMORY, "it needs more memory than there is")


def _ticker(pipe: Connection) -> tuple[Callable[[int, int], None], Callable[[], None]]:
    """`tick(item, n)`: a new item is told at once, units are gathered to five messages a second; `flush()` them."""
    at, units, sent_s = -1, 0, 0.0

    def tick(item: int, n: int) -> None:
        nonlocal at, units, sent_s
        units += n
        now = time.monotonic()
        if item != at or now - sent_s > TICK_EVERY_S:
            pipe.send(("tick", (item, units)))
            at, units, sent_s = item, 0, now

    def flush() -> None:
        if units:
            pipe.send(("tick", (at, units)))

    return tick, flush
