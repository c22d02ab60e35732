"""The benchmarks run and print all their rows; the figures are nobody's business here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import heads, media, real_people, robustness
from benchmarks.people import dubbed, plan, promises
from benchmarks.people import rows as people_rows
from benchmarks.people.rows import RowClip
from benchmarks.train import plays
from data_pipeline.synthetic.movement import FRONTAL
from data_pipeline.synthetic.paint import projection
from eval import score_file
from eval.score_file import ClipScore
from mytalk.command import UserError
from tests.helpers import needs, numbered
from tests.helpers.checkout import ROOT

ROWS = [
    *("stock webdataset, clips of 5 s", "only what is read for them", "motion examples a second / floor"),
    *("stock webdataset, clips of 20 s", "no padding, clips of 20 s", "floor of bare reads, clips of 20 s"),
    *("decord, an mp4 per clip", "decord, the same bytes", "appearance examples a second / floor"),
    *("200 shards x 10 clips", "200 shards x 100 clips", "200 shards x 500 clips"),
]


def test_the_stream_is_measured(tmp_path):
    """Every contestant takes part and makes the same tensors, which the benchmark asserts itself."""
    out = tmp_path / "rows.json"
    typed = [sys.executable, "-m", "benchmarks.stream", "--clips", "12", "--seconds", "0.2", "--out", str(out)]
    done = subprocess.run(typed, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(ROWS)
    for line, row in zip(lines[2:], ROWS):
        assert row in line
    kept = json.loads(out.read_text())
    assert [f"| {row['what']} " in line for row, line in zip(kept, lines[2:])] == [True] * len(ROWS)
    assert all(ratio > 0 for row in kept for ratio in row["values"])


LOOP = ["bare DeepSpeed loop, ZeRO 0", "what the loop adds to DeepSpeed, ZeRO 0"]
OTHERS = [
    *("data / step, workers=1", "data / step, workers=2"),
    *("stall per checkpoint as recorded", "lost per checkpoint by the clock", "with checkpoints / without"),
    *("two processes), ZeRO 0", "a run alone / beside a stranger, ZeRO 0"),
    *("MFU, motion, micro-batch 2, fp32", "MFU, appearance, micro-batch 2, fp32"),
]


@pytest.mark.parametrize(
    ("parts", "rows"),
    [("loop", LOOP), pytest.param("data,checkpoint,processes,mfu", OTHERS, marks=pytest.mark.full)],
)
def test_training_is_measured(tmp_path, parts, rows):
    """Every part of benchmarks.train, on the smallest runs; that the bare loop learns the same it asserts itself."""
    out, typed = tmp_path / "rows.json", [sys.executable, "-m", "benchmarks.train", "--rounds", "1", "--stages", "0"]
    typed += ["--parts", parts, "--micro-batches", "2", "--config", "tests/helpers/tiny_motion.yaml", "--out", str(out)]
    for recipe in ("motion", "appearance"):
        typed += ["--mfu-config", f"tests/helpers/tiny_{recipe}.yaml"]
    done = subprocess.run(typed, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows):
        assert row in line
    for row in json.loads(out.read_text()):
        assert row["values"]
        assert all(math.isfinite(value) for value in row["values"])
        # what a checkpoint costs by the clock is a difference, and may be lost in noise
        assert "by the clock" in row["what"] or all(value > 0 for value in row["values"])


def test_a_convolution_counts_as_its_products():
    """Forward and both gradients, against products counted by hand; torch's own count is 8 times that of the second."""
    x_BCT, flops = torch.randn(2, 8, 20, requires_grad=True), []
    for groups in (1, 8):
        layer = torch.nn.Conv1d(8, 8, 5, padding=2, groups=groups, bias=False)
        with plays.counter() as counted:
            layer(x_BCT).sum().backward()
        flops.append(counted.get_total_flops())
    assert flops == [3 * 2 * (2 * 20) * 8 * 8 * 5, 3 * 2 * (2 * 20) * 8 * 1 * 5]


