"""The best model of a run is the same however it was stopped and resumed, and `patience` ends a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.helpers.training import train
from train.run_folder import checkpoint

STEPS = 10
# A rate that rises until the loss does too: the best step is neither the first nor the last.
SETTINGS = (
    f"steps={STEPS}",
    "validate_every=2",
    "checkpoint_every=3",
    "keep_best=loss",
    "keep_last=1",
    "ema_decay=0.5",
    "optimizer.lr=0.1",
    "optimizer.warmup_steps=12",
)


def job(shards: Path, run: Path, *settings: str) -> list:
    return ["odd", "", [f"shards={shards}", f"run={run}", *SETTINGS, *settings]]


def validations(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["validation"]["loss"]) for line in lines if "validation" in line]
    assert len(dict(found)) == len(found), "each validation is logged once"
    return dict(found)


def killed(whole: Path, run: Path, step: int) -> Path:
    """The folder of a run that was killed with this checkpoint as its newest: what came later is lost."""
    shutil.copytree(whole, run)
    for name in ("model", "last"):
        shutil.rmtree(run / name)
    (run / "finished.json").unlink()
    for path in checkpoint.complete(run):
        if checkpoint.step_of(path) > step:
            shutil.rmtree(path)
    return run


@pytest.fixture(scope="module")
def runs(filmed_shards, tmp_path_factory) -> Path:
    """whole: one process, never stopped, all checkpoints kept. The others go on from some of them, in two."""
    folder = tmp_path_factory.mktemp("best")
    ends = ("patience=2", "steps=40")
    train(
        folder,
        1,
        [
            job(filmed_shards, folder / name, *more)
            for name, more in (
                ("whole", ("keep_every=1",)),
                ("patient", ends),
            )
        ],
    )
    for step in (2, 3, 6, 8, STEPS):
        killed(folder / "whole", folder / f"from-{step}", step)
    killed(folder / "patient", folder / "patient-again", STEPS * 9)
    resumed = [job(filmed_shards, folder / f"from-{step}", f"zero_stage={step % 3}") for step in (2, 3, 6, 8, STEPS)]
    train(folder, 2, [*resumed, job(filmed_shards, folder / "patient-again", *ends)])
    return folder


def test_the_best_is_exported_and_the_last_kept_beside_it(runs):
    finished = json.loads((runs / "whole" / "finished.json").read_text())
    losses = validations(runs / "whole")
    assert sorted(losses) == [2, 4, 6, 8, 10]
    best = min(losses, key=losses.get)
    assert best not in (2, STEPS), losses
    assert finished["best"]["step"] == best
    assert dict(map(tuple, finished["best"]["values"])) == losses
    assert finished["best"]["settings"] == {"validation_split": "val"}
    for name, step in (("model", best), ("last", STEPS)):
        held = checkpoint.load(runs / "whole" / "checkpoints" / checkpoint.folder_name(step)).tensors["odd"]["ema"]
        for key, value in held.items():
            exported = load_file(runs / "whole" / name / "model.safetensors")[key]
            np.testing.assert_array_equal(value.numpy(), exported)


@pytest.mark.parametrize("step", [2, 3, 6, 8, STEPS])
def test_invariant_1_the_best_survives_a_kill_at_another_world_size(runs, step):
    """Killed before and after the best step, at a validated step before its validation, and before the export."""
    ours, whole = runs / f"from-{step}", runs / "whole"
    for key, loss in validations(whole).items():
        np.testing.assert_allclose(validations(ours)[key], loss, rtol=1e-4)
    chosen = [json.loads((run / "finished.json").read_text())["best"]["step"] for run in (ours, whole)]
    assert chosen[0] == chosen[1]
    for name in ("model", "last"):
        theirs = load_file(whole / name / "model.safetensors")
        for key, value in load_file(ours / name / "model.safetensors").items():
            np.testing.assert_allclose(value, theirs[key], atol=1e-4, err_msg=f"{name} {key}")


def test_patience_ends_the_run_and_the_same_command_ends_it_alike(runs):
    for name in ("patient", "patient-again"):
        finished = json.loads((runs / name / "finished.json").read_text())
        losses = validations(runs / name)
        best = min(losses, key=losses.get)
        assert finished["steps"] == max(losses) == best + 4 < 40, losses
        assert finished["patience"] == 2
        assert finished["best"]["step"] == best
