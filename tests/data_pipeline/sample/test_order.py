"""The slot contract: what a run consumes depends on its selection, seed and slot numbers, and on nothing else."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.examples.windows import MIN_SOURCE_FRAMES, shorten_target
from data_pipeline.sample import loader, windows
from data_pipeline.sample.batch_plan import balanced, micro_batches
from data_pipeline.sample.order import Order
from data_pipeline.sample.selection import Selection, select
from data_pipeline.sample.slot_random import Purpose, slot_random
from data_pipeline.sample.windows import SamplingConfig, Window, WindowConfig
from data_pipeline.shards import manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks.diffusion import T_MIN

WINDOW = WindowConfig(min_frames=12, max_frames=24, source_frames=10)
GLOBAL_BATCH = 12
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores


def selection(shards: list[int], digest: str = "d") -> Selection:
    """A selection of clips that lie in these shards, rows 100, 101, ..."""
    numbers, first = np.unique(shards, return_index=True)
    return Selection(np.arange(len(shards)) + 100, numbers, first + 100, digest)


def table(**columns: list) -> Manifest:
    """A manifest in memory."""
    return Manifest(Path("nowhere"), {}, pa.table(columns))


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
    own = select(table(**base), "train", ("frames",)).digest

    def other(columns=("frames",), **changes) -> str:
        return select(table(**{**base, **changes}), "train", columns).digest

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


# Sharing slots among ranks


def length_of(slot: int) -> int:
    """Of 24 to 250 frames, as if drawn."""
    return 24 + (slot * 7919) % 227


@given(
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.integers(0, 4),
    st.sampled_from([None, length_of]),
)
@settings(max_examples=100, deadline=None)
def test_micro_batches_cover_each_step_exactly_once(world_size, micro, accumulation, start, steps, dealt_by):
    """Over all ranks every slot of every step comes once, in its own step, in as many micro-batches a rank. Dealt
    by length, none has more padded frames than micro-batches of one size could have.
    """
    global_batch = world_size * micro * accumulation
    per_rank = [
        list(micro_batches(global_batch, micro, rank, world_size, start, start + steps, dealt_by))
        for rank in range(world_size)
    ]
    for step in range(steps):
        held, largest = [], []
        for rounds in per_rank:
            own = rounds[step * accumulation : (step + 1) * accumulation]
            assert len(own) == accumulation
            assert all(own)
            assert dealt_by or all(len(numbers) == micro for numbers in own)
            held += [slot for numbers in own for slot in numbers]
            padded = [len(numbers) * max(map(length_of, numbers)) for numbers in own]
            largest.append(max(padded))
        first = (start + step) * global_batch
        assert sorted(held) == list(range(first, first + global_batch))
        if dealt_by:
            sorted_lengths = sorted(map(length_of, held), reverse=True)
            assert max(largest) <= micro * sorted_lengths[0]
    assert all(len(rounds) == steps * accumulation for rounds in per_rank)


def padded_share(micro: int, world_size: int, dealt_by=None) -> float:
    """Of the frames that all ranks could compute at a time, the share that is padding, or waits for a larger one."""
    rounds = zip(*(micro_batches(256, micro, rank, world_size, 0, 50, dealt_by) for rank in range(world_size)))
    lengths = [[[length_of(slot) for slot in slots] for slots in at_a_time] for at_a_time in rounds]
    computed = sum(world_size * max(max(own) * len(own) for own in at_a_time) for at_a_time in lengths)
    return 1 - sum(sum(own) for at_a_time in lengths for own in at_a_time) / computed


def test_dealt_by_length_a_step_is_hardly_padded_nor_waits_for_a_rank():
    for micro, world_size in ((4, 1), (32, 1), (4, 8), (32, 8)):
        assert padded_share(micro, world_size) > 0.3
        assert padded_share(micro, world_size, length_of) < 0.13


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_the_largest_group_is_as_small_as_it_can_be(lengths, count):
    """Against all ways to cut the slots, sorted by length, into as many groups."""
    count = min(count, len(lengths))
    groups = balanced(list(range(len(lengths))), lengths, count)
    assert sorted(slot for group in groups for slot in group) == list(range(len(lengths)))
    assert len(groups) == count
    assert all(groups)
    longest_first = sorted(lengths, reverse=True)
    ways = itertools.combinations(range(1, len(lengths)), count - 1)
    cut = [list(itertools.pairwise((0, *way, len(lengths)))) for way in ways]
    least = min(max(longest_first[a] * (b - a) for a, b in way) for way in cut)
    assert max(max(lengths[slot] for slot in group) * len(group) for group in groups) == least


@given(st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_seeking_equals_the_tail_of_the_whole(start, stop):
    assume(start <= stop)
    whole = list(micro_batches(12, 2, 1, 3, 0, stop))
    assert list(micro_batches(12, 2, 1, 3, start, stop)) == whole[start * 2 :]


# Examples


@pytest.fixture(scope="module")
def talkers(talker_shards) -> Manifest:
    return Manifest.load(talker_shards)


@pytest.fixture(scope="module")
def examples(talkers) -> MotionExamples:
    return MotionExamples(talkers, SamplingConfig(seed=1), WINDOW, MotionDraws(voice_stretch=0.2))


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


def test_windows_lie_inside_their_clips_and_take_every_allowed_length(examples, talkers):
    frames = talkers.column("frames")
    lengths, starts = Counter(), Counter()
    for slot in range(600):
        (row, start, stop), (source, first, last) = examples.windows.example(slot)
        assert row == examples.windows.order.row(slot)
        assert 0 <= start < stop <= frames[row]
        lengths[stop - start] += 1
        starts[start == 0] += 1
        assert 0 <= first < last <= frames[source]
        assert last - first == WINDOW.source_frames
    assert set(lengths) == set(range(WINDOW.min_frames, WINDOW.max_frames + 1))
    assert starts[False] > 400, "windows begin anywhere"


def test_a_clip_shorter_than_the_window_is_taken_whole(talkers):
    wide = MotionExamples(talkers, SamplingConfig(seed=1), WindowConfig(100, 200, 300))
    for slot in range(20):
        (row, start, stop), (source, first, last) = wide.windows.example(slot)
        assert (start, stop) == (0, talkers.column("frames")[row])
        assert (first, last) == (0, talkers.column("frames")[source])


def test_the_source_is_another_clip_of_the_same_person(examples, talkers):
    identity = talkers.column("identity")
    for slot in range(200):
        place, source = examples.windows.example(slot)
        assert source == examples.windows.source(slot, Window(place.row, 0, 1)), "wherever the target is"
        assert source.row != place.row
        assert identity[source.row] == identity[place.row]


def test_a_person_of_one_clip_is_their_own_source_and_splits_do_not_mix():
    """c's other clip is in another split, so it is not drawn."""
    made = table(
        key=["a0", "a1", "b0", "c0", "c1"],
        identity=["a", "a", "b", "c", "c"],
        split=["train", "train", "train", "train", "val"],
        frames=[30, 30, 30, 30, 30],
        shard=[0, 0, 0, 1, 1],
    )
    examples = MotionExamples(made, SamplingConfig(seed=0), WINDOW)
    drawn = {(row, examples.windows.source(slot, Window(row, 0, 12)).row) for slot in range(60) for row in range(4)}
    assert drawn == {(0, 1), (1, 0), (2, 2), (3, 3)}