def test_files_of_one_person_come_into_one_folder(tmp_path):
    videos, people = tmp_path / "videos", tmp_path / "people.csv"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (videos / name).write_text(name)
    people.write_text("a.mp4,ann\nc.mp4, ann\n")
    out = plan.by_person(videos, people, tmp_path / "out")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.mp4")) == [
        "ann/a.mp4",
        "ann/c.mp4",
        "b/b.mp4",
    ]
    people.write_text("d.mp4,ann\n")
    with pytest.raises(UserError, match=r"names d.mp4, which is no file"):
        plan.by_person(videos, people, tmp_path / "out")


def row_clips(method: str, correlations: dict[str, list[tuple[str, float | None]]], tmp_path) -> dict:
    """What `clips_of_rows` reads back of a scoring in each split: (person, opening correlation of a clip)."""
    scorings = []
    for split, clips in correlations.items():
        scores = []
        for number, (person, value) in enumerate(clips):
            metrics = {} if value is None else {name: {"opening_correlation": value, "lmd_px": 1.0} for name in METHODS}
            metrics.get(method, {}).update(opening_correlation=0.0)
            reason = "no_source" if value is None else None
            scores.append(ClipScore(f"{person}-{split}-{number}", person, metrics, reason=reason))
        scorings.append(people_rows.Scoring("60 steps", split, tmp_path / split))
        score_file.write_whole(scorings[-1].out, {}, scores)
    clips, people = real_people.clips_of_rows(scorings)
    assert people == 3
    return clips


def test_people_are_averaged_over_splits_before_they_are_counted(tmp_path):
    """Ann is unseen in both splits, with two clips in the first; a mean over (split, person) would be another."""
    correlations = {"one": [("ann", 0.2), ("ann", 0.4), ("bob", 0.6)], "two": [("ann", 0.9), ("cem", None)]}
    clips = row_clips("ridge", correlations, tmp_path)
    rows = {row: people_rows.entries(of_row, 3) for row, of_row in clips.items()}
    entry = rows["motion, 60 steps"]["opening_correlation"]
    assert entry["mean"] == pytest.approx((0.5 + 0.6) / 2)
    assert (entry["n"], entry["total"], entry["clips"]) == (2, 3, 4)
    assert entry["splits"] == pytest.approx([0.45, 0.9])
    assert set(rows) == {
        "motion, 60 steps",
        "motion, 60 steps, another clip's speech",
        "ridge regression",
        "frozen mouth",
    }
    assert len({line.count("|") for line in people_rows.table(rows)}) == 1
    assert real_people.pairs_of(rows) == [("motion, 60 steps", "ridge regression")]
    apart = people_rows.differences(clips["motion, 60 steps"], clips["ridge regression"])
    assert apart["opening_correlation"]["mean"] == pytest.approx(0.55)
    assert apart["opening_correlation"]["ci95"] == pytest.approx([-0.0853, 1.1853], abs=1e-3)  # t(0.975, 1) s / sqrt(2)
    assert (apart["opening_correlation"]["p"], apart["opening_correlation"]["n"]) == (0.5, 2)
    apart["lmd_px"]["p"] = 1e-5
    lines = people_rows.table_of_differences({"a - b": apart})
    assert len({line.count("|") for line in lines}) == 1
    assert "p 0.500" in lines[2]
    assert "p < 0.001" in lines[2]


def test_the_gain_of_people_is_in_their_rows():
    """Written amplitudes of half the logarithm: a slope of a half, whoever speaks in which split."""
    clips = [
        RowClip("s", f"k{n}", f"p{n}", {"opening_correlation": 0.1 * n}, {"log_amplitude": n}, {"log_amplitude": n / 2})
        for n in range(6)
    ]
    rows = {"m": people_rows.entries(clips, 6), "few": people_rows.entries(clips[:2], 6)}
    assert rows["m"]["gain_recovered"]["mean"] == pytest.approx(0.5)
    lines = people_rows.table(rows)
    assert lines[2].startswith("| m | 6/6 | 0.250 [")
    assert lines[2].endswith("| 0.500 [0.500, 0.500] |")
    assert lines[3].endswith("| not told |")


