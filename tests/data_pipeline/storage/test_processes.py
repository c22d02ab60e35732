"""A store in forked and spawned processes, and its files on this machine."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fsspec.implementations.http import HTTPFileSystem

from data_pipeline.storage.cache import Cache
from data_pipeline.storage.store import Store, Unreachable
from tests.helpers.faulty_http import FaultyServer
from tests.helpers.stores import (
    CHUNK,
    content,
    fast,
    sliced,
)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_stale_local_file_is_opened_anew(folder, monkeypatch, number):
    store, opened, pread, broken = fast(folder), [], os.pread, []
    assert store.read([("f6", 0, 5)])

    def stale(descriptor, *rest):
        if descriptor not in opened:  # the one from before
            broken.append(descriptor)
            raise OSError(number, "stale")
        return pread(descriptor, *rest)

    real = os.open
    monkeypatch.setattr(os, "open", lambda *rest: opened.append(real(*rest)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda descriptor: None)  # left open, so that the number is not given again
    monkeypatch.setattr(os, "pread", stale)
    assert store.read([("f6", 3, 50)]) == [content_of(folder, "f6")[3:53]]
    assert len(broken) == 1
    monkeypatch.undo()
    os.close(broken[0])
    monkeypatch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(number, "stale")))
    with pytest.raises(Unreachable, match=r"f6: not read in 2 tries .*; the same command continues"):
        fast(folder, tries=2).read([("f6", 3, 50)])


def content_of(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def test_forget_opens_local_files_anew(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "f").write_bytes(b"damaged")
    assert store.read([("f", 0, 7)]) == [b"damaged"]
    (tmp_path / "new").write_bytes(b"mended!")
    os.replace(tmp_path / "new", tmp_path / "f")
    store.forget([("f", 0, 7)])
    assert store.read([("f", 0, 7)]) == [b"mended!"]


def test_few_files_stay_open(tmp_path):
    for number in range(80):
        (tmp_path / str(number)).write_bytes(b"%d" % number)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def read() -> int:
        assert Store(tmp_path).read([(str(n), 0, 9) for n in range(80)]) == [b"%d" % n for n in range(80)]
        return descriptors()

    before = descriptors()
    with ThreadPoolExecutor(1) as thread:  # which opens files of its own
        assert thread.submit(read).result() - before <= 66
    assert descriptors() - before <= 2, "the files of a thread that ended are closed"


def in_child(store: Store, folder: Path, answers) -> None:
    ranges = [("f6", 5, 500), ("f5", 11_000, 5000)]
    answers.put(store.read(ranges) == sliced(content(folder), ranges) and store.size("f6") == 5 * CHUNK + 77)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("remote", [False, True])
def test_children_go_on_with_the_parents_store(folder, method, remote):
    """And the parent after them: a child that closed inherited connections would disturb it."""
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    with FaultyServer(folder) as server:
        store = fast(server.url if remote else folder, timeout_s=5)
        ranges = [("f6", 5, 500)] * 3
        assert store.read(ranges) == sliced(content(folder), ranges)
        children = [context.Process(target=in_child, args=(store, folder, answers)) for _ in range(2)]
        for child in children:
            child.start()
        for _ in range(5):
            assert store.read(ranges) == sliced(content(folder), ranges)
        assert [answers.get(timeout=30) for _ in children] == [True, True]
        for child in children:
            child.join(10)
            assert child.exitcode == 0
        assert store.read(ranges) == sliced(content(folder), ranges)
        del store


def test_a_child_that_drops_the_store_leaves_the_parents_connections_alone(folder):
    """The event loop's epoll is shared with the parent: what a child unregisters is unregistered there."""
    with FaultyServer(folder) as server:
        stores, ranges = [fast(server.url, tries=1)], [("f6", 5 * place, 50) for place in range(8)]

        def clients() -> int:
            gc.collect()
            return sum(isinstance(one, HTTPFileSystem) for one in gc.get_objects())

        def drop() -> None:
            held = clients()
            stores.clear()
            os._exit(0 if clients() == held > 0 else 3)

        for _ in range(3):
            assert stores[0].read(ranges) == sliced(content(folder), ranges)
            child = multiprocessing.get_context("fork").Process(target=drop)
            child.start()
            child.join(20)
            assert child.exitcode == 0


def test_short_preads_are_continued(folder, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 700), offset))
    assert Store(folder).read([("f6", 5, 5000)]) == [content(folder)["f6"][5:5005]]


def test_a_store_is_pickled_without_its_handles(folder, tmp_path):
    with FaultyServer(folder) as server:
        store = fast(server.url, Cache(tmp_path, 10 << 20), tries=7)
        store.read([("f6", 0, 9)])
        again = pickle.loads(pickle.dumps(store))  # noqa: S301 - what this test just made
        assert again.read([("f6", 0, 9)]) == store.read([("f6", 0, 9)])
        assert (again.tries, again.root, again.cache.folder) == (7, store.root, tmp_path)
