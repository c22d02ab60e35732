"""Each clip once an epoch, corpora in their shares, and an order that depends on nothing but what is selected."""

from __future__ import annotations

import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_pipeline.sample.batch_plan import shared_once
from data_pipeline.sample.order import Order
from data_pipeline.sample.selection import MAX_CORPORA, Selection, select
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import SamplingConfig, Windows
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import columns as table_columns
from mytalk.command import UserError
from tests.helpers.consumed import (
    RECIPES,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # 3 workers, however few the cores
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


def test_more_corpora_than_numbers_for_them_are_refused():
    count = MAX_CORPORA + 1
    names = {"key": [str(i) for i in range(count)], "corpus": [f"c{i}" for i in range(count)]}
    made = Manifest(Path("nowhere"), {}, pa.table({**names, "split": ["train"] * count, "shard": [0] * count}))
    with pytest.raises(UserError, match=f"{count} corpora are more than {count - 1}; merge some"):
        select(made, "train", ())
