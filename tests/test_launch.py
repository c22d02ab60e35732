"""The demo's chain on real videos, small: stopped on the way, typed again, and typed once more when done."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from launch import demo
from tests.conftest import ROOT, stopped

SMALL = ["--people", "5", "--clips-per-person", "2", "--seconds", "2", "--config", str(ROOT / "tests/tiny_motion.yaml")]


@pytest.fixture(scope="module")
def stopped_and_resumed(tmp_path_factory, command) -> tuple[Path, list]:
    """The output folder, and (exit code, output) of three times the same command; the first is sent TERM."""
    out = tmp_path_factory.mktemp("demo") / "out"
    typed = ["-m", "launch", "demo", "--out", str(out), *SMALL]
    ended: list[tuple] = [stopped(typed, lambda: (out / "videos" / "p001").is_dir())]
    for _ in range(2):
        began = time.monotonic()
        done = command(*typed)
        ended.append((done.returncode, done.stdout + done.stderr, time.monotonic() - began))
    return out, ended


def test_the_whole_chain_ends_with_a_score_of_unseen_people(stopped_and_resumed):
    out, (_, second, _) = stopped_and_resumed
    assert second[0] == 0, second[1]
    report = json.loads((out / "scores" / "report.json").read_text())
    assert set(report["methods"]) == {"mytalk", "shuffled_audio", "frozen_mouth"}
    assert report["methods"]["frozen_mouth"]["opening_correlation"]["mean"] == 0
    assert "opening correlation on people never seen" in second[1]
    for name in ("draw", "extract", "train motion", "score", "total"):
        assert name in second[1]


def test_stopped_it_says_that_the_same_command_continues(stopped_and_resumed):
    _, (first, second, _) = stopped_and_resumed
    assert first[0] != 0
    assert "the same command continues" in first[1]
    assert "[1/5] draw" in second[1], "the step that was cut short is taken up again"


def test_done_it_ends_at_once(stopped_and_resumed):
    _, (_, _, third) = stopped_and_resumed
    assert third[0] == 0
    assert "[1/5]" not in third[1], "no step is started"
    assert "total" in third[1]
    assert third[2] < 30


def test_a_changed_setting_redoes_the_step_that_reads_it(tmp_path):
    config = tmp_path / "motion.yaml"
    config.write_text("steps: 1\n")
    chain = demo.steps(tmp_path, 3, 1, 2, 0, config)
    before = [step.digest() for step in chain]
    config.write_text("steps: 2\n")
    changed = [step.name for step, digest in zip(chain, before) if step.digest() != digest]
    assert changed == ["train motion"]


def test_outside_the_checkout_it_says_so(tmp_path, command):
    done = command("-m", "launch", "demo", "--config", "nowhere.yaml", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "run the demo from the folder of the checkout" in done.stderr
