"""Work spread over processes that each keep to one core, and that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mytalk.command import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Read by numerical libraries when they are loaded, that is in the new process.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def map_unordered(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Yield work(item) of every item as it is finished, from `workers` spawned processes.

    The first exception ends the map: what has not begun is dropped, and the exception is raised here.
    Raises UserError when a process was killed.
    """
    import cv2  # noqa: F401  (without it every worker would die at its start, for no reason given)

    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), context, _prepare)
    try:
        for future in as_completed([pool.submit(work, item) for item in items]):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; type the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare() -> None:
    """In a new worker: one thread for OpenCV, Ctrl-C left to the parent, and no life after the parent's."""
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
