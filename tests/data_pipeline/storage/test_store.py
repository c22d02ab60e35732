"""Ranges of files, local and remote, are exact bytes under faults, with and without the cache."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline.storage import cache as cache_module
from data_pipeline.storage.cache import BLOCK_BYTES, Cache
from data_pipeline.storage.faults import without_secrets
from data_pipeline.storage.store import Store, Unreachable
from mytalk.command import UserError, one_line
from tests.helpers.checkout import ROOT
from tests.helpers.faulty_http import FaultyServer
from tests.helpers.stores import (
    CHUNK,
    content,
    fast,
    noise,
    on_disk,
    patience,
    sliced,
)

FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
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
