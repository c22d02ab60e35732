"""The recipe in docs/training.md is a whole one: it trains as it stands on the page, the same at world size 1 and 2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.checkout import ROOT

PAGE = ROOT / "docs" / "training.md"
MOST_LINES = 120
SETTINGS = ["steps=4", "global_batch=8", "max_micro_batch=2", "workers=0", "frames=44", "validate_every=4"]
SETTINGS += ["checkpoint_every=4", "optimizer.lr=1e-3", "optimizer.warmup_steps=2"]


def block() -> str:
    """The one block of Python on the page."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return code


def losses(run: Path) -> tuple[list[int], list[float]]:
    """Fingerprints of the clips consumed, and losses, of every step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "keys" in line]
    return [line["keys"] for line in steps], [line["loss/opening"] for line in steps]


@pytest.fixture(scope="module")
def runs(talker_shards, tmp_path_factory) -> Path:
    """The recipe of the page, trained by one process, and by two at another ZeRO stage: w1, w2."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "opening.py").write_text(block())
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    started = {}
    for world_size, stage in ((1, 0), (2, 1)):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if world_size == 2 else []
        places = [f"shards={talker_shards}", f"run={folder / f'w{world_size}'}", f"zero_stage={stage}"]
        typed = [sys.executable, *launch, "-m", "opening", *SETTINGS, *places]
        started[world_size] = subprocess.Popen(
            typed, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    for world_size, process in started.items():
        said, _ = process.communicate()
        assert process.returncode == 0, said[-6000:]
        assert f"= {world_size} x " in said, "so many processes shared a step"
    return folder


def test_the_recipe_of_the_page_is_short():
    assert len(block().splitlines()) <= MOST_LINES
    assert all(len(line) <= 120 for line in block().splitlines())


def test_the_recipe_of_the_page_trains_alike_at_world_size_1_and_2(runs):
    (keys, alone), (others, shared) = losses(runs / "w1"), losses(runs / "w2")
    assert len(alone) == 4
    assert keys == others
    np.testing.assert_allclose(shared, alone, rtol=1e-4)
    assert alone[-1] < alone[0], "it learns"


def test_the_recipe_of_the_page_exports_a_model(runs, monkeypatch):
    """The page's own `load_model` reads what both runs exported, and they are the same."""
    monkeypatch.syspath_prepend(str(runs))
    import opening

    one, two = (opening.load_model(runs / name / "model").state_dict() for name in ("w1", "w2"))
    for name, weight in one.items():
        np.testing.assert_allclose(two[name].numpy(), weight.numpy(), atol=1e-4, err_msg=name)
