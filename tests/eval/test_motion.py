"""`python -m eval motion` as a whole: every miss counts, resuming, processes, refusals."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.columns import column, mel
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from eval import score_file
from eval.__main__ import COMMANDS
from eval.metrics.lips import LipPair, aligned, lmd_px
from eval.report import check
from eval.rows import landmarks, ridge
from eval.rows.inputs import read_inputs
from eval.tasks import Settings, noise_seeds, plan_tasks
from mytalk import command as commands
from mytalk.machine import free_port
from mytalk.networks import weights
from mytalk.networks.identity import IdentityConfig, IdentityEncoder
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import load_model, save_model
from mytalk.networks.motion.network import MotionModel
from tests.helpers import talkers

STEPS = "3"


def motion(shards: Path, model: Path, out: Path, *more: str) -> int:
    """The command in this process; its exit code."""
    argv = ["motion", "--shards", str(shards), "--model", str(model), "--out", str(out), "--steps", STEPS, *more]
    return commands.main("python -m eval", "", COMMANDS, argv)


@pytest.fixture(scope="module")
def scored(shards, model, tmp_path_factory) -> Path:
    """An uninterrupted scoring."""
    out = tmp_path_factory.mktemp("scored")
    assert motion(shards, model, out) == 0
    return out


def held(out: Path) -> dict:
    return json.loads((out / check.NAME).read_text())


def broken(change: str, value: dict) -> dict:
    """A sound report, broken in one way."""
    made = copy.deepcopy(value)
    first = made["methods"]["mytalk"]["lmd_px"]
    if change in made:
        del made[change]
    elif change == "weights digest":
        del made["digests"]["weights"]
    elif change == "empty digest":
        made["digests"]["manifest"] = ""
    elif change == "definition":
        del made["protocol"]["metrics"]["lmd_px"]["definition"]
    elif change == "unit":
        made["protocol"]["metrics"]["lmd_px"]["unit"] = ""
    elif change == "method":
        made["methods"]["typed_in"] = made["methods"]["mytalk"]
    elif change == "count":
        first["n"] -= 1
    elif change == "interval":
        first["ci95"] = None
    elif change == "number":
        first["mean"] = float("nan")
    elif change == "lost clip":
        made["coverage"]["clips"]["total"] += 1
    elif change == "miss without reason":
        made["coverage"]["clips"]["total"] += 1
        made["coverage"]["misses"].append({"key": "a", "person": "b", "reason": "", "message": ""})
    elif change == "typed gate":
        made["gate"]["passed"] = not made["gate"]["passed"]
    assert made != value
    return made


CHANGES = ["protocol", "digests", "coverage", "methods", "weights digest", "empty digest", "definition", "unit"]
CHANGES += ["method", "count", "interval", "number", "lost clip", "miss without reason", "typed gate"]


@pytest.mark.parametrize("change", CHANGES)
def test_invariant_7_a_report_with_an_untraceable_number_is_not_written(change, scored, tmp_path) -> None:
    check.write(tmp_path / "sound", held(scored))
    with pytest.raises(check.UntraceableReport):
        check.write(tmp_path / "broken", broken(change, held(scored)))
    assert not (tmp_path / "broken").exists()


def test_invariant_7_the_command_reports_protocol_digests_and_coverage(scored, shards) -> None:
    made = held(scored)
    assert made["digests"]["manifest"] == Manifest.load(shards).digest
    assert made["protocol"]["sampler_steps"] == 3
    assert made["protocol"]["corpora"] == sorted(set(Manifest.load(shards).column("corpus").tolist()))
    assert made["coverage"] == {"people": {"scored": 3, "total": 3}, "clips": {"scored": 6, "total": 6}, "misses": []}
    for scores in made["methods"].values():
        for metric, value in scores.items():
            assert made["protocol"]["metrics"][metric]["definition"]
            low, high = value["ci95"]
            assert low <= value["mean"] <= high
    assert made["methods"]["frozen_mouth"]["opening_correlation"]["mean"] == 0
    assert made["ridge"]["clips"] == 2
    assert made["digests"]["ridge"] == ridge.digest(Manifest.load(shards))
    assert (scored / "openings.png").stat().st_size > 1000


def test_guidance_is_scored_and_stated(scored, shards, model, tmp_path, capsys) -> None:
    """A report without the option says nothing of it, so that it stays comparable with older ones."""
    assert "guidance" not in held(scored)["protocol"]
    assert motion(shards, model, tmp_path / "out", "--guidance", "2") == 1
    assert "trained without speech_dropout; leave it out" in capsys.readouterr().err
    knows = tmp_path / "knows"
    save_model(load_model(model).state_dict(), load_model(model).config, knows, facts={"speech_dropout": 0.1})
    assert motion(shards, knows, tmp_path / "out", "--guidance", "2") == 0
    made, plain = held(tmp_path / "out"), held(scored)
    assert made["protocol"]["guidance"] == 2
    moved = [each["methods"]["mytalk"]["lmd_px"]["mean"] for each in (made, plain)]
    assert moved[0] != moved[1]
    assert made["methods"]["frozen_mouth"] == plain["methods"]["frozen_mouth"]


def test_several_seeds_show_what_steps_and_noise_bring(scored, shards, model, tmp_path, capsys) -> None:
    """One step from the same noise, the seeds' mean, and how far they differ; other rows are as without."""
    assert motion(shards, model, tmp_path / "out", "--seeds", "2") == 0
    made, plain = held(tmp_path / "out"), held(scored)
    said = capsys.readouterr().out
    for row, scores in plain["methods"].items():
        assert {name: made["methods"][row][name] for name in scores} == scores
    manifest, settings = Manifest.load(shards), Settings(sampler_steps=int(STEPS))
    network = load_model(model)
    task = plan_tasks(manifest, settings)[0]
    found = {s.key: s for s in score_file.read(tmp_path / "out" / score_file.WHOLE)[1]}[task.key].methods
    inputs = read_inputs(manifest, settings, task)
    seeds = noise_seeds(settings, task.key, 2)
    given = (network, inputs.truth_TN3, inputs.source_UN3, inputs.source_audio_S, inputs.audio_S)
    first, second, one = (landmarks.generated(*given, *how) for how in ((seeds[0], 3), (seeds[1], 3), (seeds[0], 1)))
    distance = {name: lmd_px(aligned(inputs.truth_TN3, row)) for name, row in (("a", first), ("b", second))}
    assert found["one_step"]["lmd_px"] == pytest.approx(lmd_px(aligned(inputs.truth_TN3, one)), rel=1e-4)
    mean = aligned(inputs.truth_TN3, (first.astype(np.float64) + second) / 2)
    assert found["mean_of_seeds"]["lmd_px"] == pytest.approx(lmd_px(mean), rel=1e-4)
    apart = lmd_px(LipPair(*(aligned(inputs.truth_TN3, row).result_TN for row in (first, second))))
    assert found["mytalk"]["seed_spread_ratio"] == pytest.approx(2 * apart / (distance["a"] + distance["b"]), rel=1e-4)
    assert apart > 0.01
    steps = made["against_one_step"]["metrics"]["lmd_px"]["difference"]["mean"]
    rows = made["methods"]
    assert steps == pytest.approx(rows["mytalk"]["lmd_px"]["mean"] - rows["one_step"]["lmd_px"]["mean"])
    assert "mytalk against one_step: " in said
    assert "seed_spread_ratio (1 is right)" in said