def test_splits_of_real_people_by_seed_and_by_part():
    def asked(*more: str) -> list[plan.Split]:
        return plan.splits_of(real_people.arguments().parse_args(["videos", "out", *more]))

    assert [split.name for split in asked("--seeds", "2")] == ["seed-0", "seed-1"]
    parts = asked("--seeds", "1", "--folds", "3")
    assert [split.name for split in parts] == ["seed-0-part-1", "seed-0-part-2", "seed-0-part-3"]
    assert parts[1].options() == ("--val", "0.15", "--fold", "2/3", "--seed", "0", "--force")
    steps, _ = plan.of_split(real_people.arguments().parse_args(["videos", "out"]), parts[0])
    assert steps[0].words[:2] == ("data_pipeline", "index")
    assert "--unsplit" not in steps[0].words  # it refuses a manifest that is there, as after a kill or with more videos
    for wrong, words in (
        (("--seeds", "0"), "1 or more"),
        (("--tune-drawn", "3"), "--drawn"),
        (("--steps",), "trains nothing"),
    ):
        with pytest.raises(UserError, match=words):
            asked(*wrong)


def test_unseen_people_are_dubbed_by_every_motion_model_with_the_given_painter(tmp_path):
    typed = ["videos", "out", "--drawn", "runs/demo", "--appearance", "painter", "--steps", "60", "--frames", "40"]
    typed += ["--sampler-steps", "7"]
    args = real_people.arguments().parse_args(typed)
    steps, scorings = plan.of_split(args, plan.Split(0))
    trained, drawn = (step for step in steps if step.name.startswith("dub "))
    assert trained.words[:2] == drawn.words[:2] == ("eval", "benchmark")
    asked = dict(zip(trained.words, trained.words[1:]))
    assert (asked["--motion"], asked["--frames"]) == ("out/seed-0/motion-60-steps/model", "40")
    assert (asked["--steps"], asked["--clips-per-person"]) == ("7", "1"), "as many as of `eval motion`"
    assert [path.parts[0] for path in trained.reads] == ["painter"]
    assert [path.parts[0] for path in drawn.reads] == ["painter", "runs"], "another given model dubs again"
    dub = plan.dub_of(scorings[0])
    assert trained.result == dub.out / "report.json"
    args = real_people.arguments().parse_args([*typed[:4], "--steps"])
    assert [step.name.split(",")[0] for step in plan.of_split(args, plan.Split(0))[0]] == [
        *("index", "split", "score drawn"),
    ], "a given model needs no training"
    dub = replace(dub, out=tmp_path)
    values = {"opening_correlation": 0.5, "psnr_mouth_db": 30.0}
    of_rows = {"mytalk": values, "ground_truth": values, "frozen_mouth": {"psnr_mouth_db": 30.0}}
    scores = [ClipScore(f"k{n}", f"p{n}", of_rows) for n in range(2)]
    score_file.write_whole(dub.out, {}, [*scores, ClipScore("k", "p2", reason="no_face")])
    lines = people_rows.table(dubbed.rows([dub]), dubbed.METRICS)
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| 60 steps: mytalk", "2/3"],
        ["| 60 steps: ground_truth", "2/3"],
        ["| 60 steps: frozen_mouth", "not told"],
    ]
    with pytest.raises(UserError, match="--frames 24 is too short"):
        plan.of_split(real_people.arguments().parse_args([*typed, "--frames", "24"]), plan.Split(0))
    with pytest.raises(UserError, match=r"no model\.safetensors in painter"):
        plan.splits_of(real_people.arguments().parse_args(typed))


def test_the_drawn_model_goes_on_at_a_fifth_of_the_rate(tmp_path):
    """With the identity encoder that it knows, where it knows one."""
    typed = ["videos", "out", "--drawn", str(tmp_path), "--tune-drawn", "40", "--steps", "60", "--settings", "a=1"]
    args = real_people.arguments().parse_args(typed)
    made = plan.models(args)
    assert made["60 steps"] == ["a=1", "steps=60"]
    tuned = made["drawn, then 40 steps"]
    model = tmp_path / "motion" / "model"
    assert tuned == ["a=1", "steps=40", f"init_from={model}", "optimizer.lr=0.0002", "identity="]
    (model / "identity").mkdir(parents=True)
    assert plan.models(args)["drawn, then 40 steps"][-1] == f"identity={model / 'identity'}"


