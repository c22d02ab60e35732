"""Examples are the same over a faulty network and through a cache."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import numpy as np
import pytest

from data_pipeline.sample import loader
from data_pipeline.sample.batches import BadExample
from data_pipeline.shards.manifest import Manifest
from data_pipeline.storage import cache as cache_module
from data_pipeline.storage.cache import Cache
from data_pipeline.storage.store import Store, Unreachable
from tests.helpers.consumed import (
    DRAWN,
    GLOBAL_BATCH,
    RECIPES,
    assert_same,
    run,
)
from tests.helpers.faulty_http import FaultyServer

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores


def quick(url: str, cache: Cache | None = None, tries: int = 10, timeout_s: float = 20) -> Store:
    """A store that loses no time over faults."""
    return Store(url, cache, tries=tries, wait_s=0.002, timeout_s=timeout_s)


def troubled(seed: int, share: float) -> Callable[[str, str], int | str]:
    """Faults of a share of all requests, at random."""
    random, lock = np.random.default_rng(seed), threading.Lock()

    def fault(method: str, path: str) -> int | str:
        with lock:
            if random.random() > share:
                return "ok"
            return [500, 503, "cut", "short", "shift", "stall"][
                int(random.choice(6, p=[0.2, 0.2, 0.2, 0.2, 0.18, 0.02]))
            ]

    return fault


@pytest.mark.parametrize("recipe", ["motion", "appearance"])
@pytest.mark.parametrize(("share", "workers"), [(0, 0), (0, 1), (0.15, 0), (0.15, 1)])
def test_examples_are_the_same_over_a_faulty_network(shards, alone, recipe, share, workers):
    with FaultyServer(shards, troubled(1, share), stall_s=2) as server:
        made = Manifest.load(server.url, quick(server.url, timeout_s=0.5))
        got = run(RECIPES[recipe](made, DRAWN), 2, workers, 3)
        assert_same(got, alone[recipe])
        assert not got.bad
        if not share:
            assert len(server.asked) < 400, "no request is made twice"


@pytest.mark.parametrize("chunks", [5, 400])
@pytest.mark.parametrize("workers", [0, 1])
def test_with_a_cache_large_or_full_it_is_the_same(shards, alone, tmp_path, monkeypatch, chunks, workers):
    monkeypatch.setattr(cache_module, "CHUNK_BYTES", 1 << 14)
    folder, limit = tmp_path / "cache", 4096 + chunks * 20480
    with FaultyServer(shards, troubled(2, 0.05), stall_s=2) as server:
        for again in (False, True):
            before = len(server.asked)
            made = Manifest.load(server.url, quick(server.url, Cache(folder, limit), timeout_s=0.5))
            for recipe in ("motion", "appearance"):
                assert_same(run(RECIPES[recipe](made, DRAWN), 1, workers, 4), alone[recipe])
            of_tars = [path for _, path, asked in server.asked[before:] if path.endswith(".tar") and asked]
            assert sum(path.stat().st_size for path in folder.glob("*.chunk")) <= limit
            assert bool(of_tars) == (not again or chunks == 5)


@pytest.mark.parametrize("passes_the_cache", [False, True])
def test_a_damaged_copy_in_the_cache_is_fetched_again_and_replaces_no_clip(
    shards, alone, tmp_path, monkeypatch, passes_the_cache
):
    """Found by the cache's own sums, or, where those are right, by the shard's."""
    monkeypatch.setattr(cache_module, "CHUNK_BYTES", 1 << 14)
    cache = Cache(tmp_path, 1 << 24)
    with FaultyServer(shards) as server:
        made = Manifest.load(server.url, quick(server.url, cache))
        run(RECIPES["motion"](made, DRAWN))
        held = sorted(tmp_path.glob("*.chunk"))
        assert len(held) > 20
        for path in held[::2]:
            data = bytearray(path.read_bytes())[: -cache_module.TAIL_BYTES]
            data[len(data) // 2] ^= 1
            tail = (
                cache_module.chunk_tail(path, data)
                if passes_the_cache
                else path.read_bytes()[-cache_module.TAIL_BYTES :]
            )
            path.write_bytes(data + tail)
        before = len(server.asked)
        got = run(RECIPES["motion"](Manifest.load(server.url, quick(server.url, cache)), DRAWN))
        assert len(server.asked) > before + 5
        assert not got.bad
        assert_same(got, alone["motion"])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("recipe", ["motion", "appearance"])
def test_a_server_that_dies_is_unreachable_and_replaces_no_clip(shards, recipe, workers):
    """However many substitutes there would be."""
    dead = threading.Event()
    column = "frames" if recipe == "appearance" else "motion"

    def fault(method: str, path: str) -> int | str:
        return 503 if dead.is_set() and path.startswith(column) else "ok"

    with FaultyServer(shards, fault) as server:
        made = Manifest.load(server.url, quick(server.url, tries=2))
        examples = RECIPES[recipe](made, DRAWN)
        own = loader.SlotStream(examples, GLOBAL_BATCH, 4, 0, 1, 0, 20)
        with contextlib.closing(loader.load(own, workers, prefetch=1)) as batches:
            assert not next(batches).bad
            dead.set()
            bad: list[BadExample] = []
            with pytest.raises(Unreachable, match=rf"{column}-0.*: not read in 2 tries \(HTTP 503\)"):
                bad.extend(found for batch in batches for found in batch.bad)
            assert not bad


def test_a_shard_that_the_server_lacks_is_no_damage(shards):
    with FaultyServer(shards, lambda _, path: 404 if path == "motion-000002.tar" else "ok") as server:
        examples = RECIPES["motion"](Manifest.load(server.url, quick(server.url)), DRAWN)
        with pytest.raises(FileNotFoundError, match="motion-000002"):
            run(examples)
