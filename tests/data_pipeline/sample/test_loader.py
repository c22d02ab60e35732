"""The stream keeps its contract through what befalls a run: other machines, annotation, growth, damage, bad networks.

What slot n holds is a pure function of (digest of the selection, repeats, seed, n), for all four recipes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_pipeline import plan
from data_pipeline.examples.appearance import AppearanceExamples, ReferenceConfig
from data_pipeline.examples.identity import IdentityExamples
from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.examples.syncnet import SyncExamples
from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import micro_batches, shared_once
from data_pipeline.sample.batches import BadExample, Batch, Examples
from data_pipeline.sample.order import Order
from data_pipeline.sample.selection import MAX_CORPORA, Selection, select
from data_pipeline.sample.slot_random import Purpose, slot_random
from data_pipeline.sample.windows import SamplingConfig, WindowConfig, Windows
from data_pipeline.shards import checksums, manifest_update, reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import columns as table_columns
from data_pipeline.storage import cache as cache_module
from data_pipeline.storage.cache import Cache
from data_pipeline.storage.store import Store, Unreachable
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks.appearance.config import AppearanceConfig
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.faulty_http import FaultyServer
from train.run_folder.bad_examples import BadExampleLog

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores
GLOBAL_BATCH = 12
STEPS = 4
MODEL = AppearanceConfig(size_px=32, stem=2, channels=[8, 16], blocks=[0, 1], heads=2, discriminator_channels=4)
WINDOW = WindowConfig(min_frames=8, max_frames=14, source_frames=6)
RECIPES: dict[str, Callable[[Manifest, SamplingConfig], Examples]] = {
    "motion": lambda made, drawn: MotionExamples(made, drawn, WINDOW, MotionDraws(voice_stretch=0.2)),
    "syncnet": lambda made, drawn: SyncExamples(made, drawn, 12, 0.1),
    "identity": lambda made, drawn: IdentityExamples(made, drawn, 6, 10),
    "appearance": lambda made, drawn: AppearanceExamples(made, drawn, MODEL, ReferenceConfig(2, 4)),
}
ONE_CORPUS, TWO_CORPORA = ("test",), ("b", "a")
DRAWN = SamplingConfig(seed=3)
FRAME_BYTES, LANDMARKS_HEADER, AUDIO_FRAME_BYTES, AUDIO_HEADER = 2868, 128, 1280, 44  # as members are laid out


def write(folder: Path, people: dict[str, int], corpora: tuple[str, ...] = ONE_CORPUS, video: bool = True) -> Path:
    """Short talkers. A longer set of more people of the last split begins with the same shards."""
    return talkers.write(folder, people, frames=20, per_shard=4, corpora=corpora, video=video)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two people in val, six to train, two clips each, four in a shard."""
    return write(tmp_path_factory.mktemp("shards"), {"val": 2, "train": 6})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """As many, of two corpora."""
    return write(tmp_path_factory.mktemp("mixed"), {"val": 2, "train": 6}, TWO_CORPORA)


def content(batch: Batch, place: int) -> dict:
    """Key, window and tensors of one example, without padding."""
    held = {name: tensor[place] for name, tensor in batch.tensors().items()}
    frames = int(held["mask_BT"].sum()) if "mask_BT" in held else 0
    source = int(held["source_mask_BU"].sum()) if "source_mask_BU" in held else 0
    lengths = {"landmarks_BTN3": frames, "mask_BT": frames, "noise_BTK2": frames, "audio_BS": frames * 640}
    lengths |= {"source_BUN3": source, "source_mask_BU": source, "source_audio_BS": source * 640}
    cut = {name: value[: lengths[name]] if name in lengths else value for name, value in held.items()}
    return {"key": batch.keys_B[place], **cut}


class Consumed(dict):
    """Slot -> content, and what was bad."""

    def __init__(self) -> None:
        self.bad: list[BadExample] = []

    def add(self, batch: Batch) -> None:
        for place, slot in enumerate(batch.slots_B.tolist()):
            assert slot not in self, "each slot once"
            self[slot] = content(batch, place)
        self.bad += batch.bad

    def sorted_bad(self) -> list[BadExample]:
        return sorted(self.bad, key=lambda bad: bad.slot)  # stable: the attempts of a slot stay in order


def run(examples: Examples, world=1, workers=0, micro=GLOBAL_BATCH, start=0, stop=STEPS, until: int | None = None):
    """What the ranks of a run to `stop` consume until they are stopped after step `until`."""
    made = Consumed()
    rounds = GLOBAL_BATCH // micro // world
    for rank in range(world):
        own = loader.SlotStream(examples, GLOBAL_BATCH, micro, rank, world, start, stop)
        with contextlib.closing(loader.load(own, workers, prefetch=2)) as batches:
            for _ in range(((stop if until is None else until) - start) * rounds):
                made.add(next(batches))
    return made


def assert_same(ours: Consumed, theirs: dict) -> None:
    """Two runs consumed the same, bit for bit."""
    assert sorted(ours) == sorted(theirs)
    for slot, example in ours.items():
        assert_same_example(slot, example, theirs[slot])


