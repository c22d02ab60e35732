"""Folders of ours, and tars beside them, in one manifest."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.annotate import command as annotate
from data_pipeline.annotate.annotation import Options
from data_pipeline.columns import column
from data_pipeline.examples.appearance import AppearanceExamples, ReferenceConfig
from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from data_pipeline.shards.table import merging
from data_pipeline.split import command as split
from data_pipeline.tasks.runner import Runner
from mytalk.command import UserError
from mytalk.networks.appearance.config import AppearanceConfig
from tests.helpers.indexing import (
    OPTIONS,
    alike,
    clip,
    copied,
    doubled,
    indexed,
    reasons,
    splits,
    state,
    tar_of,
)
from tests.helpers.killed import files


def test_examples_of_indexed_tars_are_those_of_the_originals(corpora, tmp_path):
    ours = tmp_path / "ours"
    shutil.copytree(corpora / "one", ours)
    out = tmp_path / "out"
    indexed(out, corpora / "theirs" / "*.tar", *OPTIONS)
    splits(ours), splits(out)
    one, other = Manifest.load(ours), Manifest.load(out)
    for name in ("key", "identity", "corpus", "split", "frames", "shard", "source", "source_sha256", "crop_px"):
        assert one.column(name).tolist() == other.column(name).tolist(), name
    config = SamplingConfig(), WindowConfig(5, 20, 10), MotionDraws(voice_stretch=0.2)
    motion = [MotionExamples(shards, *config) for shards in (one, other)]
    for slots in ([0, 1, 2], [3], [40, 41]):
        alike(*(examples(slots) for examples in motion))
    config = AppearanceConfig(), ReferenceConfig(2, 3)
    appearance = [AppearanceExamples(m, SamplingConfig(), *config) for m in (one, other)]
    alike(*(examples([0, 1, 5]) for examples in appearance))


def test_two_corpora_are_merged_and_dealt(corpora, tmp_path):
    out = tmp_path / "out"
    before = files(corpora)
    assert indexed(out, corpora / "one", corpora / "two") == 0
    assert {name: data for name, data in files(corpora).items() if name in before} == before
    merged = Manifest.load(out)
    sides = [Manifest.load(corpora / name) for name in ("one", "two")]
    assert merged.column("key").tolist() == [key for side in sides for key in side.column("key").tolist()]
    assert merged.column("split").tolist() == [value for side in sides for value in side.column("split").tolist()]
    first = len(sides[0])
    assert merged.column("shard")[first] == sides[0].shards_until
    for row in range(len(merged)):
        side, own = (sides[0], row) if row < first else (sides[1], row - first)
        for member in ("landmarks", "audio", "facts"):
            assert reader.read_member(merged, row, member) == reader.read_member(side, own, member)
    shard = int(merged.column("shard")[first])
    assert merged.shard_file("motion", shard).sums == os.path.relpath(corpora / "two", out) + "/motion-000000.crc" or (
        merged.shard_file("motion", shard).sums == str(corpora / "two" / "motion-000000.crc")
    )
    examples = MotionExamples(merged, SamplingConfig(repeats={"one": 2}), WindowConfig(5, 20, 10))
    batch = examples(list(range(30)))
    assert batch.bad == []
    dealt = [merged.at(examples.windows.row(slot), "corpus") for slot in range(30)]
    assert set(dealt) == {"one", "two"}
    for place, key in enumerate(batch.keys_B):
        side = next(side for side in sides if key in side.column("key").tolist())
        row = side.column("key").tolist().index(key)
        length, start = int(batch.mask_BT[place].sum()), int(batch.starts_B[place])
        whole = np.load(io.BytesIO(reader.read_member(side, row, "landmarks"))).astype(np.float32)
        np.testing.assert_array_equal(batch.landmarks_BTN3[place, :length], whole[start : start + length])
    pictures = AppearanceExamples(
        merged, SamplingConfig(where="video_size > 0"), AppearanceConfig(), ReferenceConfig(2, 3)
    )
    assert len(pictures([0, 1]).keys_B) == 2
    whole = state(out)
    indexed(out, corpora / "one", corpora / "two")
    assert {n: s for n, s in state(out).items() if n not in ("ledger.jsonl", "out")} == {
        n: s for n, s in whole.items() if n not in ("ledger.jsonl", "out")
    }


def test_tars_and_folders_in_one_call_and_a_merge_of_a_merge(corpora, tmp_path):
    tar = tar_of(tmp_path / "tars" / "x.tar", [("x0", clip(0, quality=1)), ("x1", clip(2)), ("train0-0", clip(4))])
    indexed(tmp_path / "mixed", corpora / "one", tar, "--corpus", "three", *OPTIONS)
    mixed = Manifest.load(tmp_path / "mixed")
    assert reasons(tmp_path / "mixed") == {"x0": "kept", "x1": "kept", "train0-0": "duplicate_key"}
    assert mixed.column("corpus").tolist()[-3:] == ["one", "three", "three"]
    assert mixed.table["quality"].to_pylist()[-3:] == [None, 1, None]
    indexed(tmp_path / "all", tmp_path / "mixed", corpora / "two")
    every = Manifest.load(tmp_path / "all")
    row = every.column("key").tolist().index("x1")
    assert reader.read_member(every, row, "audio") == clip(2)["wav"]
    assert every.shard_file("motion", int(every.at(row, "shard"))).name == "../tars/x.tar"
    with pytest.raises(UserError, match=r"clip train0-0 is in .*mixed and in .*one; leave one"):
        indexed(tmp_path / "twice", tmp_path / "mixed", corpora / "one")


def test_what_made_annotations_is_kept(corpora, tmp_path):
    """As the merged manifest's own where all folders have it alike; else under each folder; its own stays its own."""
    one, two = (shutil.copytree(corpora / name, tmp_path / name) for name in ("one", "two"))
    annotate.annotate(one, "speech", Options(), Runner(0))
    made = Manifest.load(one).header["annotations"]
    indexed(tmp_path / "mixed", one, two)
    mixed = Manifest.load(tmp_path / "mixed").header
    assert "annotations" not in mixed
    assert mixed["protocol"]["folders"]["../one"]["annotations"] == made
    annotate.annotate(two, "speech", Options(), Runner(0))
    indexed(tmp_path / "all", one, two)
    assert Manifest.load(tmp_path / "all").header["annotations"] == made
    annotate.annotate(tmp_path / "all", "speech", Options(), Runner(0))  # not "came with the shards"
    own = {"speech": {**made["speech"], "digest": "own"}}
    header = tmp_path / "all/manifest.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "annotations": own}))
    indexed(tmp_path / "all", one, two)
    assert Manifest.load(tmp_path / "all").header["annotations"] == own