def test_real_people_are_mixed_with_those_of_the_drawn_model():
    """Trained on an index of both, a real clip as often as is asked; scored on the real people alone."""
    typed = ["videos/real", "out", "--drawn", "runs/demo", "--tune-drawn", "40", "--steps", "60", "--mixed", "5"]
    args = real_people.arguments().parse_args(typed)
    made = plan.models(args)
    assert list(made) == [
        f"{name}{both}" for both in ("", ", both mixed") for name in ("60 steps", "drawn, then 40 steps")
    ]
    assert made["60 steps, both mixed"] == ["steps=60", "repeats={real: 5}", "identity="]
    steps = {step.name: step.words for step in plan.of_split(args, plan.Split(0))[0]}
    mixed, alone = "shards=out/seed-0/mixed", "shards=out/seed-0/shards"
    assert [
        alone in steps["train motion 60 steps, seed-0"],
        mixed in steps["train motion 60 steps, both mixed, seed-0"],
    ] == [True, True]
    assert steps["index both, seed-0"][-2:] == ("runs/demo/shards", "out/seed-0/shards")
    assert "out/seed-0/shards" in steps["score 60 steps, both mixed, seed-0"]
    with pytest.raises(UserError, match="needs the shards of --drawn"):
        plan.splits_of(real_people.arguments().parse_args(["videos", "out", "--mixed", "2"]))


def test_models_of_real_people_hear_an_encoder_that_is_named():
    """The column is written once, before the people are divided; dubs compute it of any sound."""
    typed = ["videos", "out", "--drawn", "runs/demo", "--steps", "60", "--speech-encoder", "whisper-tiny.en"]
    args = real_people.arguments().parse_args([*typed, "--layer", "2", "--settings", "a=1", "--appearance", "painter"])
    (column,) = plan.heard(args)
    assert column.words[1:] == ("column", "out/extracted", "speech", "--encoder", "whisper-tiny.en", "--layer", "2")
    (settings,) = plan.models(args).values()
    assert settings[0] == "model.features=speech"
    assert settings[-2:] == ["a=1", "steps=60"]
    dubs = [step for step in plan.of_split(args, plan.Split(0))[0] if step.name.startswith("dub ")]
    assert [step.words[-2:] for step in dubs] == [("--speech-encoder", "whisper-tiny.en")] * 2
    corrected = plan.heard(real_people.arguments().parse_args([*typed, "--syncnet", "sync"]))
    assert corrected[-1].words == ("data_pipeline", "annotate", "out/extracted", "sync", "--syncnet", "sync")
    assert corrected[-1].reads == (Path("sync/model.safetensors"),), "another one corrects again"
    with pytest.raises(UserError, match="names a SyncNet's model folder"):
        plan.splits_of(real_people.arguments().parse_args(["videos", "out", "--syncnet", "sync"]))
    with pytest.raises(UserError, match="name one"):
        plan.splits_of(real_people.arguments().parse_args(["videos", "out", "--layer", "2"]))