@given(st.integers(2, 400), st.integers(1, 300), st.integers(0, 300), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_the_source_in_an_only_clip_shows_nothing_of_the_target(frames, shortest, more, source_frames):
    """Disjoint, both inside the clip, and enough of a source; a target that leaves room is as it was drawn."""
    one = table(key=["a"], identity=["a"], split=["train"], frames=[frames], shard=[0])
    window = WindowConfig(shortest, shortest + more, source_frames)
    examples = MotionExamples(one, SamplingConfig(seed=0), window)
    for slot in range(4):
        (row, start, stop), (source, first, last) = examples.windows.example(slot)
        assert (row, source) == (0, 0)
        assert 0 <= start < stop <= frames
        assert 0 <= first < last <= frames
        assert last <= start or stop <= first
        assert last - first <= source_frames
        assert last - first >= min(MIN_SOURCE_FRAMES, source_frames, max(1, frames // 3))
        random = slot_random(examples.selection.digest, 0, slot, Purpose.WINDOW)
        drawn = windows.draw(random, frames, window.min_frames, window.max_frames)
        if max(drawn[0], frames - drawn[1]) >= MIN_SOURCE_FRAMES:
            assert (start, stop) == drawn
        else:
            assert drawn[0] <= start < stop <= drawn[1], "cut, not moved"


def test_an_only_clip_taken_whole_gives_a_third_of_itself_to_the_source():
    assert shorten_target(0, 90, 90, 75) == (30, 90)
    assert shorten_target(0, 300, 300, 75) == (75, 300)
    assert shorten_target(2, 97, 100, 75) == (2, 67)
    assert shorten_target(11, 100, 100, 75) == (11, 100)


def test_an_only_clip_of_one_frame_is_refused():
    one = table(key=["a", "b"], identity=["a", "b"], split=["train"] * 2, frames=[9, 1], shard=[0, 0])
    with pytest.raises(UserError, match="clip b, its person's only one in split 'train', has one frame"):
        MotionExamples(one, SamplingConfig(seed=0), WINDOW)


def test_an_example_holds_what_its_window_says(examples, talkers):
    """Landmarks, speech and source are those of the clips; padding repeats the last frame; t and noise fit."""
    batch = examples(list(range(6)))
    for i in range(6):
        (row, start, stop), (source, first, last) = examples.windows.example(i)
        length = stop - start
        assert batch.keys_B[i] == talkers.column("key")[row]
        assert batch.starts_B[i] == start
        assert batch.mask_BT[i].tolist() == [1.0] * length + [0.0] * (batch.mask_BT.shape[1] - length)
        whole = torch.from_numpy(reader.read_landmarks(talkers, row))
        assert torch.equal(batch.landmarks_BTN3[i, :length], whole[start:stop])
        assert (batch.landmarks_BTN3[i, length:] == whole[stop - 1]).all()
        speech = torch.from_numpy(reader.read_audio(talkers, row))
        span = slice(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME)
        assert torch.equal(batch.audio_BS[i, : length * SAMPLES_PER_FRAME], speech[span])
        assert not batch.audio_BS[i, length * SAMPLES_PER_FRAME :].any()
        assert not batch.noise_BTK2[i, length:].any()
        own = torch.from_numpy(reader.read_landmarks(talkers, source))[first:last]
        assert torch.equal(batch.source_BUN3[i, : last - first], own)
        heard = torch.from_numpy(reader.read_audio(talkers, source, first, last))
        assert torch.equal(batch.source_audio_BS[i, : len(heard)], heard)
    noise = torch.cat([examples([n]).noise_BTK2.flatten() for n in range(20)])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    times = torch.cat([examples([n]).t_B for n in range(200)])
    assert times.min() >= T_MIN
    assert times.max() <= 1
    assert abs(times.mean() - 0.5) < 0.1


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


@pytest.mark.parametrize(
    "sizes", [{"min_frames": 0}, {"min_frames": 30, "max_frames": 20}, {"source_frames": 0}], ids=str
)
def test_impossible_window_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        WindowConfig(**sizes)


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
