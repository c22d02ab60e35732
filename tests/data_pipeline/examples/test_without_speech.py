"""Clips of who does not speak are in no example of motion and SyncNet; the other recipes take them."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from data_pipeline import plan
from data_pipeline.examples.settings import RunSettings
from data_pipeline.examples.windows import PLANNED
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import merging
from tests.helpers import talkers

SPEAKS = [True, None, False, False, None, None, True, False]
WHY = ["", "", "music", "not_speaking", "", "", "", "not_speaking"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Manifest:
    """Four people with two clips each, labelled as above."""
    folder = talkers.write(tmp_path_factory.mktemp("labelled") / "shards", {"train": 4}, video=True)
    stored = Manifest.load(folder)
    table = merging.set_column(stored.table, "speaks", pa.array(SPEAKS))
    manifest_update.save(folder, merging.set_column(table, "why_silent", pa.array(WHY)), stored.header)
    return Manifest.load(folder)


@pytest.mark.parametrize(
    ("recipe", "taken"),
    [
        ("motion", [0, 1, 4, 5, 6]),
        ("syncnet", [0, 1, 4, 5, 6]),
        ("identity", [*range(8)]),
        ("appearance", [*range(8)]),
    ],
)
def test_which_clips_a_recipe_takes(labelled, recipe, taken, capsys):
    windows = PLANNED[recipe](labelled, SamplingConfig(), RunSettings.load(None, {"max_frames": 30}))
    assert sorted(windows.selection.rows_n.tolist()) == taken
    shown = {window.row for slot in range(40) for window in windows.example(slot) if window is not None}
    assert shown == set(taken)
    counts = {"music": 1, "not_speaking": 2} if len(taken) == 5 else {}
    assert windows.without_speech() == counts
    arguments = [str(labelled.folder), "--recipe", recipe, "--global-batch", "2", "--max-frames", "30"]
    assert plan.run(plan.arguments().parse_args([*arguments, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["without_speech"] == counts
    plan.run(plan.arguments().parse_args(arguments))
    said = f"left out  3 clips without speech (1 music, 2 not_speaking), which {recipe} cannot use"
    assert (said in capsys.readouterr().out) == bool(counts)
