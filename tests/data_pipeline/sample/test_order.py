"""The slot contract: what a run consumes depends on its selection, seed and slot numbers, and on nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import micro_batches
from data_pipeline.sample.order import Order
from data_pipeline.sample.selection import Selection, select
from data_pipeline.sample.slot_random import Purpose, slot_random
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers.manifests import in_memory
from tests.helpers.motion_windows import WINDOW

GLOBAL_BATCH = 12
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores


def selection(shards: list[int], digest: str = "d") -> Selection:
    """A selection of clips that lie in these shards, rows 100, 101, ..."""
    numbers, first = np.unique(shards, return_index=True)
    return Selection(np.arange(len(shards)) + 100, numbers, first + 100, digest)


# Order
shard_shapes = st.lists(st.integers(1, 6), min_size=1, max_size=12)


@given(shard_shapes, st.integers(0, 2**31), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_each_clip_comes_once_in_every_epoch(shapes, seed, block_shards):
    """Whatever the shards hold, and even where their numbers leave gaps."""
    chosen = selection([2 * shard for shard, count in enumerate(shapes) for _ in range(count)])
    order = Order(chosen, seed, block_shards)
    count = len(chosen)
    for epoch in (0, 1, 7):
        rows = [order.row(slot) for slot in range(epoch * count, (epoch + 1) * count)]
        assert sorted(rows) == chosen.rows_n.tolist()


@given(shard_shapes, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_samples_are_permuted_inside_blocks_of_shards(shapes, block_shards):
    """Reads stay near each other: each stretch of an epoch lies in its own `block_shards` shards."""
    chosen = selection([shard for shard, count in enumerate(shapes) for _ in range(count)])
    shard_of = {row: chosen.shard(row) for row in chosen.rows_n.tolist()}
    order = Order(chosen, 5, block_shards)
    visited = [shard_of[order.row(slot)] for slot in range(len(chosen))]
    first_seen = list(dict.fromkeys(visited))
    at, met = 0, []
    while at < len(visited):
        block: set[int] = set()
        size = 0
        while len(block) < block_shards and len(met) + len(block) < len(shapes):
            block.add(next(shard for shard in visited[at:] if shard not in block))
            size = sum(shapes[shard] for shard in block)
        assert set(visited[at : at + size]) == block
        met += sorted(block)
        at += size
    assert sorted(met) == sorted(first_seen) == list(range(len(shapes)))


def test_epochs_seeds_and_selections_are_ordered_differently():
    shards = [n // 10 for n in range(200)]

    def rows(digest: str, seed: int, epoch: int) -> tuple[int, ...]:
        order = Order(selection(shards, digest), seed)
        return tuple(order.row(200 * epoch + place) for place in range(200))

    orders = [rows("d", 0, 0), rows("d", 0, 1), rows("d", 1, 0), rows("e", 0, 0)]
    assert len(set(orders)) == 4
    for one in orders:
        for other in orders:
            same = sum(a == b for a, b in zip(one, other))
            assert one is other or same < 12, "two random orders of 200 share about one place"
    assert rows("d", 0, 1) == orders[1], "and each is reproducible"


def test_an_order_can_be_sent_to_another_process_and_seeks_alike():
    import pickle

    order = Order(selection([0, 0, 1, 1, 2]), 3)
    sent = pickle.loads(pickle.dumps(order))  # noqa: S301  what DataLoader does with it
    numbers = [10_000_000, 0, 7, 10_000_001, 12]
    assert [sent.row(n) for n in numbers] == [order.row(n) for n in numbers]


def test_an_empty_selection_is_refused():
    with pytest.raises(ValueError, match="at least one clip"):
        Order(selection([]), 0)


# Digest
def test_the_digest_covers_keys_used_columns_and_their_order():
    base = {"key": ["a", "b", "c"], "split": ["train"] * 3, "shard": [0, 0, 1], "frames": [9, 8, 7]}
    own = select(in_memory(**base), "train", ("frames",)).digest

    def other(columns=("frames",), **changes) -> str:
        return select(in_memory(**{**base, **changes}), "train", columns).digest

    assert other() == own
    assert other(blur=[1.0, 2.0, 3.0]) == own, "a column that examples do not use"
    assert other(key=["a", "b", "x"]) != own
    assert other(key=["b", "a", "c"]) != own
    assert other(frames=[9, 8, 6]) != own
    assert other(split=["train", "train", "val"]) != own
    assert other(columns=()) != own
    assert other(key=["a", "bc", ""]) != other(key=["ab", "c", ""]), "values are kept apart"


# Random numbers
def test_slot_random_streams_are_reproducible_and_apart():
    def draw(digest: str = "d", seed: int = 0, slot: int = 5, purpose: int = Purpose.WINDOW) -> tuple:
        return tuple(slot_random(digest, seed, slot, purpose).random(4))

    own = draw()
    assert draw() == own
    others = [draw(slot=s) for s in (0, 4, 6, 2**40)] + [draw(seed=1), draw(digest="e")]
    others += [draw(purpose=p) for p in (Purpose.ORDER, Purpose.SOURCE, Purpose.NOISE, Purpose.VOICE)]
    numbers = [number for one in (own, *others) for number in one]
    assert len(set(numbers)) == len(numbers)
    long = [set(slot_random("d", 0, slot, Purpose.NOISE).random(1000)) for slot in (5, 6, 7)]
    assert len(set.union(*long)) == 3000, "however much one slot draws, it never runs into the next"


@pytest.mark.parametrize(("digest", "seed", "slot", "purpose", "block"), [("d", 0, 0, 0, 0), ("e", 7, 2**40, 9, 12345)])
def test_slot_random_is_numpys_philox_of_that_key_and_counter(digest, seed, slot, purpose, block):
    """The key is handed over as a seed, which is quicker; the numbers are those of the documented way."""
    key = int.from_bytes(hashlib.blake2b(f"{digest}:{seed}".encode(), digest_size=16).digest(), "big")
    plain = np.random.Generator(np.random.Philox(key=key, counter=[0, block, slot, purpose]))
    own = slot_random(digest, seed, slot, purpose, block)
    assert own.standard_normal(99).tolist() == plain.standard_normal(99).tolist()
    assert own.integers(2**63, size=9).tolist() == plain.integers(2**63, size=9).tolist()


def test_slot_random_streams_are_independent_of_their_neighbours():
    """Uniform over slots, and uncorrelated with the next slot and the next purpose (5 standard errors)."""
    count = 4000
    window = np.array([slot_random("d", 0, n, Purpose.WINDOW).random() for n in range(count)])
    source = np.array([slot_random("d", 0, n, Purpose.SOURCE).random() for n in range(count)])
    limit = 5 / np.sqrt(count)
    assert abs(window.mean() - 0.5) < limit * np.sqrt(1 / 12)
    assert abs(np.corrcoef(window[:-1], window[1:])[0, 1]) < limit
    assert abs(np.corrcoef(window, source)[0, 1]) < limit
    assert np.histogram(window, 20, (0, 1))[0].min() > 130


# Examples
def consumed(batches) -> dict[int, dict]:
    """Slot -> key, window and tensors of its example, without padding."""
    out: dict[int, dict] = {}
    for batch in batches:
        for i, slot in enumerate(batch.slots_B.tolist()):
            frames, source = int(batch.mask_BT[i].sum()), int(batch.source_mask_BU[i].sum())
            assert slot not in out
            out[slot] = {
                "key": batch.keys_B[i],
                "start": batch.starts_B[i],
                "landmarks": batch.landmarks_BTN3[i, :frames],
                "audio": batch.audio_BS[i, : frames * SAMPLES_PER_FRAME],
                "source": batch.source_BUN3[i, :source],
                "heard": batch.source_audio_BS[i, : source * SAMPLES_PER_FRAME],
                "voice": batch.voice_B[i],
                "t": batch.t_B[i],
                "noise": batch.noise_BTK2[i, :frames],
            }
    return out


def assert_equal(ours: dict[int, dict], theirs: dict[int, dict]) -> None:
    """Two runs consumed the same, bit for bit."""
    assert sorted(ours) == sorted(theirs)
    for slot, example in ours.items():
        for name, value in example.items():
            other = theirs[slot][name]
            same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
            assert same, f"slot {slot}: {name}"


def run(examples: MotionExamples, world_size: int, workers: int, micro: int, start: int = 0, stop: int = 4) -> dict:
    """What all ranks of a run consume."""
    out: dict[int, dict] = {}
    for rank in range(world_size):
        own = loader.SlotStream(examples, GLOBAL_BATCH, micro, rank, world_size, start, stop)
        made = consumed(loader.load(own, workers))
        assert not set(made) & set(out)
        out.update(made)
    return out


@pytest.fixture(scope="module")
def alone(examples) -> dict[int, dict]:
    """Four steps of one process without workers."""
    return run(examples, world_size=1, workers=0, micro=4)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("world_size", "micro"), [(1, 12), (1, 1), (2, 3), (3, 2), (4, 3), (6, 1)])
def test_any_world_size_and_worker_count_gives_the_same_examples(examples, alone, world_size, micro, workers):
    assert sorted(alone) == list(range(4 * GLOBAL_BATCH))
    assert_equal(run(examples, world_size, workers, micro), alone)


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_keep_the_order_of_micro_batches(examples, workers):
    own = loader.SlotStream(examples, GLOBAL_BATCH, 2, 1, 2, 0, 3)
    expected = list(micro_batches(GLOBAL_BATCH, 2, 1, 2, 0, 3))
    assert [batch.slots_B.tolist() for batch in loader.load(own, workers)] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_dealt_by_length_has_the_same_examples(examples, alone, workers):
    """What a slot shows, its source too, is as long as `length` says, whoever shares a micro-batch with it."""
    seen = {}
    for rank in range(2):
        own = loader.SlotStream(examples, GLOBAL_BATCH, 2, rank, 2, 0, 4, examples.windows.length)
        for batch in loader.load(own, workers):
            lengths = (batch.mask_BT.sum(1) + batch.source_mask_BU.sum(1)).int().tolist()
            assert lengths == [examples.windows.length(slot) for slot in batch.slots_B.tolist()]
            seen |= dict(zip(batch.slots_B.tolist(), batch.keys_B))
    assert sorted(seen) == sorted(alone)


@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_stream_begun_at_a_step_is_the_tail_of_the_whole(examples, alone, start):
    tail = {slot: example for slot, example in alone.items() if slot >= start * GLOBAL_BATCH}
    assert_equal(run(examples, 2, 1, 2, start=start), tail)


def test_invariant_9_annotating_an_unrelated_column_changes_no_key(talker_shards, alone, tmp_path):
    """A column appended to the manifest leaves the selection's digest and every consumed example as they were."""
    folder = shutil.copytree(talker_shards, tmp_path / "shards")
    before = Manifest.load(folder)
    offsets = pa.array(np.linspace(-2, 2, len(before)))
    manifest_update.save(folder, before.table.append_column("sync_confidence", offsets), before.header)
    after = Manifest.load(folder)
    assert after.digest != before.digest
    assert "sync_confidence" in after.table.column_names
    assert select(after, "train", ("frames",)).digest == select(before, "train", ("frames",)).digest
    assert_equal(
        run(MotionExamples(after, SamplingConfig(seed=1), WINDOW, MotionDraws(voice_stretch=0.2)), 2, 0, 2), alone
    )


