"""The same `index` command again: nothing moves, what is new or changed is read, a killed one is continued."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.examples.motion import MotionExamples
from data_pipeline.index import third_party
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from tests.helpers.indexing import (
    OPTIONS,
    alike,
    clip,
    indexed,
    splits,
    state,
    tar_of,
)
from tests.helpers.killed import files, killed_after


def test_the_same_command_again_changes_nothing(tmp_path, monkeypatch):
    for name in "ab":
        tar_of(tmp_path / "tars" / f"{name}.tar", [(f"{name}{n}", clip(ord(name) * 10 + n)) for n in range(4)])
    out, command = tmp_path / "out", [tmp_path / "tars" / "*.tar", *OPTIONS]
    indexed(out, *command)
    splits(out)
    (before, bytes_before), ledger = (state(out), files(out)), "ledger.jsonl"
    monkeypatch.setattr(third_party, "read", lambda *_: pytest.fail("nothing has changed, and it was read again"))
    indexed(out, *command)
    assert files(out) == bytes_before
    assert {n: s for n, s in state(out).items() if n not in (ledger, "out")} == {
        n: s for n, s in before.items() if n not in (ledger, "out")
    }
    monkeypatch.undo()
    os.utime(tmp_path / "tars" / "a.tar")  # copied anew: read again, and the same is found
    manifest = (out / "manifest.json").read_bytes()
    indexed(out, *command)
    assert (out / "manifest.json").read_bytes() == manifest
    indexed(tmp_path / "other", *command)
    assert (
        Manifest.load(tmp_path / "other")
        .table.drop_columns("split")
        .equals(Manifest.load(out).table.drop_columns(["split", "duplicate_group"]))
    )


def test_only_what_an_index_left_unfinished_is_swept(tmp_path):
    """A column's part that another process writes beside it stays."""
    out = tmp_path / "out"
    whole = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0))])
    assert indexed(out, whole, *OPTIONS) == 0
    (part,) = (out / "parts").glob("*.jsonl")
    own, others = (out / "parts" / f".tmp-other-1-{name}" for name in (part.name, "mel-000000.json"))
    for path in (own, others):
        path.write_text("unfinished")
    assert indexed(out, whole, *OPTIONS) == 0
    assert (own.exists(), others.exists()) == (False, True)


def test_what_is_appended_moves_nothing(tmp_path):
    def add(name: str) -> Path:
        samples = [(f"{name}{n}", clip(ord(name) * 10 + n, quality=n)) for n in range(4)]
        return tar_of(tmp_path / "tars" / f"{name}.tar", samples)

    add("b"), add("d")
    out, command = tmp_path / "out", [tmp_path / "tars" / "*.tar", *OPTIONS]
    indexed(out, *command)
    splits(out)
    annotated = Manifest.load(out)
    table = annotated.table.append_column("sync_confidence", pa.array(np.arange(8) / 2))
    manifest_update.save(out, table, annotated.header)
    before = Manifest.load(out)
    drawn = SamplingConfig(shards_until=before.shards_until)
    config = WindowConfig(5, 20, 10)
    wanted = [MotionExamples(before, drawn, config)([slot]) for slot in range(6)]
    add("a"), add("c")
    indexed(out, *command)
    after = Manifest.load(out)
    assert after.column("key").tolist()[:8] == before.column("key").tolist()
    assert after.table.slice(0, 8).select(before.names).equals(before.table)
    assert [after.shard_file("motion", n).name for n in range(4)] == [f"../tars/{n}.tar" for n in "bdac"]
    assert set(after.table["split"].to_pylist()[8:]) == {""}
    assert after.table["sync_confidence"].to_pylist()[8:] == [None] * 8
    again = MotionExamples(after, drawn, config)
    for slot, one in enumerate(wanted):
        alike(one, again([slot]))
    splits(out)
    assert Manifest.load(out).table["split"].to_pylist()[:8] == before.table["split"].to_pylist()
    indexed(out, tmp_path / "tars" / "a.tar", *OPTIONS)  # what is not named stays
    assert len(Manifest.load(out)) == 16
    with pytest.raises(UserError, match="was made with corpus = , now other; index these into a folder of their own"):
        indexed(out, *command, "--corpus", "other")
    (tmp_path / "tars" / "d.tar").unlink()
    with pytest.raises(UserError, match=r"d\.tar was indexed and is missing now"):
        indexed(out, *command)


def test_a_tar_that_changed_is_read_again(tmp_path):
    tar = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0, quality=1)), ("b", clip(1, quality=1))])
    indexed(tmp_path / "out", tar, *OPTIONS)
    tar_of(tar, [("a", clip(5, 40, quality=2)), ("c", clip(6, quality=2))])
    indexed(tmp_path / "out", tar, *OPTIONS)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.column("key").tolist() == ["a", "c"]
    assert manifest.column("quality").tolist() == [2, 2]
    assert reader.read_member(manifest, 0, "landmarks") == clip(5, 40)["lm.npy"]


def test_an_index_killed_anywhere_is_continued_to_equal_bytes(corpora, tmp_path):
    for name in "abc":
        tar_of(tmp_path / "tars" / f"{name}.tar", [(f"{name}{n}", clip(ord(name) * 10 + n)) for n in range(2)])

    def run(out: Path, events: int) -> tuple[int, int]:
        typed = [tmp_path / "tars" / "*.tar", corpora / "one", "--workers", "1", *OPTIONS]
        return killed_after(lambda event: indexed(out, *typed), events)

    code, events = run(tmp_path / "whole", 10_000)
    assert code == 0
    wanted = files(tmp_path / "whole")
    for after in range(1, events, 2):  # between two of these lies one file's replacement
        out = tmp_path / f"killed-{after}"
        assert run(out, after)[0] == -signal.SIGKILL
        if (out / "manifest.json").exists():
            Manifest.load(out)
        assert run(out, 10_000)[0] == 0
        assert files(out) == wanted


def test_a_tar_that_is_being_written_is_refused(tmp_path, monkeypatch):
    tar = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0))])
    read_tar = third_party.read

    def meanwhile(*args):
        found = read_tar(*args)
        with open(tar, "ab") as handle:
            handle.write(bytes(512))
        return found

    monkeypatch.setattr(third_party, "read", meanwhile)
    with pytest.raises(UserError, match=r"a\.tar was changed while it was read; run the same command when"):
        indexed(tmp_path / "out", tar, *OPTIONS)
    assert not (tmp_path / "out" / "manifest.json").exists()