def test_a_model_that_hears_a_column_is_scored_with_it(shards, model, tmp_path) -> None:
    """A column of log-mel energies scores as the sound does; swapped speech is another clip's column."""
    folder = shutil.copytree(shards, tmp_path / "shards")
    made = mel.made()
    column.add(folder, "heard", made.values, made.width, of=made.of)
    network = load_model(model)
    hears = dataclasses.replace(network.config, features="heard", features_width=made.width)
    save_model(network.state_dict(), hears, tmp_path / "model")
    manifest, settings = Manifest.load(folder), Settings(sampler_steps=2)
    task = plan_tasks(manifest, settings)[0]
    by_sound = landmarks.score(manifest, settings, task, network).methods
    by_column = landmarks.score(manifest, settings, task, load_model(tmp_path / "model")).methods
    assert by_column["mytalk"] == pytest.approx(by_sound["mytalk"], rel=0.02)
    assert by_column["shuffled_audio"]["lmd_px"] == pytest.approx(by_sound["shuffled_audio"]["lmd_px"], rel=0.02)
    assert by_column["shuffled_audio"] != by_column["mytalk"]
    assert motion(shards, tmp_path / "model", tmp_path / "out") == 1, "these shards have no such column"


def test_every_miss_is_counted_with_its_reason(model, tmp_path, capsys) -> None:
    shards = talkers.write(tmp_path / "shards", {"unseen": 3})
    manifest = Manifest.load(shards)
    still, damaged, *_ = manifest.rows("unseen").tolist()
    truth = reader.read_landmarks(manifest, still)
    talkers.overwrite(manifest, still, np.repeat(truth[:1], len(truth), axis=0))
    bad = reader.read_landmarks(manifest, damaged)
    bad[3, 5] = np.nan
    talkers.overwrite(manifest, damaged, bad)
    assert motion(shards, model, tmp_path / "out") == 0
    made = held(tmp_path / "out")
    reasons = {miss["key"]: miss["reason"] for miss in made["coverage"]["misses"]}
    # The still clip's person is seen in the damaged one.
    assert reasons == {"unseen0-0": "not_finite", "unseen0-1": "not_finite"}
    assert made["coverage"]["people"] == {"scored": 2, "total": 3}
    assert made["methods"]["mytalk"]["lmd_px"]["n"] == 2
    assert made["methods"]["mytalk"]["lmd_px"]["total"] == 3
    said = capsys.readouterr().out
    assert "scored 2/3 people, 4/6 clips; missed: 2 not_finite" in said
    assert "ridge: left out: 0 clips in split train; it needs two" in said
    assert "ridge" not in made["methods"]