def test_another_seed_gives_other_examples(talkers, alone):
    other = run(MotionExamples(talkers, SamplingConfig(seed=2), WINDOW), 1, 0, 4)
    same = [slot for slot in alone if torch.equal(alone[slot]["noise"], other[slot]["noise"])]
    assert not same
    assert [one["key"] for one in alone.values()] != [one["key"] for one in other.values()]


def test_voices_are_stretched_within_bounds_and_disturb_nothing_else(talkers, examples):
    """Evenly in the logarithm, up to 1.2 or down to 1 / 1.2; switched off, the rest of an example is the same."""
    voices = torch.cat([examples([n]).voice_B for n in range(200)])
    assert 1.15 < voices.max() <= 1.2
    assert 1 / 1.2 <= voices.min() < 1 / 1.15
    assert abs(voices.log().mean()) < 0.03
    plain = run(MotionExamples(talkers, SamplingConfig(seed=1), WINDOW), 1, 0, 4, stop=1)
    stretched = run(examples, 1, 0, 4, stop=1)
    for slot, example in plain.items():
        assert example.pop("voice") == 1
        stretched[slot].pop("voice")
    assert_equal(plain, stretched)
    times = torch.cat([examples([n]).t_B for n in range(200)])
    assert abs(torch.corrcoef(torch.stack([voices, times]))[0, 1]) < 0.3, "a voice tells nothing of the time"


