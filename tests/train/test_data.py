"""Training through what befalls its data: damage, a dead server, annotation, growth, other settings on resuming."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_pipeline import plan
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from mytalk import config
from mytalk.face.landmarks import COUNT
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.faulty_http import FaultyServer
from tests.helpers.train_matrix import RECIPES, modules_of
from tests.helpers.training import curve, train
from train import loop
from train.recipes.identity import CELL_PX

TINY = str(ROOT / "tests" / "helpers" / "tiny_motion.yaml")
FAST = ("steps=6", "checkpoint_every=3", "validate_every=6", "pictured_clips=1", "workers=1")
LEDGER = "bad_examples.jsonl"
FRAME_BYTES = COUNT * 3 * 2  # of landmarks: x, y and z in fp16


def typed(shards: Path | str, run: Path, *settings: str) -> list[str]:
    """A short run, as a user types it."""
    return ["-m", "train", "motion", "--config", TINY, f"shards={shards}", f"run={run}", *FAST, *settings]


def job(shards: Path, run: Path, *settings: str) -> list:
    """The same, for tests.helpers.train_matrix."""
    return ["motion", TINY, [f"shards={shards}", f"run={run}", *FAST, *settings]]


def ledger(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / LEDGER).read_text().splitlines()]


def damage(shards: Path, key: str) -> None:
    """Flip a byte in every frame of a clip's landmarks."""
    made = Manifest.load(shards)
    row = made.column("key").tolist().index(key)
    path = shards / f"motion-{int(made.at(row, 'shard')):06d}.tar"
    data = bytearray(path.read_bytes())
    begin = int(made.at(row, "landmarks_offset")) + 128
    for frame in range(int(made.at(row, "frames"))):
        data[begin + frame * FRAME_BYTES + 900] ^= 4
    path.write_bytes(data)


def refused(done) -> str:
    """The one line of a command that failed with exit code 1."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two people in val, eight to train, one clip a shard, so that damage stays in its clip."""
    return talkers.write(tmp_path_factory.mktemp("shards"), {"val": 2, "train": 8}, frames=24, per_shard=1)


@pytest.fixture(scope="module")
def begun(shards, tmp_path_factory) -> Path:
    """A folder with the shards, a run of the first three steps, which tests copy, and the run that nothing befalls."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(shards, folder / "shards")
    runs = [job(folder / "shards", folder / "run", "steps=3"), job(folder / "shards", folder / "whole")]
    train(folder, 1, runs)
    return folder


@pytest.fixture(scope="module")
def whole(begun) -> Path:
    return begun / "whole"


@pytest.fixture(scope="module")
def hurt(shards, tmp_path_factory) -> Path:
    """The shards with a damaged clip to train on, and one to validate on."""
    folder = shutil.copytree(shards, tmp_path_factory.mktemp("hurt") / "shards")
    damage(folder, "train3-1")
    damage(folder, "val0-0")
    return folder


@pytest.fixture(scope="module")
def hurt_run(hurt, command):
    """A run over them, by itself: its folder, and what it said."""
    run = hurt.parent / "w1"
    return run, command(*typed(hurt, run), timeout=600)


def test_a_damaged_clip_is_replaced_and_named(hurt_run, whole):
    run, done = hurt_run
    assert done.returncode == 0, done.stderr
    rows = ledger(run)
    assert {row["key"] for row in rows} == {"train3-1"}
    assert {(row["corpus"], row["reason"]) for row in rows} == {("test", "checksum")}
    assert [row["slot"] for row in rows] == sorted(row["slot"] for row in rows)
    steps = {row["slot"] // 8 for row in rows}
    changed = np.flatnonzero(curve(run, "keys") != curve(whole, "keys")).tolist()
    assert set(changed) <= steps, "other steps hold what they would"
    assert changed
    assert not (whole / LEDGER).exists()


def test_validation_leaves_a_damaged_clip_out_and_says_so(hurt_run):
    """The picture of the person who shows it, too."""
    run, done = hurt_run
    lines = [line for line in done.stderr.splitlines() if "left out" in line]
    assert lines
    assert all("validation: left out: clip val0-" in line for line in lines)
    assert "val0-0" not in (run / LEDGER).read_text(), "the ledger is of training"
    scores = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if "validation" in line]
    assert np.isfinite(scores[-1]["validation"]["loss"])


def test_the_ledger_and_the_curve_are_the_same_at_world_size_2_and_after_resuming(hurt, hurt_run, command, tmp_path):
    """Lines past the checkpoint are of steps that are taken again: dropped, not doubled."""
    run, _ = hurt_run
    resumed = tmp_path / "resumed"
    train(tmp_path, 2, [job(hurt, tmp_path / "w2"), job(hurt, resumed, "steps=3")])
    kept = ledger(resumed)
    late = [row for row in ledger(run) if row["slot"] >= 24]
    assert kept
    assert late, "the damaged clip comes before and after the checkpoint"
    with open(resumed / LEDGER, "a") as handle:
        handle.write("".join(json.dumps(row) + "\n" for row in late) + '{"slot": 41, "ke')
    assert ledger_after(command, hurt, resumed) == ledger(run)
    assert ledger(tmp_path / "w2") == ledger(run)
    for other in (tmp_path / "w2", resumed):
        np.testing.assert_array_equal(curve(other, "keys"), curve(run, "keys"))
        np.testing.assert_allclose(curve(other), curve(run), rtol=1e-4)


def ledger_after(command, shards: Path, run: Path) -> list[dict]:
    """The ledger of a run that the same command continues."""
    done = command(*typed(shards, run), timeout=600)
    assert done.returncode == 0, done.stderr
    assert "resuming after step 3" in done.stdout
    return ledger(run)


def test_the_plan_of_a_run_is_what_it_consumed(whole, begun):
    """By the settings in its folder: the numbers that tell each step's clips and windows are those that it logged."""
    typed = [str(begun / "shards"), "--config", str(whole / "config.yaml"), "--start", "0", "--stop", "48"]
    made = plan.plan(plan.arguments().parse_args(typed))
    assert made["selection"] == json.loads((whole / "finished.json").read_text())["fixed"]["selection"]["digest"]
    for step, logged in enumerate(curve(whole, "keys")):
        some = [one for one in made["slots"] if one["step"] == step]
        assert len(some) == 8
        batch = SimpleNamespace(
            slots_B=torch.tensor([one["slot"] for one in some]),
            keys_B=[one["key"] for one in some],
            starts_B=torch.tensor([one["window"][0] for one in some]),
        )
        assert loop.key_sum(batch) == logged