def test_nothing_scored_is_an_error_in_one_line(model, tmp_path, capsys) -> None:
    shards = talkers.write(tmp_path / "shards", {"unseen": 2}, clips_each=1)
    assert motion(shards, model, tmp_path / "out") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no clip could be scored" in error
    assert not (tmp_path / "out" / check.NAME).exists()


def test_a_stopped_scoring_continues_and_ends_as_if_never_stopped(shards, model, scored, tmp_path, monkeypatch) -> None:
    whole, asked = landmarks.score, []

    def until_third(manifest, settings, task, *models):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(task.key)
        return whole(manifest, settings, task, *models)

    monkeypatch.setattr(landmarks, "score", until_third)
    assert motion(shards, model, tmp_path) == commands.EXIT_INTERRUPTED
    part = tmp_path / "clips-0000.jsonl"
    part.write_bytes(part.read_bytes() + b'{"key": "torn by a ki')

    def the_rest(manifest, settings, task, *models):
        asked.append(task.key)
        return whole(manifest, settings, task, *models)

    monkeypatch.setattr(landmarks, "score", the_rest)
    assert motion(shards, model, tmp_path) == 0
    assert len(asked) == len(set(asked)) == 6, "each clip once"
    assert held(tmp_path) == held(scored)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clips.jsonl",
        "openings.png",
        "report.json",
        "scoring.lock",
    ]


def test_the_people_that_ridge_is_fitted_on_are_not_scored_with_it(model, talker_shards, tmp_path, capsys) -> None:
    assert motion(talker_shards, model, tmp_path, "--split", "train", "--clips-per-person", "1") == 0
    assert "ridge" not in held(tmp_path)["methods"]
    assert "ridge: left out: it is fitted on the split train" in capsys.readouterr().out


