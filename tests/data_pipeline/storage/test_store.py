"""Ranges of files, local and remote, are exact bytes under faults, with and without the cache."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.http import HTTPFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.storage import cache as cache_module
from data_pipeline.storage.cache import BLOCK_BYTES, SUFFIX, UNFINISHED, Cache
from data_pipeline.storage.faults import without_secrets
from data_pipeline.storage.store import Store, Unreachable
from mytalk.command import UserError, one_line
from tests.helpers.checkout import ROOT
from tests.helpers.faulty_http import FaultyServer

CHUNK = 3000  # bytes, so that small files have several chunks
FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def fast(root, cache=None, **more) -> Store:
    """A store that loses no time over faults."""
    return Store(root, cache, **{"wait_s": 0.005, "timeout_s": 10, **more})


def patience(fault) -> dict[str, float]:
    """Settings of a store that is to meet a fault: where the server falls silent, it loses no time over that either."""
    return {"timeout_s": 0.4} if fault in ("stall", "silent") else {}


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def sliced(held: dict[str, bytes], ranges) -> list[bytes]:
    return [held[name][offset : offset + size] for name, offset, size in ranges]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK_BYTES", CHUNK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files of awkward sizes: none, one byte, whole chunks, a byte more or less."""
    made = tmp_path_factory.mktemp("files")
    for seed, size in enumerate([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 5 * CHUNK + 77]):
        (made / f"f{seed}").write_bytes(noise(seed, size))
    (made / "a b#c%.tar").write_bytes(noise(99, 500))
    return made


RANGES = st.lists(
    st.tuples(
        st.sampled_from(["f0", "f1", "f2", "f3", "f4", "f5", "f6", "a b#c%.tar"]),
        st.one_of(st.integers(0, 6 * CHUNK), st.sampled_from([0, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK])),
        st.one_of(st.integers(0, 3 * CHUNK), st.sampled_from([0, 1, CHUNK, 2 * CHUNK])),
    ),
    max_size=40,
)


@given(ranges=RANGES)
@FEW
def test_local_ranges_are_slices(folder, ranges):
    assert Store(folder).read(ranges) == sliced(content(folder), ranges)


@given(ranges=RANGES)
@FEW
def test_remote_ranges_are_slices(folder, ranges):
    with FaultyServer(folder) as server:
        assert fast(server.url).read(ranges) == sliced(content(folder), ranges)


@given(batches=st.lists(RANGES, min_size=1, max_size=3), limit=st.integers(4, 12))
@FEW
def test_cached_ranges_are_slices(folder, tmp_path, small_chunks, batches, limit):
    """With faults as well, and a cache that often has no room."""
    faults = iter([503, "cut", "ok", "short", "ok", "shift", 500] * 3)
    cache = Cache(tempfile.mkdtemp(dir=tmp_path), (limit + 1) * BLOCK_BYTES)
    with FaultyServer(folder, faults) as server:
        store = fast(server.url, cache, tries=30)
        for ranges in batches * 2:
            assert store.read(ranges) == sliced(content(folder), ranges)
            assert on_disk(cache.folder) <= cache.limit_bytes


