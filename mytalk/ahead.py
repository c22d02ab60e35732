"""Work that goes on in threads of its own while its results are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterable[Item], most: int) -> Iterator[Item]:
    """The same items in the same order; up to `most` are made by another thread before they are asked for.

    What making an item raises is raised in its place. When this ends or is closed, the item that is being made is the
    last.
    """
    end, iterator = object(), iter(items)
    thread = ThreadPoolExecutor(1, "ahead")
    try:
        asked = deque(thread.submit(next, iterator, end) for _ in range(most))
        while (item := asked.popleft().result()) is not end:
            asked.append(thread.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)


def together(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """What `work` makes of each item, in order, of so many items at a time. Raises what `work` raises."""
    if threads == 1:
        yield from map(work, items)
        return
    pool, asked = ThreadPoolExecutor(threads, "together"), deque[Future[Result]]()
    try:
        for item in items:
            asked.append(pool.submit(work, item))
            if len(asked) > threads:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