def test_a_finished_scoring_ends_without_loading_torch(command, shards, model, scored) -> None:
    program = (
        "import sys; from eval.__main__ import COMMANDS, command\n"
        "code = command.main('python -m eval', '', COMMANDS, sys.argv[1:])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    arguments = ["--shards", str(shards), "--model", str(model), "--out", str(scored), "--steps", STEPS]
    done = command("-c", program, "motion", *arguments)
    assert done.returncode == 0, done.stderr
    assert "scored 3/3 people" in done.stdout


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_report_what_one_does(command, shards, model, scored, tmp_path, launcher) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "eval", "motion"]
    if launcher == "accelerate":
        two = ["--multi_gpu", "--num_processes", "2", "--main_process_port", str(free_port())]
        launch = ["-m", "accelerate.commands.launch", *two, "-m", "eval", "motion"]
    # As if another number of processes had begun it: the clip done by then is not done again.
    said, first = score_file.read(scored / score_file.WHOLE)
    assert said is not None
    with score_file.append_to(tmp_path, 5, said) as append:
        append(first[0])
    arguments = ["--shards", str(shards), "--model", str(model), "--out", str(tmp_path), "--steps", STEPS]
    done = command(*launch, *arguments, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("gate:") == 1, "one process speaks"
    two, one = held(tmp_path), held(scored)
    assert [two[name] for name in ("protocol", "digests", "coverage")] == [
        one[name] for name in ("protocol", "digests", "coverage")
    ]
    for method, scores in one["methods"].items():
        for metric, value in scores.items():
            assert two["methods"][method][metric]["mean"] == pytest.approx(value["mean"], rel=1e-4, abs=1e-6)
    lines = [json.loads(line) for line in (tmp_path / score_file.WHOLE).read_text().splitlines()[1:]]
    assert sorted(line["key"] for line in lines) == sorted(score.key for score in first), "each clip exactly once"


def test_another_model_in_the_same_folder_is_refused_until_forced(shards, model, scored, tmp_path, capsys) -> None:
    (tmp_path / "model").mkdir()
    state = {name: value * 1.5 for name, value in load_model(model).state_dict().items()}
    save_model(state, load_model(model).config, tmp_path / "model")
    out = tmp_path / "out"
    check.write(out, held(scored))
    assert motion(shards, tmp_path / "model", out) == 1
    assert "differ in digests.weights;" in capsys.readouterr().err
    assert held(out) == held(scored), "nothing is lost by asking"
    assert motion(shards, tmp_path / "model", out, "--force") == 0
    assert held(out)["digests"]["weights"] != held(scored)["digests"]["weights"]


@pytest.mark.parametrize(
    "earlier", ["report", "report that is no object", "report of a row less", "clips", "first line"]
)
def test_what_an_earlier_version_wrote_is_one_line_and_force_replaces_it(
    earlier, shards, model, scored, tmp_path, capsys
) -> None:
    made = held(scored)
    if earlier.startswith("report"):
        path = tmp_path / check.NAME
        del made["methods"]["shuffled_audio"]
        text = {"report": '{"format": 0}', "report that is no object": "[]"}.get(earlier, json.dumps(made))
    else:
        path = tmp_path / score_file.WHOLE
        text = {"clips": '{}\n{"clip": "a", "lmd": 1}\n', "first line": '"of version 0"\n'}[earlier]
    path.write_text(text)
    assert motion(shards, model, tmp_path) == 1
    error = capsys.readouterr().err
    assert error.count(os.linesep) == 1
    assert "--force" in error
    assert path.read_text() == text
    assert motion(shards, model, tmp_path, "--force") == 0
    assert held(tmp_path) == held(scored)


def test_the_identity_encoder_inside_the_model_is_among_the_digests(shards, tmp_path, capsys) -> None:
    small = IdentityConfig(width=16, heads=2, layers=1, hidden=16, kernel=3, embedding=8)
    config = MotionConfig(
        width=16, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1, extractor_width=16
    )
    torch.manual_seed(0)
    state = MotionModel(config).state_dict()
    found = []
    for _ in range(2):
        save_model(state, config, tmp_path / "model", IdentityEncoder(small))
        found.append(weights.digest(tmp_path / "model" / "identity"))
        assert motion(shards, tmp_path / "model", tmp_path / f"out{len(found)}") == 0
        assert held(tmp_path / f"out{len(found)}")["digests"]["extractor_weights"] == found[-1]
    assert found[0] != found[1]
    capsys.readouterr()
    assert motion(shards, tmp_path / "model", tmp_path / "out1") == 1
    assert "differ in digests.extractor_weights;" in capsys.readouterr().err


def test_a_failed_gate_is_an_error_only_where_it_is_required(shards, model, scored, capsys) -> None:
    assert motion(shards, model, scored) == 0
    assert "gate: FAIL: opening_correlation mytalk" in capsys.readouterr().out
    assert motion(shards, model, scored, "--require-gate") == 1


@pytest.mark.parametrize("wrong", ["no model", "no weights", "unknown split", "empty split", "no shards", "no report"])
def test_what_a_user_can_get_wrong_is_one_line(wrong, shards, model, tmp_path, capsys) -> None:
    out, more = tmp_path / "out", []
    if wrong == "no model":
        model = tmp_path
    elif wrong == "no weights":
        (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
        model = tmp_path
    elif wrong == "unknown split":
        more = ["--split", "unsen"]
    elif wrong == "empty split":
        more = ["--split", "val"]
    elif wrong == "no shards":
        shards = tmp_path
    elif wrong == "no report":
        out.mkdir()
        (out / check.NAME).write_text("{}")
    assert motion(shards, model, out, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("python -m eval motion: error: ")
    assert error.count(os.linesep) == 1


def test_weights_that_do_not_fit_are_one_line(shards, model, tmp_path, capsys) -> None:
    state = load_model(model).state_dict()
    config = dataclasses.replace(load_model(model).config, width=32)
    save_model(state, config, tmp_path / "model")
    assert motion(shards, tmp_path / "model", tmp_path / "out") == 1
    assert "do not fit its config" in capsys.readouterr().err
