"""benchmarks.people.ablations: each changes the training in one way that docs/model.md names; the table is paired."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.people import ablations
from eval import score_file
from eval.score_file import ClipScore
from launch import runner
from mytalk import config
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from train.recipes.motion import MotionTrainConfig


def typed(out: Path, *more: str):
    return ablations.arguments().parse_args([str(out), "--shards", str(out / "shards"), "--steps", "1", *more])


@pytest.mark.parametrize("name", [*ablations.ABLATIONS, *ablations.OF_IDENTITY])
def test_each_changes_the_settings_of_the_demo_and_is_a_row_of_the_documents(name, tmp_path):
    args = typed(tmp_path, "--only", name, "--identity", str(tmp_path / "encoder"))
    steps = [
        step for one, changed in ablations.ablations(args).items() for step in ablations.steps_of(args, one, changed)
    ]
    base, changed = (
        config.load(MotionTrainConfig, ROOT / "configs" / "demo" / "motion.yaml", list(step.words[4:]))
        for step in steps
        if step.words[0] == "train"
    )
    before, after = (asdict(settings) | {"run": ""} for settings in (base, changed))
    assert before != after
    text = (ROOT / "docs" / "model.md").read_text()
    for setting in (ablations.ABLATIONS | ablations.OF_IDENTITY)[name]:
        assert setting.partition("=")[0] in text


def test_one_that_the_settings_have_already_is_left_out(tmp_path, capsys):
    shutil.copytree(ROOT / "configs" / "demo", tmp_path / "configs")
    asked = typed(tmp_path, "--only", "no-speech-dropout", "v", "--configs", str(tmp_path / "configs"))
    assert list(ablations.ablations(asked)) == ["base", "no-speech-dropout", "v"]
    asked.settings = ["speech_dropout=0"]
    assert list(ablations.ablations(asked)) == ["base", "v"]
    assert "have them: no-speech-dropout" in capsys.readouterr().out


def test_what_needs_an_identity_encoder_is_named(tmp_path, capsys):
    assert not set(ablations.OF_IDENTITY) & set(ablations.ablations(typed(tmp_path)))
    assert f"left out without --identity FOLDER: {', '.join(ablations.OF_IDENTITY)}" in capsys.readouterr().out
    with pytest.raises(UserError, match="no-identity-loss: name an identity encoder"):
        ablations.ablations(typed(tmp_path, "--only", "no-identity-loss", "v"))


def test_differences_are_from_the_base_and_paired(tmp_path, monkeypatch, capsys):
    """Each person gains 0.1, so the difference has no width though people differ."""
    monkeypatch.setattr(runner, "run_steps", lambda *steps, **options: 0)
    for name, gain in ((ablations.BASE, 0.0), ("flow", 0.1), ("v", -0.1)):
        scores = [
            ClipScore(f"k{n}", f"p{n}", {"mytalk": {"opening_correlation": 0.3 * n + gain, "lmd_px": 2.0}})
            for n in range(3)
        ]
        score_file.write_whole(tmp_path / f"score-{name}", {}, scores)
    assert ablations.run(typed(tmp_path, "--only", "flow", "v")) == 0
    kept = json.loads((tmp_path / "results.json").read_text())
    assert list(kept["rows"]) == ["base", "v", "flow"]
    assert kept["settings"]["v"] == "model.prediction=v"
    assert kept["differences"]["flow - base"]["opening_correlation"]["ci95"] == pytest.approx([0.1, 0.1])
    assert "| v - base | 3 | -0.100 [-0.100, -0.100]" in capsys.readouterr().out


@pytest.mark.full
def test_models_are_trained_and_scored(talker_shards, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    shutil.copytree(talker_shards, tmp_path / "shards")
    (tmp_path / "configs").mkdir()
    shutil.copy("tests/helpers/tiny_motion.yaml", tmp_path / "configs" / "motion.yaml")
    args = typed(tmp_path, "--only", "flow", "--configs", str(tmp_path / "configs"))
    assert ablations.run(args) == 0
    assert "| flow - base |" in capfd.readouterr().out