@pytest.mark.full
@needs.drawn_people
def test_models_of_every_split_are_trained_and_scored_and_typed_again_nothing_is_done_twice(command, tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "out"
    size = ("--identities", "6", "--clips-per-identity", "2", "--seed", "0", "--seconds", "2")
    command("-m", "data_pipeline", "demo", str(videos), *size, check=True)
    typed = ("-m", "benchmarks.real_people", str(videos), str(out), "--seeds", "1", "--folds", "2", "--steps", "1", "2")
    first = command(*typed, check=True)
    kept = json.loads((out / "results.json").read_text())
    assert {entry["split"] for entry in kept["scorings"]} == {"seed-0-part-1", "seed-0-part-2"}
    for row in ("motion, 1 steps", "motion, 2 steps", "ridge regression", "frozen mouth"):
        assert f"| {row} |" in first.stdout
        assert len(kept["rows"][row]["lmd_px"]["splits"]) == 2
    again = command(*typed, check=True)
    assert "[1/" not in again.stdout
    assert first.stdout.endswith(again.stdout)


def test_any_files_are_read_and_told_in_a_table(tmp_path, capsys, monkeypatch):
    whole = numbered.write(tmp_path / "v.mkv", numbered.regular(60), audio=numbered.click(2.4, 1.0))
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("no video")
    monkeypatch.setattr(sys, "argv", ["media", *(str(tmp_path / name) for name in ("v.mkv", "cut.mkv", "text.mp4"))])
    assert media.main() == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines[0].startswith("| v.mkv | 60 | 64 x 64 | 2.4")
    assert "breaks off at" in lines[1]
    assert lines[2].startswith("| text.mp4 | unreadable |")


def test_angles_of_turned_points_are_those_of_the_truth():
    """Detected z is away from the camera, drawn z towards it; scale and shift change no angle."""
    random = np.random.default_rng(0)
    true_T3 = random.uniform((-25, -15, -10), (25, 15, 10), (12, 3))
    points_R3 = random.normal(0, 50, (21, 3))
    rotations = [projection.rotation(replace(FRONTAL, yaw=y, pitch=p, roll=r)) for y, p, r in true_T3]
    detected_TR3 = np.stack([0.9 * points_R3 @ rotation.T * (1, 1, -1) + (250, 260, 7) for rotation in rotations])
    np.testing.assert_allclose(heads.angles(detected_TR3, true_T3), true_T3, atol=1e-9)


def test_a_curve_that_comes_late_has_its_lag():
    times_T = np.arange(200)
    late_T = np.sin((times_T - 1.3) / 3)
    assert heads.lag(np.sin(times_T / 3), late_T) == pytest.approx(1.3, abs=0.05)


METHODS = ("mytalk", "shuffled_audio", "ridge", "frozen_mouth")


def test_speech_recorded_otherwise_is_told_against_clean(talker_shards, tmp_path, capsys):
    """A model that levels its speech: 12 dB less changes nothing, noise does, a silent source does."""
    from mytalk.networks.motion.config import MotionConfig
    from mytalk.networks.motion.files import save_model
    from mytalk.networks.motion.network import MotionModel
    from tests.helpers.motion_batches import shaken

    sizes = MotionConfig(
        width=16, heads=2, layers=1, hidden=16, kernel=3, speech_layers=1, identity_layers=1, speech_level=True
    )
    save_model(shaken(MotionModel(sizes)).state_dict(), sizes, tmp_path / "model")
    typed = [str(talker_shards), str(tmp_path / "model"), str(tmp_path / "out"), "--steps", "1"]
    assert robustness.run(robustness.arguments().parse_args(typed)) == 0
    kept = json.loads((tmp_path / "out" / "robustness.json").read_text())["rows"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {row}" for row in robustness.ROWS]
    away = {row: abs(entry["mean_px"]["difference"]["mean"]) for row, entry in kept.items()}
    assert away["clean"] == 0
    assert away["-12 dB"] < 1e-3
    assert min(away["noise, 10 dB"], away["silent source"]) > 1e-3


def test_promises_are_told_against_what_is_written_without(talker_shards, tmp_path, capsys, monkeypatch):
    """Lips promised closed at the true times close at all of them, and a mouth promised still is still."""
    from mytalk.networks.motion.config import MotionConfig
    from mytalk.networks.motion.files import save_model
    from mytalk.networks.motion.network import MotionModel
    from tests.helpers.motion_batches import shaken

    monkeypatch.setattr(promises, "read_bilabials", lambda manifest, window: ((0.2, 0.28), (1.0, 1.08)))
    monkeypatch.setattr(promises.times, "bilabials", lambda audio_S: [(0.6, 0.68)])
    monkeypatch.setattr(promises.times, "silences", lambda audio_S, until_s: [(0.3, 0.5)])
    sizes = MotionConfig(width=16, heads=2, layers=1, hidden=16, kernel=3, speech_layers=1, identity_layers=1)
    save_model(shaken(MotionModel(sizes)).state_dict(), sizes, tmp_path / "model")
    out = tmp_path / "promises.json"
    typed = ["--shards", str(talker_shards), "--model", str(tmp_path / "model"), "--out", str(out), "--steps", "1"]
    assert promises.run(promises.arguments().parse_args([*typed, "--clips-per-person", "1"])) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 5 + 2 + 4
    rows = json.loads(out.read_text())["rows"]
    assert rows[promises.TRUE]["closure_recall"]["mean"] == 1.0
    assert rows[promises.WRITTEN]["closure_recall"]["mean"] < 1.0
    still = [rows[name]["moves_in_silence_px"]["mean"] for name in (promises.STILL, promises.BOTH, promises.WRITTEN)]
    assert max(still[:2]) < 0.05 < still[2]
