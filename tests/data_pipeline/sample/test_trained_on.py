"""`trained_on.json`: whom a model was trained on."""

from __future__ import annotations

import hashlib
import json

import pytest

from data_pipeline.sample import trained_on
from data_pipeline.sample.trained_on import Shown, TrainedOn
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError


def test_a_hash_is_what_the_file_says_of_it() -> None:
    by_hand = hashlib.sha256(b"mytalk person drawn-v2/p003").hexdigest()[:16]
    assert trained_on.hashed("person", "drawn-v2/p003") == by_hand
    assert trained_on.hashed("source", "drawn-v2/p003") != by_hand


def test_what_is_written_is_read_and_holds_no_name(talker_shards, tmp_path) -> None:
    manifest = Manifest.load(talker_shards)
    rows = {split: manifest.rows(split) for split in ("train", "val")}
    known = trained_on.of_rows(manifest, rows["train"], rows["val"])
    assert (len(known.trained.people), len(known.selected.people), known.corpora) == (4, 2, {"test"})
    trained_on.write(tmp_path, known)
    assert trained_on.read(tmp_path) == known
    text = (tmp_path / trained_on.NAME).read_text()
    assert not any(name in text for name in manifest.column("identity"))
    assert json.loads(text)["hash"] == trained_on.HASH


def test_two_are_joined_and_what_nobody_knows_is_named(tmp_path) -> None:
    one = TrainedOn(Shown(frozenset("a"), frozenset("b")), Shown(), frozenset("c"), frozenset())
    trained_on.write(tmp_path, one)
    (tmp_path / "checkpoints" / "step").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "model", tmp_path / "checkpoints" / "step"):
        assert trained_on.inherited("init_from", folder) == one
    joined = one | trained_on.inherited("identity", tmp_path / "a" / "b" / "c")
    assert (joined.trained, joined.unknown) == (one.trained, {"identity"})


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "hash": "md5"}'])
def test_a_file_that_cannot_be_read_is_refused(text, tmp_path) -> None:
    assert trained_on.read(tmp_path) is None
    (tmp_path / trained_on.NAME).write_text(text)
    with pytest.raises(UserError, match="is damaged or of another version"):
        trained_on.read(tmp_path)