def test_more_damage_than_a_share_stops_the_run(hurt, command, tmp_path):
    """One of a corpus's clips may always be lost, more not; with a larger share they may."""
    folder = shutil.copytree(hurt, tmp_path / "shards")
    damage(folder, "train1-0")
    damage(folder, "train5-0")
    said = refused(command(*typed(folder, tmp_path / "run"), timeout=600))
    damaged = {row["key"] for row in ledger(tmp_path / "run")}
    assert len(damaged) > 1, "it stops at the step that holds the second; the third may come with it"
    assert f"{len(damaged)} of 16 clips of corpus 'test' are damaged, more than bad_share=0.01" in said
    assert str(tmp_path / "run" / LEDGER) in said
    done = command(*typed(folder, tmp_path / "run", "bad_share=0.2"), timeout=600)
    assert done.returncode == 0, done.stderr
    assert {row["key"] for row in ledger(tmp_path / "run")} == {"train1-0", "train3-1", "train5-0"}


def test_a_server_that_dies_ends_the_run_with_75_and_the_same_command_continues(shards, whole, command, tmp_path):
    dead = threading.Event()
    run = tmp_path / "run"

    def fault(method: str, path: str) -> int | str:
        logged = run / "metrics.jsonl"
        if path.endswith(".tar") and not dead.is_set() and logged.exists() and logged.read_text().count("\n") >= 4:
            dead.set()
        return 503 if dead.is_set() and path.endswith(".tar") else "ok"

    with FaultyServer(shards, fault) as server:
        line = typed(server.url, run, "steps=12")
        done = command(*line, timeout=600)
        assert done.returncode == 75, done.stderr
        lines = [one for one in done.stderr.splitlines() if "error:" in one]
        assert len(lines) == 1, done.stderr
        assert "not read in 5 tries (HTTP 503); the same command continues when it can be reached" in lines[0]
        assert "Traceback" not in done.stderr
        assert not (run / LEDGER).exists(), "storage is not content"
    with FaultyServer(shards, ["ok"]) as server:
        done = command(*typed(server.url, run, "steps=12", f"cache={tmp_path / 'cache'}", "cache_gb=0.02"), timeout=600)
        assert done.returncode == 0, done.stderr
        assert "resuming after step" in done.stdout
    assert list((tmp_path / "cache").glob("*.chunk"))
    np.testing.assert_array_equal(curve(run, "keys")[:6], curve(whole, "keys"))
    np.testing.assert_allclose(curve(run)[:6], curve(whole), rtol=1e-4)


@pytest.fixture
def half(begun, tmp_path) -> Path:
    """The run of three steps, to be resumed."""
    return shutil.copytree(begun, tmp_path / "half")


def appended(shards: Path) -> int:
    """Four people more to train and their shards, one of a new corpus, as if extracted; returns the shards before."""
    before = Manifest.load(shards)
    longer = talkers.write(shards.parent / "longer", {"val": 2, "train": 12}, frames=24, per_shard=1)
    after = Manifest.load(longer)
    corpora = pa.array(["test"] * 22 + ["new"] * 6)
    place = after.table.column_names.index("corpus")
    for path in longer.glob("motion-*"):
        shutil.copy(path, shards)
    manifest_update.save(shards, after.table.set_column(place, "corpus", corpora), after.header)
    return before.shards_until


