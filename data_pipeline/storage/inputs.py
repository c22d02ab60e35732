"""Remote files brought to the local disk before they are needed: one at work, one read ahead, of bounded size.

A file comes in pieces through a Store, so each piece is exact or tried again.
"""

from __future__ import annotations

import concurrent.futures
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from data_pipeline.storage.store import Store
from mytalk import atomic

PIECE_BYTES = 8 << 20
WAIT_S = 1.0  # from one sign of life to the next
REMOTE = "remote-"  # names of the folders in which remote files lie begin so, behind the temporary prefix
Files = list[tuple[str, str]]  # (root, name) of the files of one item; a root without :// is a folder


def is_remote(place: str | os.PathLike) -> bool:
    """Whether a place is a URL."""
    return "://" in str(place)


class TooLarge(Exception):
    """A file does not fit into what the local disk may hold. The message says so."""


def bring(store: Store, name: str, path: Path, works: Callable[[], None], limit_bytes: int) -> int:
    """Copy a remote file to `path`; its size. `works` is called at each piece.

    Raises what the Store raises, OSError of the local disk, and TooLarge above `limit_bytes`.
    """
    size = store.size(name)
    if size > limit_bytes:
        raise TooLarge(f"it has {size / 1e9:.2f} GB and there is room for {limit_bytes / 1e9:.2f}; raise --scratch-gb")
    with open(path, "wb") as handle:
        for at in range(0, size, PIECE_BYTES):
            works()
            handle.write(store.read([(name, at, min(PIECE_BYTES, size - at))])[0])
    return size


class Ahead:
    """The files of items, in order, each on the local disk while its item is at work.

    Remote ones lie in `folder` under temporary names, at most `limit_bytes` together: what would not fit beside the
    item at work is fetched after it. A context that leaves nothing behind.
    """

    def __init__(self, folder: Path, items: Sequence[Files], limit_bytes: int):
        self.items, self.limit_bytes = items, limit_bytes
        self.folder = folder
        if any(map(_any_remote, items)):
            mine = f"{atomic.TEMPORARY}{atomic.MACHINE}-{os.getpid()}-{REMOTE}"
            self.folder = Path(tempfile.mkdtemp(prefix=mine, dir=folder))
        self.own = self.folder != folder
        self._ready: dict[int, Future[list[Path]]] = {}
        self._store_of: dict[str, Store] = {}
        self._stopped = False

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for future in self._ready.values():
            future.exception()  # it stops at its next piece
        if self.own:
            shutil.rmtree(self.folder)

    def files(self, item: int, works: Callable[[], None]) -> list[Path]:
        """The paths of an item's files; the files of the items before are gone. Raises as `bring`.

        `works` is called while it waits.
        """
        for earlier in [number for number in self._ready if number < item]:
            self._ready.pop(earlier).exception()
            self._remove(earlier)
        future = self._waited_for(self._ready.get(item) or self._start(item, self.limit_bytes), works)
        if isinstance(future.exception(), TooLarge):  # beside the item before it, perhaps, and not alone
            future = self._waited_for(self._start(item, self.limit_bytes), works)
        paths = future.result()
        used = sum(path.stat().st_size for path in paths if self.own and path.parent == self.folder)
        if item + 1 < len(self.items) and item + 1 not in self._ready and used < self.limit_bytes:
            self._start(item + 1, self.limit_bytes - used)
        return paths

    def _waited_for(self, future: Future[list[Path]], works: Callable[[], None]) -> Future[list[Path]]:
        while not future.done():
            works()
            concurrent.futures.wait([future], WAIT_S)
        return future

    def _start(self, item: int, room_bytes: int) -> Future[list[Path]]:
        """Fetch an item's files in a thread, if any is remote; one that is larger than its room is asked for again."""
        future: Future[list[Path]] = Future()
        if not _any_remote(self.items[item]):
            future.set_result([Path(root, name) for root, name in self.items[item]])
            return future

        def fetch() -> None:
            try:
                future.set_result(list(self._fetched(item, room_bytes)))
            except Exception as error:
                self._remove(item)
                future.set_exception(error)

        self._ready[item] = future
        threading.Thread(target=fetch, daemon=True).start()
        return future

    def _fetched(self, item: int, room_bytes: int) -> Iterator[Path]:
        for number, (root, name) in enumerate(self.items[item]):
            if not (is_remote(root) or is_remote(name)):
                yield Path(root, name)
                continue
            store = self._store_of.setdefault(root, Store(root))
            suffix = Path(name.partition("?")[0]).suffix[:12]
            path = self.folder / f"{item}-{number}{suffix}"
            room_bytes -= bring(store, name, path, self._go_on, room_bytes)
            yield path

    def _go_on(self) -> None:
        if self._stopped:
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))

    def _remove(self, item: int) -> None:
        for path in [] if not self.own else self.folder.glob(f"{item}-*"):
            path.unlink(missing_ok=True)


def _any_remote(files: Files) -> bool:
    return any(is_remote(root) or is_remote(name) for root, name in files)