def test_a_folder_that_grew_is_appended(corpora, tmp_path):
    tar_of(tmp_path / "tars" / "a.tar", [("x0", clip(0)), ("x1", clip(2))])
    mine = [tmp_path / "tars" / "*.tar", "--corpus", "three", *OPTIONS]
    indexed(tmp_path / "mine", *mine)

    def blurred(folder: Path, value: float) -> None:
        table, header, _ = manifest_update.stored(folder)
        manifest_update.save(folder, merging.set_column(table, "blurred", pa.array([value] * len(table))), header)

    blurred(tmp_path / "mine", 1)
    indexed(tmp_path / "all", tmp_path / "mine", corpora / "two")
    assert Manifest.load(tmp_path / "all").table["blurred"].to_pylist()[1:3] == [1.0, None]
    blurred(tmp_path / "all", 2)
    before = Manifest.load(tmp_path / "all")
    tar_of(tmp_path / "tars" / "b.tar", [("x2", clip(6)), ("x3", clip(8))])
    indexed(tmp_path / "mine", *mine)
    indexed(tmp_path / "all", corpora / "two", tmp_path / "mine")
    after = Manifest.load(tmp_path / "all")
    assert after.table.slice(0, len(before)).equals(before.table)
    assert after.column("key").tolist()[len(before) :] == ["x2", "x3"]
    assert after.table["blurred"].to_pylist()[-3:] == [2.0, None, None]
    assert after.column("shard").tolist()[-1] == before.shards_until


def test_a_leak_between_folders_is_refused_and_unsplit_mends_it(corpora, tmp_path):
    tars = copied(corpora / "plain", tmp_path / "tars", change=lambda facts: facts)
    other = tmp_path / "other"
    indexed(other, *tars, *OPTIONS)
    splits(other)
    table, header, _ = manifest_update.stored(other)
    people = table["identity"].to_pylist()
    turned = [
        {"train": "val", "val": "unseen", "unseen": "train"}[s] for s in Manifest.load(corpora / "two").column("split")
    ]
    manifest_update.save(other, merging.set_column(table, "split", pa.array(turned)), header)
    with pytest.raises(UserError, match=r"identity 'two/\w+' is in splits '\w+' and '\w+'; add --unsplit"):
        indexed(tmp_path / "out", corpora / "two", other)
    assert not (tmp_path / "out" / "manifest.json").exists()
    indexed(tmp_path / "out", corpora / "two", other, "--unsplit")
    splits(tmp_path / "out")
    assert len(Manifest.load(tmp_path / "out")) == 2 * len(people)