def on_disk(folder: Path) -> int:
    total = 0
    for entry in os.scandir(folder) if folder.exists() else ():
        try:
            total += -(-entry.stat().st_size // BLOCK_BYTES) * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total


def test_an_absolute_path_and_a_url_name_files_elsewhere(folder, tmp_path):
    held = content(folder)
    with FaultyServer(folder) as server:
        for root in (tmp_path, server.url, f"{server.url}/"):
            assert fast(root).read([(f"{server.url}/f5", 9, 20)]) == [held["f5"][9:29]]
        assert fast(tmp_path).read([(str(folder / "f6"), 3, 50)]) == [held["f6"][3:53]]
    assert Store(tmp_path).local
    assert not Store("s3://b/c").local


@pytest.mark.parametrize("remote", [False, True])
def test_whole_size_and_exists(folder, remote):
    with FaultyServer(folder) as server:
        store = fast(server.url if remote else folder)
        for name, data in content(folder).items():
            assert (store.whole(name), store.size(name), store.exists(name)) == (data, len(data), True)
        assert not store.exists("none")
        for act in (store.whole, store.size, lambda name: store.read([("f5", 0, 9), (name, 0, 1)])):
            server.asked.clear()
            with pytest.raises(FileNotFoundError) as raised:
                act("none")
            assert "none" in one_line(raised.value)
            assert len(server.asked) <= 3  # not tried again (fsspec asks by HEAD, then by GET)


FAULTS = [500, 503, 429, "cut", "short", "shift", "stall", "silent"]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_tried_again(folder, fault):
    """The first request of each kind fails twice; a range beyond the end needs the size as well."""
    ranges = [("f6", 10, 2000), ("f5", 7, 900), ("f5", 11_900, 900), ("f5", 90_000, 9)]
    with FaultyServer(folder, ["ok", fault, fault, "ok", fault]) as server:
        assert fast(server.url, tries=9, **patience(fault)).read(ranges) == sliced(content(folder), ranges)
        assert not server.faults
    for ask in (lambda store: store.whole("f6"), lambda store: noise(6, store.size("f6"))):
        with FaultyServer(folder, [fault, fault] if fault not in ("short", "shift") else []) as server:
            assert ask(fast(server.url, **patience(fault))) == content(folder)["f6"]
    with FaultyServer(folder, [fault] * 2 if isinstance(fault, int) else []) as server:
        assert fast(server.url).exists("f6")  # a server in trouble does not make a file missing


def test_only_what_failed_is_asked_again(folder):
    with FaultyServer(folder, ["ok", 500]) as server:
        fast(server.url).read([("f6", place * 10, 10) for place in range(20)])
        assert len(server.asked) == 21


def test_ranges_are_asked_in_parallel(folder):
    """The server answers none before it was asked for all."""
    together = threading.Barrier(8)

    def wait(method: str, path: str) -> str:
        together.wait(timeout=10)
        return "ok"

    with FaultyServer(folder, wait) as server:
        ranges = [("f6", place * 10, 10) for place in range(8)]
        assert fast(server.url, timeout_s=15).read(ranges) == sliced(content(folder), ranges)


@pytest.mark.parametrize("fault", [500, "cut", "stall", "short", "shift", "refused"])
def test_a_lasting_fault_is_unreachable_in_one_line(folder, fault):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        with FaultyServer(folder, lambda method, path: fault if method == "GET" else "ok") as server:
            root = f"http://127.0.0.1:{unused.getsockname()[1]}" if fault == "refused" else server.url
            root = root.replace("http://", "http://user:hidden@") + "?sig=secret"
            acts = [lambda store: store.read([("f6", 5, 500)])]
            if fault in (500, "refused"):
                server.faults = lambda method, path: 500
                acts += [lambda store: store.size("f6"), lambda store: store.whole("f6")]
                acts += [lambda store: store.exists("f6")]
            for act in acts:
                with pytest.raises(Unreachable) as raised:
                    act(fast(root, tries=2, timeout_s=0.2))
                said = one_line(raised.value)
                assert "/f6: " in said
                assert said.endswith("; the same command continues when it can be reached")
                assert "\n" not in str(raised.value)
                assert not {"hidden", "secret", "user"} & set(said.replace("@", "/").replace("=", "/").split("/"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_forbidden_file_is_an_error_at_once(folder, status):
    with FaultyServer(folder, lambda method, path: status) as server:
        for act in (lambda s: s.read([("f6", 5, 500)]), lambda s: s.size("f6"), lambda s: s.exists("f6")):
            with pytest.raises(PermissionError):
                act(fast(server.url, wait_s=60))


@pytest.mark.parametrize("cached", [False, True])
def test_a_server_without_ranges_is_refused(folder, tmp_path, cached):
    """Also where the whole file is just as long as what was asked for."""
    size = 5 * CHUNK + 77
    cache = Cache(tmp_path / "c", 10 << 20) if cached else None
    for ranges in ([("f6", 50, 100)], [("f6", 50, size)], [("f6", 50, 10 * size)]):
        with FaultyServer(folder, lambda method, path: "whole") as server:
            if cached:  # chunks are asked from byte 0: make it a later one
                ranges = [("f6", cache_module.CHUNK_BYTES + 5, 9)]
            with pytest.raises(UserError, match="serves no byte ranges") as raised:
                fast(server.url, cache).read(ranges)
            assert "\n" not in str(raised.value)


def test_a_server_without_ranges_is_refused_by_length_where_the_client_hides_the_status(monkeypatch):
    """As s3fs does, which shows neither status nor headers."""
    store = fast("memory://whole")
    MemoryFileSystem().pipe("/whole/f", b"0123456789")
    assert store.read([("f", 2, 3), ("f", 8, 9), ("f", 10, 1)]) == [b"234", b"89", b""]
    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", lambda self, paths, *_, **__: [b"0123456789"] * len(paths))
    for ranges in ([("f", 2, 3)], [("f", 5, 50)]):
        with pytest.raises(UserError, match="serves no byte ranges"):
            store.read(ranges)
    with pytest.raises(FileNotFoundError):
        store.size("none")


def test_no_credentials_in_messages(monkeypatch):
    said = without_secrets("at https://me:p@ss@host/a/b.tar?X-Sig=abc&d=e, 'http://u:p@h/x?y=z' (s3://b/k)")
    assert said == "at https://host/a/b.tar 'http://h/x (s3://b/k)"  # to the end of the word, whatever it holds

    def fail(*_, **__):
        raise ValueError("no answer from http://me:pass@h/x?sig=1")

    monkeypatch.setattr(MemoryFileSystem, "info", fail)
    with pytest.raises(Unreachable, match=r"memory://a/f: .*\(ValueError: no answer from http://h/x\)"):
        fast("memory://a", tries=1).size("f")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UserError, match="nonsense"):
        fast("nonsense://x").size("f")


def test_a_missing_package_is_an_error_that_names_what_to_install():
    program = (
        "import sys\n"
        "sys.modules['aiohttp'] = None\n"
        "from data_pipeline.storage.store import Store\n"
        "from mytalk.command import one_line\n"
        "try:\n"
        "    Store('http://127.0.0.1:9').size('f')\n"
        "except ModuleNotFoundError as error:\n"
        "    print(one_line(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ".[remote]" in done.stdout, done.stderr


# Local files.


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


# The cache.


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


# Processes.


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


# S3.


@pytest.fixture
def credentials(monkeypatch):
    names = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_s3_ranges_are_slices(folder, tmp_path, credentials):
    """Against moto, which speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        credentials.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for name, data in content(folder).items():
            client.put_object(Bucket="bucket", Key=f"some/shards/{name}", Body=data)
        ranges = [("f6", 10, 2000), ("f5", 11_900, 900), ("f5", 90_000, 9), ("f0", 0, 5), ("a b#c%.tar", 3, 9)] * 5
        for cache in (None, Cache(tmp_path, 10 << 20)):
            store = Store("s3://bucket/some/shards", cache)
            assert store.read(ranges) == sliced(content(folder), ranges)
            assert store.whole("f6") == content(folder)["f6"]
            assert (store.size("f6"), store.exists("f5"), store.exists("none")) == (5 * CHUNK + 77, True, False)
            assert not store.exists("")  # a folder is no file
            for act in (store.whole, store.size, lambda name, store=store: store.read([(name, 0, 1)])):
                with pytest.raises(FileNotFoundError):
                    act("none")
    finally:
        server.stop()


@pytest.mark.parametrize("fault", [500, 503, "cut", "short", "stall"])
def test_s3_faults_are_tried_again(tmp_path, credentials, fault):
    """A ranged GetObject by path is a plain GET: the faulty server is S3 enough."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "f").write_bytes(noise(1, 5000))
    with FaultyServer(tmp_path, [fault, "ok", fault]) as server:
        credentials.setenv("AWS_ENDPOINT_URL", server.url)
        ranges = [("f", 10, 100), ("f", 20, 3000)]
        assert fast("s3://bucket", **patience(fault)).read(ranges) == sliced({"f": noise(1, 5000)}, ranges)
        assert sum(method == "GET" for method, *_ in server.asked) <= 4  # the client adds no tries of its own
    with FaultyServer(tmp_path, lambda method, path: fault) as server:
        credentials.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(Unreachable, match="s3://bucket/f: not read in 2 tries"):
            fast("s3://bucket", tries=2, **patience(fault)).read(ranges[:1])
        assert sum(method == "GET" for method, *_ in server.asked) == 2  # the client adds no tries of its own
    with FaultyServer(tmp_path, lambda method, path: 403) as server:
        credentials.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(PermissionError):
            fast("s3://bucket").read(ranges[:1])


def test_a_remote_file_may_lie_in_a_folder_beside(folder):
    """As those of a merged manifest do. No object store resolves "..", so the store does; a signed URL stays signed."""
    MemoryFileSystem().pipe("/data/hdtf/motion-000000.tar", b"0123456789")
    assert fast("memory://data/all").read([("../hdtf/motion-000000.tar", 2, 3)]) == [b"234"]
    with FaultyServer(folder) as server:
        assert fast(f"{server.url}/all?key=1").whole("../a b#c%.tar") == content(folder)["a b#c%.tar"]
        assert server.queries == {"key=1"}


def test_a_remote_folder_names_no_file_of_this_machine():
    with pytest.raises(PermissionError):
        Store("https://host/all").read([("/etc/hostname", 0, 10)])


def test_secrets_are_cut_to_the_end_of_the_word():
    for url in ("https://h/x?token=a'b&sig=SECRET", "s3://k:SECRET@bucket/x", "s3://k:a/SECRET@bucket/x"):
        assert "SECRET" not in without_secrets(f"shards={url} run=here")
