"""Training runs for tests: many in one process group, because a start of torch and DeepSpeed costs seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.checkout import ROOT

STAGES = (0, 1, 2, 3)
PLAYERS = {
    "identity": ("identity",),
    "syncnet": ("syncnet",),
    "motion": ("motion",),
    "appearance": ("generator", "discriminator"),
}


def tiny(recipe: str) -> str:
    """The configuration of a recipe's smallest run."""
    return str(ROOT / "tests" / "helpers" / f"tiny_{recipe}.yaml")


TINY = tiny("motion")


def curve(run: Path, key: str = "loss/motion") -> np.ndarray:
    """A value of every finished step of a run; NaN where the step was skipped."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "keys" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1)), "each step once, none missing"
    return np.array([np.nan if line[key] is None else line[key] for line in steps])


def logged(run: Path, steps: int) -> bool:
    """Whether a run has logged some steps."""
    metrics = run / "metrics.jsonl"
    return metrics.exists() and metrics.read_text().count("\n") >= steps


def train_group(folder: Path, world_size: int, jobs: list) -> None:
    """Train jobs (tests/helpers/train_matrix.py) in one process group of `world_size`."""
    file = folder / f"jobs-{world_size}-{len(jobs)}.json"
    file.write_text(json.dumps(jobs))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
    done = subprocess.run(
        [sys.executable, *(launcher if world_size > 1 else ()), "-m", "tests.helpers.train_matrix", str(file)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-20000:]


def train(folder: Path, world_size: int, jobs: list) -> None:
    """Train jobs in process groups of `world_size`, a dozen in each: DeepSpeed keeps state of every engine it made."""
    for first in range(0, len(jobs), 12):
        train_group(folder, world_size, jobs[first : first + 12])


@dataclass(frozen=True)
class Leg:
    """A part of a run: the process group that trains it, its recipe and its settings."""

    group: int
    recipe: str
    settings: tuple[str, ...]
    config: str = ""  # of another recipe, where the recipe has none


def names_needed(request: pytest.FixtureRequest) -> list[str]:
    """The runs that the selected tests of a fixture's module name: `@pytest.mark.trains("{recipe}-golden")`.

    Braces are filled in with the parameters of the test.
    """
    names: dict[str, None] = {}
    for item in request.session.items:
        if item.path == request.path:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            for mark in item.iter_markers("trains"):
                names |= {name.format(**parameters): None for name in mark.args}
    return list(names)


def train_runs(folder: Path, shards: Path, world_sizes: tuple[int, ...], runs: dict[str, list[Leg]]) -> None:
    """Train each run in `folder / name`: one process group for each of `world_sizes`, in this order."""
    for group, world_size in enumerate(world_sizes):
        jobs = [
            [leg.recipe, tiny(leg.config or leg.recipe), [f"shards={shards}", f"run={folder / name}", *leg.settings]]
            for name, legs in runs.items()
            for leg in legs
            if leg.group == group
        ]
        if jobs:
            train(folder, world_size, jobs)