def test_splits_of_folders_stay_when_people_are_added(corpora, tmp_path):
    indexed(tmp_path / "mine", corpora / "theirs" / "*.tar", *OPTIONS)
    splits(tmp_path / "mine")
    samples = [(f"new{n}", clip(n)) for n in range(8)]
    tar = tar_of(tmp_path / "tars" / "x.tar", samples)
    out = tmp_path / "out"
    indexed(out, tar, "--corpus", "new", *OPTIONS)
    indexed(out, tmp_path / "mine")
    before = [""] * 8 + Manifest.load(tmp_path / "mine").column("split").tolist()
    assert Manifest.load(out).column("split").tolist() == before
    with pytest.raises(UserError, match="already split by"):
        split.run(split.arguments().parse_args([str(out), "--val", "0.1"]))
    splits(out)
    after = Manifest.load(out).column("split").tolist()
    assert after[8:] == before[8:]
    assert "" not in after


def test_columns_that_disagree_are_refused(corpora, tmp_path):
    for name, value in (("a", 1), ("b", "text")):
        tar = tar_of(tmp_path / name / "x.tar", [(name, clip(ord(name), level=value))])
        indexed(tmp_path / f"i{name}", tar, *OPTIONS)
    with pytest.raises(UserError, match=r"column 'level' holds numbers in .*ia and text in .*ib"):
        indexed(tmp_path / "out", tmp_path / "ia", tmp_path / "ib")


def test_columns_of_merged_and_grown_folders(corpora, tmp_path):
    shutil.copytree(corpora / "one", tmp_path / "one")
    column.add(tmp_path / "one", "pair", doubled, 2)
    out, sources = tmp_path / "out", [tmp_path / "one", corpora / "two"]
    indexed(out, *sources)
    merged = Manifest.load(out)
    last = len(merged) - 1
    good, none = reader.read(merged, [ReadRequest(3, "pair", 1, 4), ReadRequest(last, "pair", 1, 4)])
    assert good[:, 0].tolist() == [1, 2, 3]
    assert none.reason == "layout"
    assert "file" in merged.header["shards"][0]["pair"]
    column.add(out, "pair", doubled, 2)
    added = Manifest.load(out)
    assert not (out / "pair-000000.tar").exists()  # its folder's is used
    assert reader.read(added, [ReadRequest(last, "pair", 1, 4)])[0].tolist() == [[1, last], [2, last], [3, last]]
    before = files(out)
    indexed(out, *sources)
    assert files(out) == before
    tar = tar_of(tmp_path / "tars" / "x.tar", [("x0", clip(0)), ("x1", clip(2))])
    indexed(out, *sources, tar, "--corpus", "three", *OPTIONS)
    grown = Manifest.load(out)
    assert reader.read(grown, [ReadRequest(last, "pair", 1, 4)])[0].shape == (3, 2)
    assert reader.read(grown, [ReadRequest(last + 2, "pair", 1, 4)])[0].reason == "layout"
    assert column.add(out, "pair", doubled, 2).written == 2
    assert reader.read(Manifest.load(out), [ReadRequest(last + 2, "pair", 1, 4)])[0].shape == (3, 2)
    shutil.copytree(corpora / "two", tmp_path / "two")
    column.add(tmp_path / "two", "pair", lambda m, row: np.zeros((m.at(row, "frames"), 3)), 3)
    with pytest.raises(UserError, match="column 'pair' is not what it is elsewhere"):
        indexed(tmp_path / "clash", tmp_path / "one", tmp_path / "two")


def test_unsplit_is_for_a_new_folder(talker_shards, tmp_path):
    """In one that is there it would change nothing: said, with the command that assigns people anew."""
    assert indexed(tmp_path / "out", talker_shards) == 0
    with pytest.raises(UserError, match=r"--unsplit is for a new folder .* split .* --force"):
        indexed(tmp_path / "out", talker_shards, "--unsplit")
