"""The demo's chain on real videos, small: stopped on the way, typed again, and typed once more when done."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from launch import demo
from tests.conftest import ROOT, stopped

SMALL = ["--people", "5", "--clips-per-person", "2", "--seconds", "2"]


@pytest.fixture(scope="module")
def endings(tmp_path_factory, command) -> tuple[Path, list]:
    """The output folder, and (exit code, output) of four times the same command.

    The first is stopped while it draws, the second while it trains, by signals to the whole group.
    """
    folder = tmp_path_factory.mktemp("demo")
    out, config = folder / "out", folder / "motion.yaml"
    tiny = (ROOT / "tests/tiny_motion.yaml").read_text()
    config.write_text(re.sub("steps: 12|_every: [0-9]+", lambda m: m[0].split(":")[0] + ": 80", tiny))
    typed = ["-m", "launch", "demo", "--out", str(out), "--config", str(config), *SMALL]
    ended: list[tuple] = [
        stopped(typed, lambda: (out / "videos" / "p001").is_dir(), signal.SIGINT, group=True),
        stopped(typed, lambda: (out / "motion" / "metrics.jsonl").exists(), signal.SIGTERM, group=True),
    ]
    for _ in range(2):
        began = time.monotonic()
        done = command(*typed)
        ended.append((done.returncode, done.stdout + done.stderr, time.monotonic() - began))
    return out, ended


def test_the_whole_chain_ends_with_a_score_of_unseen_people(endings):
    out, (*_, third, _) = endings
    assert third[0] == 0, third[1]
    report = json.loads((out / "scores" / "report.json").read_text())
    assert set(report["methods"]) == {"mytalk", "shuffled_audio", "frozen_mouth"}
    assert report["methods"]["frozen_mouth"]["opening_correlation"]["mean"] == 0
    assert "opening correlation on people never seen" in third[1]
    assert "the gate FAILS" in third[1], "one unseen person has no interval"
    for name in ("draw", "extract", "train motion", "score", "total"):
        assert name in third[1]


def test_stopped_it_says_that_the_same_command_continues(endings):
    _, (first, second, third, _) = endings
    for code, said in (first, second):
        assert code != 0
        assert "the same command continues" in said
    assert "[1/5] draw" in second[1], "the step that was cut short is taken up again"
    assert second[0] == 75, second[1]
    assert "[3/5]" not in third[1], "what was done is not done again"
    assert "[4/5] train motion" in third[1]
    assert "resuming after step" in third[1]


def test_done_it_ends_at_once(endings):
    _, (*_, last) = endings
    assert last[0] == 0
    assert "[1/5]" not in last[1], "no step is started"
    assert "total" in last[1]
    assert last[2] < 30


def digests(chain: list[demo.Step]) -> list[str]:
    """The chained digests of all steps."""
    made = [""]
    for step in chain:
        made.append(step.digest(made[-1]))
    return made[1:]


def test_a_changed_setting_redoes_the_step_that_reads_it_and_all_after_it(tmp_path):
    config = tmp_path / "motion.yaml"
    config.write_text("steps: 1\n")
    chain = demo.steps(tmp_path, 3, 1, 2, 0, config)
    before = digests(chain)
    config.write_text("steps: 2\n")
    changed = [step.name for step, old, new in zip(chain, before, digests(chain)) if old != new]
    assert changed == ["train motion", "score"]


def test_outside_the_checkout_it_says_so(tmp_path, command):
    done = command("-m", "launch", "demo", "--config", "nowhere.yaml", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "run the demo from the folder of the checkout" in done.stderr
