"""Work that goes on in a thread of its own while its results are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


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
