"""benchmarks.people.synced: whom each SyncNet is taught by, and what is said of people whom none has seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.people import synced
from data_pipeline.sample import trained_on
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from mytalk.networks import syncnet
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.level_syncnet import LevelSyncNet

SETTINGS = ("--steps", "12", "--tune", "6", "--mixed", "4", "--folds", "2")


@pytest.fixture(scope="module")
def typed(tmp_path_factory) -> list[str]:
    """OUT and options, with drawn people and four others, whose clips have other keys."""
    folder = tmp_path_factory.mktemp("synced")
    talkers.write(folder / "drawn", {"train": 2, "val": 1}, corpora=("drawn",), frames=50)
    talkers.write(folder / "these", {"unseen": 4}, corpora=("these",), frames=50)
    (folder / "configs").mkdir()
    shutil.copy(ROOT / "tests" / "helpers" / "tiny_syncnet.yaml", folder / "configs" / "syncnet.yaml")
    shards = ("--shards", str(folder / "these"), "--drawn", str(folder / "drawn"))
    return [str(folder / "out"), *shards, "--configs", str(folder / "configs"), *SETTINGS]


def test_each_part_has_its_own_trainings_and_one_of_drawn_people_is_shared(typed):
    args = synced.arguments().parse_args([*typed, "--column", "speech", "--settings", "model.window_frames=3"])
    steps = synced.plan(args)
    assert len({step.name for step in steps}) == len(steps) == 1 + 2 * 5
    trainings = {step.name: step.words for step in steps if step.run is not None}
    assert all(
        {"model.features=speech", "voice_stretch=0", "model.window_frames=3"} <= {*w} for w in trainings.values()
    )
    tuned, mixed = trainings["train drawn, then these, part-2"], trainings["train both mixed, part-2"]
    assert f"shards={args.out / 'part-2' / 'both'}" in tuned
    assert {"steps=6", "optimizer.lr=0.0002", "repeats={drawn: 0}", f"init_from={args.out / 'drawn' / 'model'}"} <= {
        *tuned
    }
    assert {"steps=12", "repeats={these: 4}"} <= {*mixed}
    assert list(synced.models(synced.arguments().parse_args([*typed, "--tune", "0"]), "part-1")) == [
        "drawn",
        "both mixed",
    ]
    for wrong in (["--folds", "1"], ["--drawn", str(args.shards)]):
        with pytest.raises(UserError, match="--folds must be 2 or more, and the corpora"):
            synced.plan(synced.arguments().parse_args([*typed, *wrong]))


def test_a_syncnet_that_tells_sync_is_right_of_own_speech_and_at_chance_of_anothers(typed, monkeypatch):
    monkeypatch.setattr(syncnet, "load_model", lambda *asked, **how: LevelSyncNet())
    clips = list(synced.scored(Path(), Manifest.load(Path(typed[2])), "part-1"))
    assert [clip.person for clip in clips] == [f"these/unseen{n // 2}" for n in range(8)]
    for clip in clips:
        assert min(clip.metrics["in_place"], clip.metrics["accuracy"]) > 0.7
        assert clip.metrics["near"] == 1
    assert sum(clip.metrics["of_another"] for clip in clips) / len(clips) < 0.6


@pytest.mark.full
def test_trained_scored_and_typed_again_nothing_is_done_twice(typed, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    args = synced.arguments().parse_args(typed)
    assert synced.run(args) == 0
    said = capfd.readouterr().out
    assert "| drawn, then these - drawn | 4 |" in said
    kept = json.loads((args.out / "results.json").read_text())
    assert list(kept["rows"]) == ["drawn", "drawn, then these", "both mixed"]
    assert all(row["accuracy"]["n"] == row["accuracy"]["total"] == 4 for row in kept["rows"].values())
    unseen = Manifest.load(args.out / "part-1" / "shards")
    people = trained_on.shown(unseen, unseen.rows("unseen")).people
    for name in ("tuned", "mixed"):
        known = trained_on.read(args.out / "part-1" / name / "model")
        assert len(people) == 2
        assert not people & (known.trained.people | known.selected.people)
    assert synced.run(args) == 0
    assert "train" not in capfd.readouterr().out.partition("|")[0]
