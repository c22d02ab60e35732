"""benchmarks.people.dose: whom each model is trained on, and the curve from the scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.people import dose
from data_pipeline.shards.manifest import Manifest
from eval import score_file
from eval.score_file import ClipScore
from launch import runner
from mytalk.command import UserError
from tests.helpers import talkers
from tests.helpers.checkout import ROOT


@pytest.fixture
def out(tmp_path) -> Path:
    """OUT with shards of three people to train, as the steps of the data leave it."""
    talkers.write(tmp_path / "shards", {"train": 3, "val": 1, "unseen": 2})
    return tmp_path


def typed(out: Path, *more: str) -> list[str]:
    return [str(out), "--unseen", str(out / "shards"), "--drawn", "3", "--steps", "1", *more]


def test_a_larger_dose_has_everybody_of_a_smaller_one(out):
    train = Manifest.load(out / "shards").rows("train", with_speech=True)
    names = sorted(set(Manifest.load(out / "shards").column("identity")[train].tolist()))
    assert [dose.first_people(out / "shards", count) for count in (1, 3)] == [
        f'identity <= "{names[0]}"',
        f'identity <= "{names[2]}"',
    ]
    with pytest.raises(UserError, match=r"3 people .* teach speech, fewer than 4"):
        dose.first_people(out / "shards", 4)
    for people in ("0", "4"):
        with pytest.raises(UserError, match="from 1 to the 3"):
            dose.run(dose.arguments().parse_args(typed(out, "--people", people)))


def test_the_curve_is_of_people_and_its_differences_are_paired(out, monkeypatch, capsys):
    """Each person gains 0.1, so the difference has no width though people differ."""
    monkeypatch.setattr(runner, "run_steps", lambda *steps, **options: 0)
    for people, gain in ((1, 0.0), (3, 0.1)):
        scores = [
            ClipScore(f"k{n}", f"p{n}", {"mytalk": {"opening_correlation": 0.3 * n + gain, "lmd_px": 2.0}})
            for n in range(3)
        ]
        score_file.write_whole(out / f"score-{people}", {}, scores)
    assert dose.run(dose.arguments().parse_args(typed(out, "--people", "3", "1"))) == 0
    kept = json.loads((out / "results.json").read_text())
    assert [row["opening_correlation"]["mean"] for row in kept["rows"].values()] == pytest.approx([0.3, 0.4])
    assert list(kept["differences"]) == ["3 people - 1 people"]
    assert kept["differences"]["3 people - 1 people"]["opening_correlation"]["ci95"] == pytest.approx([0.1, 0.1])
    assert "| 3 people - 1 people | 3 | 0.100 [0.100, 0.100]" in capsys.readouterr().out


def test_the_data_are_two_corpora_with_a_split_each(out):
    steps = dose.data(dose.arguments().parse_args(typed(out)))
    words = [" ".join(step.words) for step in steps]
    assert [step.name for step in steps][-1] == "index"
    assert sum("--everyone val" in line for line in words) == sum("--everyone train" in line for line in words) == 1
    assert len({step.name for step in steps}) == len(steps)  # what runner.run_steps keeps account by


@pytest.mark.full
def test_models_of_every_dose_are_trained_and_scored_and_typed_again_nothing_is_done_twice(out, monkeypatch, capfd):
    monkeypatch.setattr(dose, "data", lambda args: [])
    monkeypatch.chdir(ROOT)
    (out / "configs").mkdir()
    shutil.copy("tests/helpers/tiny_motion.yaml", out / "configs" / "motion.yaml")
    args = dose.arguments().parse_args(typed(out, "--people", "1", "2", "--configs", str(out / "configs")))
    assert dose.run(args) == 0
    first = capfd.readouterr().out
    assert "| 2 people | 2/2 |" in first
    known = json.loads((out / "motion-2" / "model" / "trained_on.json").read_text())
    assert len(known["trained"]["people"]) == 2
    args.people = [1, 2, 3]
    assert dose.run(args) == 0
    again = capfd.readouterr().out
    assert "[5/6] train 3 people" in again
    assert "train 2 people" not in again