def test_a_run_goes_on_unchanged_while_its_shards_are_annotated_and_appended_to(half, whole, command):
    shards = half / "shards"
    assert appended(shards) == 20
    made = Manifest.load(shards)
    manifest_update.save(shards, made.table.append_column("score", pa.array(np.arange(len(made)) / 7)), made.header)
    done = command(*typed(shards, half / "run"), timeout=600)
    assert done.returncode == 0, done.stderr
    assert "resuming after step 3" in done.stdout
    np.testing.assert_array_equal(curve(half / "run", "keys"), curve(whole, "keys"))
    np.testing.assert_allclose(curve(half / "run"), curve(whole), rtol=1e-4)
    ours, theirs = ((run / "metrics.jsonl").read_text().splitlines() for run in (half / "run", whole))
    scores = [[json.loads(line)["validation"] for line in lines if "validation" in line] for lines in (ours, theirs)]
    assert scores[0][-1] == pytest.approx(scores[1][-1], rel=1e-4)


CHANGES = {
    "where=frames >= 27": "selection.clips.test: 16 -> ",
    "seed=5": "seed: 1 -> 5",
    "repeats={test: 2}": "repeats.test: None -> 2.0",
}


@pytest.mark.parametrize("setting", CHANGES)
def test_other_data_is_refused_with_the_difference_and_taken_when_accepted(half, command, setting):
    line = typed(half / "shards", half / "run", setting, "steps=4")
    before = sorted((half / "run" / "checkpoints").iterdir())
    said = refused(command(*line, timeout=600))
    assert CHANGES[setting] in said
    assert "go on all the same with accept_changes=true" in said
    assert sorted((half / "run" / "checkpoints").iterdir()) == before
    if setting.startswith("where"):  # one does for all: a start costs seconds
        done = command(*line, "accept_changes=true", timeout=600)
        assert done.returncode == 0, done.stderr
        assert "resuming after step 3" in done.stdout
        assert "motion: going on with what changed: " in done.stdout
        assert CHANGES[setting] in done.stdout
        assert len(curve(half / "run")) == 4


@pytest.mark.parametrize("accept", ["false", "true"])
def test_another_network_is_never_taken(half, command, accept):
    said = refused(command(*typed(half / "shards", half / "run", "model.width=64", f"accept_changes={accept}")))
    assert "model.width: 32 -> 64" in said
    assert "accept_changes" not in said


# What a recipe reads beside its examples


def recipe_of(name: str, shards: Path, *settings: str):
    """A recipe of the tiny settings, in this process."""
    schema, make = RECIPES[name]
    return make(
        config.load(schema, str(ROOT / "tests" / "helpers" / f"tiny_{name}.yaml"), [f"shards={shards}", *settings])
    )


@pytest.mark.parametrize("name", ["identity", "syncnet"])
def test_validation_keeps_to_the_pinned_shards(shards, tmp_path, name):
    """People who are added to val while a run goes on are not measured by it."""
    longer = talkers.write(tmp_path / "longer", {"val": 2, "train": 8, "unseen": 2}, frames=24, per_shard=1)
    made = Manifest.load(longer)
    splits = pa.array(["val" if split == "unseen" else split for split in made.column("split")])
    manifest_update.save(longer, made.table.set_column(made.names.index("split"), "split", splits), made.header)
    before, pinned, later = (
        recipe_of(name, folder, f"shards_until={until}") for folder, until in ((shards, 0), (longer, 20), (longer, 0))
    )
    assert before.rows == pinned.rows == [0, 1, 2, 3]
    assert later.rows == [*before.rows, 20, 21, 22, 23]


def test_the_mean_face_of_damaged_shards_is_that_of_the_others(shards, hurt):
    """One damaged clip does not keep an identity encoder from being trained."""
    whole, damaged = recipe_of("identity", shards), recipe_of("identity", hurt)
    assert damaged.mean_face_N2.isfinite().all()
    assert 0 < (damaged.mean_face_N2 - whole.mean_face_N2).abs().max() < 2


@pytest.mark.parametrize("name", ["motion", "syncnet", "identity", "appearance"])
def test_a_damaged_clip_has_no_picture_and_the_others_have(filmed_shards, tmp_path, name):
    folder = shutil.copytree(filmed_shards, tmp_path / "shards")
    every = {"motion": "pictured_clips=9", "syncnet": "pictured_clips=9", "appearance": "pictured_people=9"}
    settings = [every[name]] if name in every else []
    damage(folder, "val0-0")
    pictured = {}
    for where in (filmed_shards, folder):
        recipe = recipe_of(name, where, *settings)
        torch.manual_seed(0)
        with torch.no_grad():
            modules = {player: module.eval() for player, module in modules_of(recipe).items()}
            pictured[where] = recipe.pictures(modules)
    whole, left = pictured[filmed_shards], pictured[folder]
    assert left
    if name == "identity":
        assert [picture.shape[0] for picture in (*whole.values(), *left.values())] == [4 * CELL_PX, 3 * CELL_PX]
    else:
        assert set(left) < set(whole)
        for shown, picture in left.items():
            np.testing.assert_array_equal(picture, whole[shown])
