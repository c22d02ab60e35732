"""The node's cache: what it keeps, what goes first, damage, full disks, writers that are killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from data_pipeline.storage import cache as cache_module
from data_pipeline.storage.cache import BLOCK_BYTES, SUFFIX, UNFINISHED, Cache
from data_pipeline.storage.store import Store
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from tests.helpers.faulty_http import FaultyServer
from tests.helpers.stores import (
    CHUNK,
    content,
    fast,
    on_disk,
    sliced,
)


def test_a_cached_chunk_is_not_requested_again(folder, tmp_path, small_chunks):
    ranges = [("f6", 10, 2 * CHUNK), ("f6", 5 * CHUNK, 77), ("f5", 3 * CHUNK, 2 * CHUNK), ("f0", 0, 9)]
    with FaultyServer(folder) as server:
        for count in range(2):  # another store with another object is another process of the node
            store = fast(server.url, Cache(tmp_path, 10 << 20))
            assert store.read(ranges) == sliced(content(folder), ranges)
            if count == 0:
                gets = [asked for asked in server.asked if asked[0] == "GET"]
                assert len(gets) == 4  # neighbours in one request
                server.asked.clear()
        assert not server.asked
        store.forget([("f6", CHUNK, 1)])
        assert store.read(ranges) == sliced(content(folder), ranges)
        assert server.asked == [("GET", "f6", f"bytes={CHUNK}-{2 * CHUNK - 1}")]


def test_the_least_recently_used_goes_first(folder, tmp_path, small_chunks):
    cache = Cache(tmp_path, 7 * BLOCK_BYTES)  # six chunks and the accounting
    with FaultyServer(folder) as server:
        store = fast(server.url, cache)
        for number in range(5):
            store.read([("f6", number * CHUNK, 1)])
            path = cache.chunk_path((f"{server.url}/f6", number))
            os.utime(path, (time.time() - 1000 + number,) * 2)
        store.read([("f6", 0, 1)])  # the oldest, used again
        for number in range(3):
            store.read([("f5", number * CHUNK, 1)])
        server.asked.clear()
        store.read([("f6", 0, 1)])
        assert not server.asked
        store.read([("f6", CHUNK, 1)])
        assert server.asked


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "longer", "other"])
def test_a_damaged_chunk_is_fetched_again(folder, tmp_path, small_chunks, damage):
    cache = Cache(tmp_path, 10 << 20)
    with FaultyServer(folder) as server:
        store = fast(server.url, cache)
        ranges = [("f6", 0, CHUNK), ("f5", 0, CHUNK)]
        store.read(ranges)
        path, other = (cache.chunk_path((f"{server.url}/{name}", 0)) for name in ("f6", "f5"))
        data = path.read_bytes()
        flipped = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        made = {"truncated": data[:-50], "emptied": b"", "flipped": flipped, "longer": data + b"x"}
        path.write_bytes(made.get(damage, other.read_bytes()))
        server.asked.clear()
        assert store.read(ranges) == sliced(content(folder), ranges)
        assert len(server.asked) == 1
        assert store.read(ranges) == sliced(content(folder), ranges)
        assert len(server.asked) == 1


def test_a_cache_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="give it at least"):
        Cache(tmp_path, 2 << 20)


def hammer(url: str, cache_folder: str, limit: int, held: dict[str, bytes], seed: int, seconds: float) -> None:
    """A process that reads at random through the cache; exits 1 where a byte is wrong."""
    cache_module.CHUNK_BYTES = CHUNK
    store, random = Store(url, Cache(cache_folder, limit), wait_s=0.01), np.random.default_rng(seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        names = random.choice(["f2", "f4", "f5", "f6"], 3)
        ranges = [(str(n), int(random.integers(0, 5 * CHUNK)), int(random.integers(1, 2 * CHUNK))) for n in names]
        if store.read(ranges) != sliced(held, ranges):
            os._exit(1)


def test_two_processes_share_a_tiny_cache(folder, tmp_path):
    limit, context = 6 * BLOCK_BYTES, multiprocessing.get_context("spawn")
    with FaultyServer(folder) as server:
        arguments = (server.url, str(tmp_path), limit, content(folder))
        workers = [context.Process(target=hammer, args=(*arguments, seed, 2.0)) for seed in range(2)]
        for worker in workers:
            worker.start()
        samples = 0
        while any(worker.is_alive() for worker in workers):
            total, names = on_disk(tmp_path), sorted(os.listdir(tmp_path))
            if (on_disk(tmp_path), sorted(os.listdir(tmp_path))) == (total, names):  # nothing moved while it was summed
                samples += bool(total)
                assert total <= limit, names
            time.sleep(0.001)
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert samples > 50
        assert any(name.endswith(SUFFIX) for name in os.listdir(tmp_path))


def test_killed_writers_leave_nothing_wrong(folder, tmp_path, small_chunks):
    limit, context = 6 * BLOCK_BYTES, multiprocessing.get_context("fork")
    ranges = [("f6", 0, 5 * CHUNK + 77), ("f5", 100, 3 * CHUNK)]
    with FaultyServer(folder) as server:
        for seed in range(12):
            worker = context.Process(target=hammer, args=(server.url, tmp_path, limit, content(folder), seed, 60))
            worker.start()
            deadline = time.monotonic() + 10
            while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.05 + 0.013 * seed)
            assert worker.exitcode is None
            os.kill(worker.pid, signal.SIGKILL)
            worker.join(10)
            assert on_disk(tmp_path) <= limit
        assert fast(server.url, Cache(tmp_path, limit)).read(ranges) == sliced(content(folder), ranges)
        assert on_disk(tmp_path) <= limit


def test_the_file_of_a_killed_writer_is_overwritten(folder, tmp_path, small_chunks):
    """Killed between writing a chunk and giving it its name, with the lock in its hands."""
    limit = 6 * BLOCK_BYTES

    def stop_before_renaming(url: str) -> None:
        os.replace = lambda *_: time.sleep(60)
        fast(url, Cache(tmp_path, limit)).read([("f6", 0, 1)])

    with FaultyServer(folder) as server:
        worker = multiprocessing.get_context("fork").Process(target=stop_before_renaming, args=(server.url,))
        worker.start()
        left, deadline = tmp_path / UNFINISHED, time.monotonic() + 10
        while not left.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.1)
        reader = fast(server.url, Cache(tmp_path, limit))
        started = time.monotonic()
        assert reader.read([("f5", 0, 9)]) == [content(folder)["f5"][:9]]  # the lock is held: goes on without
        assert time.monotonic() - started < 5
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(10)
        assert left.exists()
        ranges = [("f6", 0, 5 * CHUNK), ("f5", 0, 3 * CHUNK)]
        assert reader.read(ranges) == sliced(content(folder), ranges)
        assert not left.exists()
        assert on_disk(tmp_path) <= limit


def test_a_full_disk_does_not_stop_reading(folder, tmp_path):
    """A process that may write no large file: the write of a chunk fails as on a full disk."""
    program = (
        "import resource, sys, warnings\n"
        "from data_pipeline.storage.cache import Cache\n"
        "from data_pipeline.storage.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "store = Store(sys.argv[1], Cache(sys.argv[2], 10 << 20))\n"
        "for offset in (5, 700, 5):\n"
        "    assert store.read([('f6', offset, 12_000)]) == [open(sys.argv[3], 'rb').read()[offset:][:12_000]]\n"
    )
    with FaultyServer(folder) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url, str(tmp_path), str(folder / "f6")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(f"cache {tmp_path}: File too large; reading continues without it") == 1
        assert [path.name for path in tmp_path.iterdir()] == [cache_module.USAGE]
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2000


@pytest.mark.parametrize("why", ["a file in its place", "no space", "read-only"])
def test_an_unusable_cache_folder_does_not_stop_reading(folder, tmp_path, monkeypatch, why):
    cache = Cache(tmp_path / "cache", 10 << 20)
    if why == "a file in its place":
        cache.folder.write_text("in the way")
    else:
        number = errno.ENOSPC if why == "no space" else errno.EROFS
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with FaultyServer(folder) as server, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        store = fast(server.url, cache)
        for _ in range(3):
            assert store.read([("f6", 5, 500)]) == [content(folder)["f6"][5:505]]
        store.forget([("f6", 5, 500)])
        said = [str(warning.message) for warning in said if "cache" in str(warning.message)]
        assert len(said) == 1
        assert str(cache.folder) in said[0]
        assert len(server.asked) >= 3