def masks_of_signals(_: list[int]) -> dict:
    """What a worker holds back and ignores while it makes batches."""
    ignored = [name for name in loader.PARENT_SIGNALS if signal.getsignal(name) is signal.SIG_IGN]
    return {"held": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "ignored": ignored}


def test_workers_are_never_killed_by_a_signal_to_the_group(monkeypatch, tmp_path):
    """Held back from birth until they are ignored: in between, a stop would take the worker and the run with it."""
    init, held = loader.ignore_parent_signals, tmp_path / "held"

    def recorded(worker: int) -> None:
        held.write_text(json.dumps([int(name) for name in signal.pthread_sigmask(signal.SIG_BLOCK, [])]))
        os.kill(os.getpid(), signal.SIGTERM)
        init(worker)

    monkeypatch.setattr(loader, "ignore_parent_signals", recorded)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    made = loader.load(loader.SlotStream(masks_of_signals, 2, 2, 0, 1, 0, 1), workers=1)
    assert list(made) == [{"held": [], "ignored": list(loader.PARENT_SIGNALS)}]
    assert set(json.loads(held.read_text())) >= {int(name) for name in loader.PARENT_SIGNALS}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_webdatasets_pipeline_takes_the_stream_as_its_first_stage(examples, alone):
    """Its stages, its loader and its workers see our batches, in our order."""
    import webdataset as wds

    own = loader.SlotStream(examples, GLOBAL_BATCH, 4, 0, 1, 0, 4)
    keys = wds.DataPipeline(own, wds.map(lambda batch: (batch.slots_B.tolist(), batch.keys_B)))
    for workers in (0, 2):
        made = list(wds.WebLoader(keys, batch_size=None, num_workers=workers))
        assert [slot for numbers, _ in made for slot in numbers] == list(range(4 * GLOBAL_BATCH))
        assert [key for _, held in made for key in held] == [alone[slot]["key"] for slot in range(4 * GLOBAL_BATCH)]


def test_examples_may_be_sent_to_a_process_that_shares_no_memory(examples, talker_shards, tmp_path):
    """As to a worker that is spawned: it opens the manifest again, and refuses one that was rewritten."""
    import pickle

    folder = shutil.copytree(talker_shards, tmp_path / "shards")
    mine = MotionExamples(Manifest.load(folder), SamplingConfig(seed=1), WINDOW, MotionDraws(voice_stretch=0.2))
    packed = pickle.dumps(mine)
    sent = pickle.loads(packed)  # noqa: S301  what DataLoader does with it
    assert_equal(consumed([sent([3, 40])]), consumed([examples([3, 40])]))
    before = Manifest.load(folder)
    manifest_update.save(folder, before.table.append_column("late", pa.array([1.0] * len(before))), before.header)
    with pytest.raises(UserError, match="rewritten while the run began"):
        pickle.loads(packed)  # noqa: S301
