"""The demo's chain on real videos, small: stopped on the way, typed again, and typed once more when done."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from launch import demo
from tests.helpers.checkout import ROOT, stopped

SMALL = ["--people", "5", "--clips-per-person", "2", "--seconds", "2"]


def tiny_configs(folder: Path) -> Path:
    """The smallest settings of the four trainings; motion's are long enough to be stopped."""
    for recipe in demo.RECIPES:
        tiny = (ROOT / f"tests/helpers/tiny_{recipe}.yaml").read_text()
        if recipe == "motion":
            tiny = re.sub("steps: 12|_every: [0-9]+", lambda m: m[0].split(":")[0] + ": 80", tiny)
            tiny += "identity_loss: 0\n"  # one person in val: no extractor is proven
        (folder / f"{recipe}.yaml").write_text(tiny)
    return folder


@pytest.fixture(scope="module")
def endings(tmp_path_factory, command) -> tuple[Path, list]:
    """The output folder, and (exit code, output) of four times the same command.

    The first is stopped while it draws, the second while it trains, by signals to the whole group.
    """
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out"
    typed = ["-m", "launch", "demo", "--out", str(out), "--configs", str(tiny_configs(folder)), *SMALL]
    ended: list[tuple] = [
        stopped(typed, lambda: (out / "videos" / "p001").is_dir(), signal.SIGINT, group=True),
        stopped(typed, lambda: (out / "motion" / "metrics.jsonl").exists(), signal.SIGTERM, group=True),
    ]
    for _ in range(2):
        began = time.monotonic()
        done = command(*typed)
        ended.append((done.returncode, done.stderr + done.stdout, time.monotonic() - began))
    return out, ended


def test_the_whole_chain_ends_with_a_score_of_unseen_people(endings):
    out, (*_, third, _) = endings
    assert third[0] == 0, third[1]
    report = json.loads((out / "benchmark" / "report.json").read_text())
    assert set(report["methods"]) == {"ground_truth", "mytalk", "shuffled_audio", "frozen_mouth"}
    assert report["methods"]["ground_truth"]["opening_correlation"]["mean"] > 0.9
    assert "mouth opening of dubbed, never seen people" in third[1]
    assert "the gate FAILS" in third[1], "one unseen person has no interval"
    for name in ("draw", "extract", *(f"train {recipe}" for recipe in demo.RECIPES), "benchmark", "total"):
        assert name in third[1]
    assert third[1].rstrip().endswith("report.json")
    assert (out / "benchmark" / "report.html").is_file()


def test_stopped_it_says_that_the_same_command_continues(endings):
    _, (first, second, third, _) = endings
    for code, said in (first, second):
        assert code != 0
        assert "the same command continues" in said
    assert "[1/8] draw" in second[1], "the step that was cut short is taken up again"
    assert second[0] == 75, second[1]
    assert "[3/8]" not in third[1], "what was done is not done again"
    assert "[6/8] train motion" in third[1]
    assert "resuming after step" in third[1]


def test_done_it_ends_at_once(endings):
    _, (*_, last) = endings
    assert last[0] == 0
    assert "[1/8]" not in last[1], "no step is started"
    assert "total" in last[1]
    assert last[2] < 30


def digests(chain: list[demo.Step]) -> list[str]:
    """The chained digests of all steps."""
    made = [""]
    for step in chain:
        made.append(step.digest(made[-1]))
    return made[1:]


def test_a_changed_setting_redoes_the_step_that_reads_it_and_all_after_it(tmp_path):
    for recipe in demo.RECIPES:
        (tmp_path / f"{recipe}.yaml").write_text("steps: 1\n")
    chain = demo.steps(tmp_path, 3, 1, 2, 0, tmp_path)
    before = digests(chain)
    (tmp_path / "motion.yaml").write_text("steps: 2\n")
    changed = [step.name for step, old, new in zip(chain, before, digests(chain)) if old != new]
    assert changed == ["train motion", "train appearance", "benchmark"]


def test_a_training_begun_with_other_settings_is_begun_anew(tmp_path, monkeypatch, capsys):
    """Its folder goes only then: an interrupted training keeps it, and its seconds add up."""
    shutil.copytree(ROOT / demo.CONFIGS, tmp_path / "configs")
    out, config, ends = tmp_path / "out", tmp_path / "configs" / "motion.yaml", {"motion": 75}
    made = out / "motion" / "checkpoint"

    def timed(words: tuple[str, ...]) -> tuple[int, float]:
        for step in demo.steps(out, 32, 3, 5, 0, config.parent):
            if step.words == words:
                step.proof.parent.mkdir(parents=True, exist_ok=True)
                step.proof.write_text("{}")
        made.parent.mkdir(exist_ok=True)
        made.touch()
        return ends.get(words[1], 0), 2.0

    monkeypatch.setattr(demo, "timed", timed)
    monkeypatch.setattr(demo, "print_where", lambda _: None)
    args = demo.arguments().parse_args(["--out", str(out), "--configs", str(config.parent)])
    assert demo.run(args) == 75
    assert demo.run(args) == 75
    assert made.exists()
    assert json.loads((out / "budget.json").read_text())["train motion"]["seconds"] == 4
    assert "removed" not in capsys.readouterr().out
    config.write_text(config.read_text() + "# changed\n")
    monkeypatch.setattr(demo, "timed", lambda words: (int(made.exists()), 2.0))
    ends.clear()
    assert demo.run(args) == 0, "the old checkpoint was gone when it began"
    assert "motion was made with other settings: removed" in capsys.readouterr().out


def test_outside_the_checkout_it_says_so(tmp_path, command):
    done = command("-m", "launch", "demo", "--configs", "nowhere", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "run the demo from the folder of the checkout" in done.stderr