def assert_same_example(slot: int, ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, f"slot {slot}: {name}"


@pytest.fixture(scope="module")
def alone(shards) -> dict[str, Consumed]:
    """What one process consumes, by recipe."""
    made = Manifest.load(shards)
    return {name: run(make(made, DRAWN)) for name, make in RECIPES.items()}


# Machines

SPLITS_OF_WORK = [(1, 3, 4), (2, 1, 3), (3, 0, 2), (4, 1, 3), (6, 0, 1)]  # world size, workers, micro-batch


@pytest.mark.parametrize("recipe", ["syncnet", "identity", "appearance"])  # the motion model's: test_order.py
@pytest.mark.parametrize(("world", "workers", "micro"), SPLITS_OF_WORK)
def test_every_recipe_is_the_same_at_any_world_size_and_worker_count(shards, alone, recipe, world, workers, micro):
    assert sorted(alone[recipe]) == list(range(STEPS * GLOBAL_BATCH))
    assert_same(run(RECIPES[recipe](Manifest.load(shards), DRAWN), world, workers, micro), alone[recipe])


@pytest.mark.parametrize("recipe", RECIPES)
def test_stopped_anywhere_and_resumed_elsewhere_it_is_the_same(shards, alone, recipe):
    """At random steps, each leg at another world size and worker count; what was made ahead is thrown away."""
    random = np.random.default_rng(len(recipe))
    for _ in range(2):
        cuts = sorted({0, STEPS, *random.integers(1, STEPS, 2).tolist()})
        made = Consumed()
        for start, until in itertools.pairwise(cuts):
            world, workers, micro = SPLITS_OF_WORK[int(random.integers(len(SPLITS_OF_WORK)))]
            examples = RECIPES[recipe](Manifest.load(shards), DRAWN)
            made.update(run(examples, world, workers, micro, start, until=until))
        assert_same(made, alone[recipe])


def test_recipes_and_seeds_do_not_share_their_examples(shards, alone):
    other = run(SyncExamples(Manifest.load(shards), SamplingConfig(seed=4), 12, 0.1))
    assert [one["key"] for one in other.values()] != [one["key"] for one in alone["syncnet"].values()]


@given(st.text("0123456789abcdef", min_size=1, max_size=32), st.integers(0, 2**63), st.integers(0, 2**62))
@settings(max_examples=30, deadline=None)
def test_random_numbers_are_philox_keyed_by_digest_and_seed(digest, seed, slot):
    """As documented, so that a run begun by an older version goes on with the same numbers."""
    key = int.from_bytes(hashlib.blake2b(f"{digest}:{seed}".encode(), digest_size=16).digest(), "big")
    expected = np.random.Generator(np.random.Philox(key=key, counter=[0, 7, slot, Purpose.SOURCE]))
    own = slot_random(digest, seed, slot, Purpose.SOURCE, 7)
    assert own.random(5).tolist() == expected.random(5).tolist()
    assert own.integers(1 << 40, size=5).tolist() == expected.integers(1 << 40, size=5).tolist()


# Order, epochs and proportions

SPLIT_NAMES = st.sampled_from(["train", "train", "train", "val"])
ROWS = st.tuples(st.sampled_from("abc"), SPLIT_NAMES, st.integers(1, 9))  # corpus, split, frames
SHARDS = st.lists(st.lists(ROWS, min_size=1, max_size=7), min_size=1, max_size=9)
REPEATS = st.dictionaries(st.sampled_from("abc"), st.sampled_from([0, 0.1, 0.5, 1, 2, 2.5, 3]), max_size=3)
FEW = settings(max_examples=40, deadline=None)


def index(shapes: list[list[tuple[str, str, int]]], **more: list) -> Manifest:
    """A manifest in memory. Keys tell the place; a person is in one split and one corpus."""
    rows = [(shard, place, *row) for shard, some in enumerate(shapes) for place, row in enumerate(some)]
    columns = {
        "key": [f"{shard}-{place}" for shard, place, *_ in rows],
        "identity": [f"{corpus}/{split}" for *_, corpus, split, _ in rows],
        "corpus": [corpus for *_, corpus, _, _ in rows],
        "split": [split for *_, split, _ in rows],
        "frames": [frames for *_, frames in rows],
        "shard": [shard for shard, *_ in rows],
    }
    return Manifest(Path("nowhere"), {}, pa.table({**columns, **more}))


@pytest.mark.parametrize("name", ["corpus", "split"])
def test_rows_without_a_corpus_or_split_are_of_none(tmp_path, name):
    """As a table may come that others made; read in pieces from its file, and in memory."""
    made = index([[("a", "train", 5)] * 3, [("b", "train", 5)] * 2])
    values = [*made.column(name)[:4].tolist(), None]
    table = made.table.set_column(made.names.index(name), name, pa.array(values, pa.string()))
    manifest_update.save(tmp_path, table, {})
    for other in (Manifest(tmp_path, {}, table), Manifest.load(tmp_path)):
        chosen = select(other, "train", ("frames",))
        expected = {"a": 3, "b": 1, "": 1} if name == "corpus" else {"a": 3, "b": 1}
        assert chosen.clips == expected
        assert other.rows("train").tolist() == chosen.rows_n.tolist()
        order = Order(chosen, 0, repeats={"b": 2.0})
        met = Counter(order.row(n) for n in range(len(chosen) + 1))  # one epoch, in which b's clip comes twice
        assert met == {row: 2 if row == 3 else 1 for row in chosen.rows_n.tolist()}


def test_a_manifest_of_no_clips_is_refused(tmp_path):
    manifest_update.save(tmp_path, index([[("a", "train", 5)]]).table.slice(0, 0), {})
    with pytest.raises(UserError, match="no clip is in split 'train'"):
        select(Manifest.load(tmp_path), "train", ("frames",))


def drawn_from(made: Manifest, repeats: dict[str, float], **more) -> Selection:
    """The selection of the train split; tries what draws nothing again."""
    known = set(made.column("corpus").tolist())
    asked = {name: times for name, times in repeats.items() if name in known}
    try:
        return select(made, "train", ("frames",), repeats=asked, **more)
    except UserError:
        assume(False)
        raise


def keys(made: Manifest, order: Order, numbers) -> list[str]:
    return [str(made.column("key")[order.row(n)]) for n in numbers]


@given(SHARDS, REPEATS, st.integers(0, 2**40), st.integers(1, 4))
@FEW
def test_each_clip_comes_once_in_every_epoch_of_its_corpus_and_corpora_keep_their_shares(
    shapes, repeats, seed, block_shards
):
    """By less than one slot, at every n."""
    made = index(shapes)
    chosen = drawn_from(made, repeats)
    order = Order(chosen, seed, block_shards, repeats)
    count = 4 * len(chosen) + 7
    rows = [order.row(n) for n in range(count)]
    corpus = made.column("corpus")
    by_corpus = {name: [row for row in rows if corpus[row] == name] for name in chosen.clips}
    weights = {name: clips * Fraction(str(repeats.get(name, 1))) for name, clips in chosen.clips.items()}
    for name, drawn in by_corpus.items():
        clips_of = chosen.clips[name]
        for epoch in range(len(drawn) // clips_of):
            some = drawn[epoch * clips_of : (epoch + 1) * clips_of]
            assert sorted(some) == sorted(chosen.of_corpus(name).tolist())
        share = weights[name] / sum(weights.values())
        met = np.cumsum([corpus[row] == name for row in rows])
        assert all(abs(int(n_met) - share * (n + 1)) < 1 for n, n_met in enumerate(met.tolist()))


@given(SHARDS, SHARDS, REPEATS, st.integers(0, 99), st.lists(st.integers(0, 10**12), max_size=5))
@FEW
def test_the_order_depends_on_nothing_but_what_is_selected(shapes, later, repeats, seed, far):
    """Not on rows that are not drawn, appended shards, other columns, the asking before, or pieces read at once."""
    made = index(shapes)
    chosen = drawn_from(made, repeats)
    order = Order(chosen, seed, repeats=repeats)
    numbers = [*range(2 * len(chosen) + 3), *far]
    expected = keys(made, order, numbers)
    assert keys(made, Order(chosen, seed, repeats=repeats), reversed(numbers)) == expected[::-1]

    def again(other: Manifest, **more) -> None:
        held = drawn_from(other, repeats, **more)
        assert held.digest == chosen.digest
        assert held.clips == chosen.clips
        assert keys(other, Order(held, seed, repeats=repeats), numbers) == expected

    again(index([*shapes, *later]), shards_until=len(shapes))
    again(index(shapes, blur=list(range(len(made)))))
    there = np.isin(np.arange(len(made)), chosen.rows_n)
    again(Manifest(Path("nowhere"), {}, made.table.filter(pa.array(there))))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(manifest_update, "GROUP_ROWS", 3)
        patch.setattr(table_columns, "BATCH_GROUPS", 2)
        manifest_update.save(Path(folder), made.table, {})
        again(Manifest.load(folder))


@given(st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=12, max_size=12))
@settings(max_examples=10, deadline=None)
def test_the_digest_of_whole_numbers_does_not_depend_on_the_pieces_they_are_read_in(values):
    """Where some are missing."""
    made = index([[("a", "train", 5)] * 4] * 3, sync_offset=pa.array(values, pa.int32()))
    expected = select(made, "train", ("sync_offset",)).digest
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(manifest_update, "GROUP_ROWS", 2)
        patch.setattr(table_columns, "BATCH_GROUPS", 1)
        manifest_update.save(Path(folder), made.table, {})
        assert select(Manifest.load(folder), "train", ("sync_offset",)).digest == expected


@given(SHARDS, st.integers(1, 9))
@FEW
def test_a_filter_keeps_what_it_says_and_drawn_once_gives_each_clip_once(shapes, least):
    made = index(shapes)
    expected = [row for row in range(len(made)) if made.at(row, "split") == "train" and made.at(row, "frames") >= least]
    assume(expected)
    sampling = SamplingConfig(where=f"frames >= {least}", once=True)
    windows = Windows(made, sampling, ("frames",), Purpose.SYNC_WINDOW, 1, 4, least_frames=1)
    assert windows.selection.rows_n.tolist() == expected
    assert [windows.example(n).window.row for n in range(len(windows))] == expected
    train = (made.column("split") == "train").sum()
    assert windows.selection.dropped == {f"frames >= {least}": int(train) - len(expected)}
    usable = made.column("frames") >= least
    assert select(made, "train", ("frames",), usable=usable).digest == windows.selection.digest


@given(st.lists(st.floats(0.5, 250), max_size=40), st.integers(1, 9))
@FEW
def test_items_shared_once_are_shared_evenly(costs, world):
    held = shared_once(costs, world)
    assert len(held) == world
    assert sorted(place for some in held for place in some.tolist()) == list(range(len(costs)))
    loads = [sum(costs[place] for place in some) for some in held]
    assert max(loads) - min(loads) <= max(costs, default=0) + 1e-9


@pytest.mark.parametrize("world", [1, 3])
def test_corpora_are_mixed_as_asked(mixed, world):
    """Through files and worker processes: a comes three times as often as its clips are many."""
    repeats = {"a": 1.5, "b": 0.5}
    examples = RECIPES["identity"](Manifest.load(mixed), SamplingConfig(seed=1, repeats=repeats))
    made = run(examples, world, 1, 4)
    of = dict(zip(examples.manifest.column("key"), examples.manifest.column("corpus")))
    assert examples.selection.clips == {"a": 6, "b": 6}
    assert Counter(of[one["key"]] for one in made.values()) == {"a": 36, "b": 12}
    assert Counter(one["key"] for one in made.values() if of[one["key"]] == "a").most_common()[-1][1] == 6


# Annotation and growth


def annotated(folder: Path, name: str = "sync_confidence", values: pa.Array | None = None) -> None:
    """Append a column, as annotate does."""
    made = Manifest.load(folder)
    values = pa.array(np.linspace(-2, 2, len(made))) if values is None else values
    manifest_update.save(folder, made.table.append_column(name, values), made.header)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("workers", [0, 1])
def test_annotating_in_the_middle_of_a_run_disturbs_nothing(shards, alone, tmp_path, monkeypatch, recipe, workers):
    """Neither the stream that is under way, on the manifest it has open, nor the one that goes on with the new one."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    monkeypatch.setattr(manifest_update, "GROUP_ROWS", 3)  # so that not all of the table is held when it is replaced
    monkeypatch.setattr(table_columns, "HELD_GROUPS", 1)
    whole = Manifest.load(folder)
    manifest_update.save(folder, whole.table, whole.header)
    examples = RECIPES[recipe](Manifest.load(folder), DRAWN)
    made = Consumed()
    own = loader.SlotStream(examples, GLOBAL_BATCH, 4, 0, 1, 0, 3)
    with contextlib.closing(loader.load(own, workers, prefetch=2)) as batches:
        made.add(next(batches))
        annotated(folder)
        after = Manifest.load(folder)
        manifest_update.save(folder, after.table.slice(0, 4), after.header)  # far more than annotating does
        for batch in batches:
            made.add(batch)
    manifest_update.save(folder, after.table, after.header)
    assert after.digest != examples.manifest.digest
    fresh = RECIPES[recipe](Manifest.load(folder), DRAWN)
    assert fresh.selection.digest == examples.selection.digest
    made.update(run(fresh, 2, workers, 3, start=3))
    assert_same(made, alone[recipe])


@pytest.mark.parametrize("recipe", RECIPES)
def test_shards_appended_behind_the_pinned_ones_change_nothing(shards, alone, tmp_path, recipe):
    """Four more people to train, two of them of a corpus that was not there before."""
    longer = write(tmp_path / "longer", {"val": 2, "train": 10})
    before, after = Manifest.load(shards), Manifest.load(longer)
    assert (before.shards_until, after.shards_until) == (4, 6)
    assert (longer / "motion-000003.tar").read_bytes() == (shards / "motion-000003.tar").read_bytes()
    corpora = pa.array(["test"] * 20 + ["new"] * 4)
    place = after.table.column_names.index("corpus")
    manifest_update.save(longer, after.table.set_column(place, "corpus", corpora), after.header)
    pinned = RECIPES[recipe](Manifest.load(longer), SamplingConfig(seed=3, shards_until=4))
    assert_same(run(pinned, 2, 0, 3), alone[recipe])
    assert RECIPES[recipe](Manifest.load(longer), DRAWN).selection.digest != pinned.selection.digest


# The sound that is late


def sound(folder: Path, key: str) -> np.ndarray:
    """All samples of a clip, read as any program would."""
    for path in sorted(folder.glob("motion-*.tar")):
        with tarfile.open(path) as tar:
            if f"{key}.audio.wav" in tar.getnames():
                member = tar.extractfile(f"{key}.audio.wav")
                assert member is not None
                return np.frombuffer(member.read()[AUDIO_HEADER:], "<i2") / np.float32(32768)
    raise AssertionError(key)


OFFSETS = [3.0, -2.0, 0.0, 0.5, -1.25, float("nan"), None, 7.0]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int32()], ids=str)
def test_an_annotated_offset_shifts_the_sound_and_keeps_windows_where_it_is(shards, tmp_path, kind):
    folder = shutil.copytree(shards, tmp_path / "shards")
    plain = Manifest.load(folder)
    values = [OFFSETS[row % len(OFFSETS)] for row in range(len(plain))]
    if pa.types.is_integer(kind):
        values = [None if value is None or value != value else int(value) for value in values]
    annotated(folder, "sync_offset", pa.array(values, kind))
    made = Manifest.load(folder)
    late = {key: 0.0 if v is None or v != v else v for key, v in zip(made.column("key"), values)}
    frames = dict(zip(made.column("key"), made.column("frames").tolist()))
    met = set()

    def expected(key: str, start: int, stop: int) -> torch.Tensor:
        first, last = (round((at + late[key]) * SAMPLES_PER_FRAME) for at in (start, stop))
        assert 0 <= first < last <= frames[key] * SAMPLES_PER_FRAME, "the clip holds all that is heard"
        return torch.from_numpy(sound(folder, key)[first:last])

    for recipe in ("motion", "syncnet"):
        examples = RECIPES[recipe](made, DRAWN)
        assert examples.selection.digest != RECIPES[recipe](plain, DRAWN).selection.digest
        for slot in range(30):
            batch = examples([slot])
            place, source = examples.windows.example(slot)
            key = batch.keys_B[0]
            met.add(key)
            length = place.stop - place.start
            assert torch.equal(batch.audio_BS[0, : length * 640], expected(key, place.start, place.stop))
            if source is not None:
                heard = expected(str(made.at(source.row, "key")), source.start, source.stop)
                assert torch.equal(batch.source_audio_BS[0, : len(heard)], heard)
            points = reader.read_landmarks(plain, place.row, place.start, place.stop)
            assert torch.equal(batch.landmarks_BTN3[0, :length], torch.from_numpy(points)), "pictures are not shifted"
    assert len(met) == 12
    for recipe in ("identity", "appearance"):
        assert RECIPES[recipe](made, DRAWN).selection.digest == RECIPES[recipe](plain, DRAWN).selection.digest


def test_offsets_that_say_nothing_change_no_sound(shards, alone, tmp_path):
    """Missing everywhere: the windows are drawn anew, as the column is new, and the sound is that of the frames."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    annotated(folder, "sync_offset", pa.array([None] * len(Manifest.load(folder)), pa.float64()))
    made = Manifest.load(folder)
    examples = RECIPES["syncnet"](made, DRAWN)
    for slot in range(6):
        batch, place = examples([slot]), examples.windows.example(slot).window
        whole = torch.from_numpy(sound(folder, batch.keys_B[0]))
        expected = whole[place.start * 640 : place.stop * 640]
        assert torch.equal(batch.audio_BS[0, : len(expected)], expected)


def test_a_clip_whose_sound_is_all_elsewhere_is_not_heard(shards, tmp_path):
    folder = shutil.copytree(shards, tmp_path / "shards")
    values = [500.0 if row == 5 else 0.0 for row in range(len(Manifest.load(folder)))]
    annotated(folder, "sync_offset", pa.array(values))
    made = Manifest.load(folder)
    assert 5 not in RECIPES["syncnet"](made, DRAWN).selection.rows_n
    assert 5 in RECIPES["identity"](made, DRAWN).selection.rows_n


# Damage


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def ranges(examples: Examples, slot: int, attempt: int = 0) -> list[tuple[str, int, int]]:
    """(tar, start, stop) of the bytes of each member of a slot's windows, by the layout of members."""
    made, found = examples.manifest, []
    example = examples.windows.example(slot, attempt)
    whole = isinstance(examples, AppearanceExamples)
    for place in [place for place in example if place is not None]:
        start, stop = (0, int(made.at(place.row, "frames"))) if whole else (place.start, place.stop)
        tar = f"motion-{int(made.at(place.row, 'shard')):06d}.tar"
        begin = int(made.at(place.row, "landmarks_offset")) + LANDMARKS_HEADER
        found.append((tar, begin + start * FRAME_BYTES, begin + stop * FRAME_BYTES))
        if isinstance(examples, (MotionExamples, SyncExamples)):
            begin = int(made.at(place.row, "audio_offset")) + AUDIO_HEADER
            found.append((tar, begin + start * AUDIO_FRAME_BYTES, begin + stop * AUDIO_FRAME_BYTES))
    return found


def touches(examples: Examples, slot: int, attempt: int, tar: str, offset: int) -> bool:
    """Whether the block of 16 KiB with this byte holds any of what a slot reads."""
    block = offset // 16384
    return any(
        name == tar and start // 16384 <= block <= (stop - 1) // 16384
        for name, start, stop in ranges(examples, slot, attempt)
    )


def assert_substituted(made: Consumed, whole: Examples, reason: str) -> None:
    """Every slot holds what its attempt holds in undamaged shards; failures are named in order, with their reason."""
    corpus = dict(zip(whole.manifest.column("key"), whole.manifest.column("corpus")))
    failed = Counter(bad.slot for bad in made.bad)
    for slot, example in made.items():
        tried = whole.windows.example(slot, failed[slot])
        read = whole.read([slot], [tried])
        assert_same_example(slot, example, content(whole.collate([slot], [tried], read), 0))
        first = whole.windows.example(slot).window.row
        assert corpus[example["key"]] == whole.manifest.at(first, "corpus"), "of the same corpus"
    seen: Counter = Counter()
    for bad in made.sorted_bad():
        attempt = whole.windows.example(bad.slot, seen[bad.slot])
        assert bad.key in [whole.manifest.at(place.row, "key") for place in attempt if place is not None]
        assert (bad.corpus, bad.reason) == (corpus[bad.key], reason)
        assert "\n" not in bad.message
        seen[bad.slot] += 1


@pytest.fixture(scope="module")
def shared_people(mixed, tmp_path_factory) -> Path:
    """The same, but of each person one half of the clips is in either corpus: a source may be of the other one."""
    folder = shutil.copytree(mixed, tmp_path_factory.mktemp("shared") / "shards")
    made = Manifest.load(folder)
    corpora = pa.array([TWO_CORPORA[row % 2] for row in range(len(made))])
    manifest_update.save(folder, made.table.set_column(made.names.index("corpus"), "corpus", corpora), made.header)
    return folder


@pytest.mark.parametrize("of", ["target", "source"])
def test_a_flipped_byte_costs_the_windows_of_its_block_and_no_others(shared_people, tmp_path, of):
    """The same substitutes whoever reads; the byte lies in a window of slot 5, or in its source."""
    mixed = shared_people
    whole = RECIPES["motion"](Manifest.load(mixed), DRAWN)
    tar, start, stop = ranges(whole, 5)[0 if of == "target" else 2]
    folder = shutil.copytree(mixed, tmp_path / "shards")
    flip(folder / tar, offset := (start + stop) // 2)
    damaged = RECIPES["motion"](Manifest.load(folder), DRAWN)
    assert damaged.selection.digest == whole.selection.digest
    made, unhurt = run(damaged), run(whole)
    assert_substituted(made, whole, "checksum")
    hit = {slot for slot in made if touches(whole, slot, 0, tar, offset)}
    assert {bad.slot for bad in made.bad} == hit >= {5}
    assert 0 < len(hit) < len(made) / 2
    for slot in set(made) - hit:
        assert_same_example(slot, made[slot], unhurt[slot])
    for slot in hit:
        assert not touches(whole, slot, Counter(bad.slot for bad in made.bad)[slot], tar, offset)
    for world, workers, micro in [(1, 3, 4), (2, 1, 2), (3, 0, 4)]:
        other = run(damaged, world, workers, micro)
        assert_same(other, made)
        assert other.sorted_bad() == made.sorted_bad()


def cut_tar(folder: Path) -> str:
    os.truncate(folder / "motion-000002.tar", 70_000)
    return "short"


def cut_member(folder: Path) -> str:
    made = Manifest.load(folder)
    sizes = made.column("landmarks_size").copy()
    sizes[8:10] -= 3000
    place = made.table.column_names.index("landmarks_size")
    manifest_update.save(folder, made.table.set_column(place, "landmarks_size", pa.array(sizes)), made.header)
    return "layout"


def bad_sums(folder: Path) -> str:
    flip(folder / "motion-000002.crc", 9)
    return "checksums"


def short_sums(folder: Path) -> str:
    os.truncate(folder / "motion-000002.crc", 12)
    return "checksums"


def not_finite(folder: Path) -> str:
    """Written so: the sums are right."""
    made = Manifest.load(folder)
    path = folder / "motion-000002.tar"
    data = bytearray(path.read_bytes())
    at = int(made.at(8, "landmarks_offset")) + LANDMARKS_HEADER + 10 * FRAME_BYTES + 700
    data[at : at + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    checksums.write(path, folder / "motion-000002.crc")
    return "not_finite"


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("damage", [cut_tar, cut_member, bad_sums, short_sums, not_finite])
def test_every_damage_is_substituted_alike_at_any_world_size(mixed, tmp_path, damage, recipe):
    folder = shutil.copytree(mixed, tmp_path / "shards")
    reason = damage(folder)
    whole = RECIPES[recipe](Manifest.load(mixed), DRAWN)
    damaged = RECIPES[recipe](Manifest.load(folder), DRAWN)
    made = run(damaged, stop=2)
    assert made.bad
    assert_substituted(made, whole, reason)
    world, workers = {"motion": (2, 1), "syncnet": (3, 0), "identity": (2, 0), "appearance": (3, 0)}[recipe]
    other = run(damaged, world, workers, 2, stop=2)
    assert_same(other, made)
    assert other.sorted_bad() == made.sorted_bad()


@pytest.mark.parametrize(("reason", "part"), [("checksum", "pictures"), ("corrupt", "index"), ("corrupt", "pictures")])
def test_damaged_pictures_are_substituted(mixed, tmp_path, reason, part):
    """Flipped, or written as noise under right sums; what needs no pictures does not notice."""
    folder = shutil.copytree(mixed, tmp_path / "shards")
    before = Manifest.load(folder)
    path = folder / "frames-000002.tar"
    offset, size = (int(before.at(9, f"video_{what}")) for what in ("offset", "size"))
    if reason == "checksum":
        flip(path, offset + size // 2)
    else:
        data = bytearray(path.read_bytes())
        begin = offset + 48 if part == "index" else data.index(b"mdat", offset) + 4
        data[begin : offset + size] = np.random.default_rng(0).bytes(offset + size - begin)
        path.write_bytes(data)
        checksums.write(path, folder / "frames-000002.crc")
    whole, damaged = (RECIPES["appearance"](Manifest.load(where), DRAWN) for where in (mixed, folder))
    made = run(damaged)
    assert {bad.reason for bad in made.bad} == {reason}
    assert before.at(9, "key") in {bad.key for bad in made.bad}
    assert_substituted(made, whole, reason)
    other = run(damaged, 2, 1, 3)
    assert_same(other, made)
    assert other.sorted_bad() == made.sorted_bad()
    assert not run(RECIPES["motion"](Manifest.load(folder), DRAWN), stop=1).bad


def test_a_corpus_that_is_all_damaged_is_an_error_of_its_clip(mixed, tmp_path):
    """After so many draws; the other corpus's slots are read."""
    folder = shutil.copytree(mixed, tmp_path / "shards")
    made = Manifest.load(folder)
    for row in np.flatnonzero(made.column("corpus") == "a"):
        at = int(made.at(row, "landmarks_offset")) + 200
        path = folder / f"motion-{int(made.at(row, 'shard')):06d}.tar"
        data = bytearray(path.read_bytes())
        data[at : at + 20 * FRAME_BYTES] = b"\xff" * (20 * FRAME_BYTES)
        path.write_bytes(data)
        checksums.write(path, path.with_suffix(".crc"))
    examples = RECIPES["identity"](made, DRAWN)
    of = [made.at(examples.windows.row(n), "corpus") for n in range(GLOBAL_BATCH)]
    assert not examples([of.index("b")]).bad
    for workers in (0, 1):
        with pytest.raises(ClipError, match="not finite; mend its shard") as raised:
            list(loader.load(loader.SlotStream(examples, 1, 1, 0, 1, of.index("a"), GLOBAL_BATCH), workers))
        assert (raised.value.reason, str(raised.value).count("\n")) == ("not_finite", 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_drawn_once_a_damaged_clip_is_an_error_and_the_others_are_read(mixed, tmp_path, recipe):
    folder = shutil.copytree(mixed, tmp_path / "shards")
    reason = cut_member(folder)
    made = Manifest.load(folder)
    examples = RECIPES[recipe](made, SamplingConfig(once=True))
    hurt = set(made.column("key")[8:10])
    for slot in range(len(examples)):
        rows = [place.row for place in examples.windows.example(slot) if place is not None]
        if hurt & {made.at(row, "key") for row in rows}:
            with pytest.raises(ClipError) as raised:
                examples([slot])
            assert raised.value.reason == reason
            assert raised.value.key in hurt
        else:
            batch = examples([slot])
            assert not batch.bad
            assert batch.keys_B == [made.at(examples.selection.rows_n[slot], "key")]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_gone_is_no_damage(shards, tmp_path, workers):
    folder = shutil.copytree(shards, tmp_path / "shards")
    (folder / "motion-000002.tar").unlink()
    with pytest.raises(FileNotFoundError) as raised:
        run(RECIPES["motion"](Manifest.load(folder), DRAWN), workers=workers)
    assert "motion-000002.tar" in str(raised.value.filename)


# Networks


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


# The plan


class Counting(Store):
    """Adds up what is asked of the motion column's tars."""

    asked_bytes = 0

    def each(self, ranges):
        self.asked_bytes += sum(size for name, _, size in ranges if name.startswith("motion"))
        return super().each(ranges)


def planned(*typed: str) -> dict:
    return plan.plan(plan.arguments().parse_args([str(part) for part in typed]))


SIZES = {
    "motion": ["--min-frames", "8", "--max-frames", "14", "--source-frames", "6"],
    "syncnet": ["--max-frames", "12"],
    "identity": ["--min-frames", "6", "--max-frames", "10"],
    "appearance": [],
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("world", [1, 3])
def test_the_plan_is_what_is_then_consumed(mixed, recipe, world):
    """Each rank's slots in its order, keys and windows, the bytes that it asks for; mixed, filtered and pinned."""
    typed = ["--global-batch", GLOBAL_BATCH, "--world-size", world, "--max-micro-batch", 2, "--seed", 3]
    chosen = ["--where", "frames >= 21", "--repeats", "a=2", "--repeats", "b=0.5", "--shards-until", 4]
    spread = ["--start", 24, "--stop", 48]
    made = planned(mixed, "--recipe", recipe, *typed, *chosen, *spread, *SIZES[recipe])
    made = json.loads(json.dumps(made))
    store = Counting(mixed)
    drawn = SamplingConfig("train", 3, "frames >= 21", {"a": 2.0, "b": 0.5}, 4)
    examples = RECIPES[recipe](Manifest.load(mixed, store), drawn)
    assert made["selection"] == examples.selection.digest
    for rank in range(world):
        said = [one for one in made["slots"] if one["rank"] == rank]
        asked = 0
        numbers = [n for some in micro_batches(GLOBAL_BATCH, 2, rank, world, 2, 4) for n in some]
        assert [one["slot"] for one in said] == numbers
        for one in said:
            store.asked_bytes = 0
            batch = examples([one["slot"]])
            asked += store.asked_bytes
            assert store.asked_bytes == one["bytes"]
            assert (one["key"], one["window"][0]) == (batch.keys_B[0], int(batch.starts_B[0]))
            assert one["step"] == one["slot"] // GLOBAL_BATCH
            if recipe != "appearance":
                assert one["window"][1] - one["window"][0] == int(batch.mask_BT[0].sum())
        assert made["ranks"][rank] == {"rank": rank, "slots": len(numbers), "bytes": asked}
    frames, split = examples.manifest.column("frames"), examples.manifest.column("split")
    dropped = int((frames[split == "train"] < 21).sum())
    assert made["dropped"] == {"frames >= 21": dropped}
    assert made["clips"] == {"manifest": 16, "split": 12, "selected": 12 - dropped}
    counts = examples.selection.clips
    weights = {"a": 2 * counts["a"], "b": counts["b"] / 2}
    for name, corpus in made["corpora"].items():
        assert corpus["clips"] == counts[name]
        assert corpus["share"] == pytest.approx(weights[name] / sum(weights.values()))
    epoch = sum(corpus["clips"] * {"a": 2, "b": 0.5}.get(name, 1) for name, corpus in made["corpora"].items())
    assert made["steps_per_epoch"] == pytest.approx(epoch / GLOBAL_BATCH)
    alone = planned(mixed, "--recipe", recipe, *typed, *chosen, *spread, *SIZES[recipe], "--rank", world - 1)
    assert alone["slots"] == [one for one in made["slots"] if one["rank"] == world - 1]
    assert [rank["rank"] for rank in alone["ranks"]] == [world - 1]


def test_the_plan_takes_the_settings_of_a_run(shards, command):
    """As typed by a user, whose run deals micro-batches of two: of eight examples, rank 1 holds slots 2, 3, 6, 7."""
    tiny = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
    said = command("-m", "data_pipeline", "plan", str(shards), "--config", tiny, "--world-size", "2", "--json")
    assert said.returncode == 0, said.stderr
    made = json.loads(said.stdout)
    assert (made["global_batch"], made["stop"], made["world_size"]) == (8, 8, 2)
    assert [one["slot"] for one in made["slots"] if one["rank"] == 1] == [2, 3, 6, 7]
    examples = MotionExamples(Manifest.load(shards), SamplingConfig(seed=1), WindowConfig(12, 24, 10))
    batch = examples(list(range(8)))
    by_slot = {one["slot"]: one for one in made["slots"]}
    assert [by_slot[n]["key"] for n in range(8)] == batch.keys_B
    assert [by_slot[n]["window"][0] for n in range(8)] == batch.starts_B.tolist()
    assert all(set(one) >= {"slot", "key", "window", "rank", "bytes", "source"} for one in made["slots"])


def test_the_plan_in_words(mixed, command):
    typed = [str(mixed), "--global-batch", "30", "--where", "frames >= 22 and yaw_deg < 30", "--recipe", "identity"]
    said = command("-m", "data_pipeline", "plan", *typed)
    assert said.returncode == 0, said.stderr
    made = planned(*typed)
    lines = said.stdout.splitlines()
    assert f"16 clips, 12 in the split, {made['clips']['selected']} selected" in lines[0]
    assert f"dropped   {made['dropped']['frames >= 22']} by 'frames >= 22' alone" in lines
    assert "dropped   0 by 'yaw_deg < 30' alone" in lines
    assert made["selection"] in said.stdout
    assert sum(line.startswith("corpus ") for line in lines) == 2
    assert sum(line.startswith("slot ") for line in lines) == 20
    assert lines[-1] == "and 10 slots more; --json lists all"
    first = made["slots"][0]
    assert f"{first['key']} {first['window']}" in said.stdout


WRONG = [
    (["--where", "frams > 3"], "did you mean frames"),
    (["--where", "frames > 999"], "the filter leaves nothing"),
    (["--repeats", "x=2"], "corpus 'x'"),
    (["--repeats", "a"], "not CORPUS=NUMBER"),
    (["--repeats", "a=-1"], "give a number"),
    (["--repeats", "a=0", "--repeats", "b=0"], "nothing of split 'train' is left"),
    (["--rank", "2", "--world-size", "2"], "--rank must lie between 0 and 1"),
    (["--global-batch", "7", "--world-size", "2"], "global"),
    (["--world-size", "0"], "--world-size"),
    (["--start", "9", "--stop", "3"], "--start 9"),
    (["--min-frames", "90", "--max-frames", "10"], "window.min_frames 90"),
    (["--recipe", "syncnet", "--max-frames", "0"], "window.min_frames must be 1 or more"),
    (["--recipe", "identity", "--max-frames", "3"], "window.max_frames 3"),
    (["--config", "no.yaml"], "no.yaml"),
    (["--config", "{torn}"], "not YAML"),
    (["--config", "{list}"], "holds no settings"),
    (["--config", "{unknown}"], "widht"),
    (["--config", "{text}"], "global_batch is 'ten'"),
    (["--split", "unseen"], "no clip is in split 'unseen'"),
]


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=lambda part: " ".join(part) if isinstance(part, list) else "")
def test_impossible_settings_of_a_plan_are_refused(mixed, tmp_path, typed, said):
    """With the class of errors that commands print in one line."""
    texts = {"torn": "a: [", "list": "[1, 2]", "unknown": "window: {widht: 3}", "text": "global_batch: ten"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    typed = [part.format(**{name: tmp_path / name for name in texts}) for part in typed]
    with pytest.raises((UserError, OSError)) as raised:
        planned(mixed, *typed)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_refused_plan_is_one_line(tmp_path, command):
    for typed in (["nowhere"], [str(tmp_path), "--where", "("]):
        said = command("-m", "data_pipeline", "plan", *typed)
        assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1)


def test_a_video_of_another_size_or_length_is_damage(filmed_shards, tmp_path):
    """As tars of others may hold it: no pixel of a batch is ever left unwritten."""
    folder = shutil.copytree(filmed_shards, tmp_path / "shards")
    before = Manifest.load(folder)
    whole = video_reader.read_video(before, 0, [0])
    assert whole.shape == (1, 256, 256, 3)
    for name, value, said in (("crop_px", 128, "and the crop 128 px"), ("frames", 12, "and the clip 12 frames")):
        place = before.table.column_names.index(name)
        kind = before.table.schema.field(name).type
        table = before.table.set_column(place, name, pa.array([value] * len(before), kind))
        other = Manifest(folder, before.header, table)
        (found,) = video_reader.read_frames(other, [(0, [0])])
        assert isinstance(found, ClipError)
        assert found.reason == "layout"
        assert said in str(found)


def test_a_place_past_the_end_of_its_shard_is_short(talker_shards):
    """Whatever a manifest says, nothing is made up and nothing crashes."""
    before = Manifest.load(talker_shards)
    bytes_ = before.header["shards"][0]["motion"]["bytes"]
    for offset in (bytes_ - 100, bytes_, bytes_ + 10**6):
        place = before.table.column_names.index("landmarks_offset")
        other = Manifest(
            talker_shards,
            before.header,
            before.table.set_column(place, "landmarks_offset", pa.array([offset] * len(before))),
        )
        (found,) = reader.read(other, [reader.ReadRequest(0, "landmarks", 0, 5)])
        assert isinstance(found, ClipError)
        assert found.reason == "short"


def test_the_ledger_counts_what_earlier_starts_met_unless_the_data_changed(tmp_path):
    """Lines past the checkpoint are of steps taken again; one damaged clip is always allowed."""
    first = BadExampleLog(tmp_path, {"a": 50}, 0.01, 0, writes=True)
    first.add([BadExample(3, "k1", "a", "short", "torn")])
    with pytest.raises(UserError, match=r"2 of 50 clips of corpus 'a' are damaged.*remove their lines there"):
        BadExampleLog(tmp_path, {"a": 50}, 0.01, 8, writes=False).add([BadExample(9, "k2", "a", "short", "torn")])
    BadExampleLog(tmp_path, {"a": 50}, 0.01, 3, writes=False).add([BadExample(9, "k2", "a", "short", "torn")])
    BadExampleLog(tmp_path, {"a": 50}, 0.01, 8, writes=False, anew=True).add(
        [BadExample(9, "k2", "a", "short", "torn")]
    )


def with_column(before: Manifest, name: str, values: list) -> Manifest:
    table = before.table
    if name in table.column_names:
        kind = table.schema.field(name).type
        return Manifest(
            before.folder, before.header, table.set_column(table.column_names.index(name), name, pa.array(values, kind))
        )
    return Manifest(before.folder, before.header, table.append_column(name, pa.array(values)))


def test_offsets_that_are_text_are_refused_and_infinite_ones_are_none(talker_shards):
    before = Manifest.load(talker_shards)
    with pytest.raises(UserError, match="sync_offset holds no numbers"):
        MotionExamples(
            with_column(before, "sync_offset", ["late"] * len(before)), SamplingConfig(), WindowConfig(12, 24, 10)
        )
    infinite = with_column(before, "sync_offset", [float("inf")] * len(before))
    plain = MotionExamples(
        with_column(before, "sync_offset", [0.0] * len(before)), SamplingConfig(), WindowConfig(12, 24, 10)
    )
    assert len(MotionExamples(infinite, SamplingConfig(), WindowConfig(12, 24, 10))) == len(plain)
    np.testing.assert_array_equal(reader.read_audio(infinite, 2), reader.read_audio(before, 2))


def test_validation_leaves_clips_without_a_video_out_and_training_refuses_them(filmed_shards):
    before = Manifest.load(filmed_shards)
    sizes = before.column("video_size").tolist()
    for split in ("train", "val"):
        row = int(before.rows(split)[0])
        other = with_column(before, "video_size", [0 if i == row else size for i, size in enumerate(sizes)])
        config = AppearanceConfig(), ReferenceConfig()
        if split == "train":
            with pytest.raises(UserError, match="leave it out with where='video_size > 0'"):
                AppearanceExamples(other, SamplingConfig(), *config)
            assert (
                row not in AppearanceExamples(other, SamplingConfig(where="video_size > 0"), *config).selection.rows_n
            )
        else:
            assert row not in AppearanceExamples(other, SamplingConfig("val", once=True), *config).selection.rows_n


def test_more_corpora_than_numbers_for_them_are_refused():
    count = MAX_CORPORA + 1
    names = {"key": [str(i) for i in range(count)], "corpus": [f"c{i}" for i in range(count)]}
    made = Manifest(Path("nowhere"), {}, pa.table({**names, "split": ["train"] * count, "shard": [0] * count}))
    with pytest.raises(UserError, match=f"{count} corpora are more than {count - 1}; merge some"):
        select(made, "train", ())


def test_a_plan_names_clips_that_cannot_be_and_goes_on(talker_shards, tmp_path, capsys):
    folder = shutil.copytree(talker_shards, tmp_path / "shards")
    before = Manifest.load(folder)
    row = int(before.rows("train")[0])
    sizes = before.column("landmarks_size").tolist()
    other = with_column(before, "landmarks_size", [9 if i == row else size for i, size in enumerate(sizes)])
    manifest_update.save(folder, other.table, before.header)
    args = plan.arguments().parse_args([str(folder), "--global-batch", "8", "--min-frames", "12", "--max-frames", "24"])
    made = plan.plan(args)
    assert list(made["damaged"]) == [str(before.at(row, "key"))]
    assert plan.run(args) == 0
    assert f"damaged   {before.at(row, 'key')}: 9 bytes of landmarks do not fit" in capsys.readouterr().out
