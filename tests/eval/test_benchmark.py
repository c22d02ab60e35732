"""`python -m eval benchmark`: its metrics against closed forms, and the command with stand-ins and with the real parts.

Stand-ins: in a coded film the brightness of a disc in the middle tells how far the mouth is open. The detector
reads it, the painter writes it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_pipeline.shards import manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from eval import (
    clip,
    dub_metrics,
    dub_protocol,
    dubbed,
    kept,
    metrics,
    page,
    pixels,
    plan,
    protocol,
    records,
    redetect,
    report,
    rows,
    work,
)
from eval.__main__ import COMMANDS
from eval.dub_metrics import Judges, Seen, Truth
from mytalk import command as commands
from mytalk import media
from mytalk.dub import dubbing
from mytalk.face.landmarks import CROP_PX, INNER_LIP_PAIRS, MOUTH, SAMPLES_PER_FRAME, opening
from mytalk.machine import free_port, sole_user
from mytalk.networks import identity, motion, syncnet, weights
from tests.helpers import talkers
from train.recipes import identity as train_identity

IDENTITY = identity.IdentityConfig(width=16, heads=2, layers=1, hidden=16, kernel=3, embedding=8)
MOTION = motion.MotionConfig(
    width=16, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1, extractor_width=IDENTITY.width
)
SYNC = syncnet.SyncConfig(width=8, hidden=8, layers=1, embedding=8)
FACE = talkers.outlined(talkers.base_face(np.random.default_rng(3)))
GREY, PER_PX = 40, 6  # brightness of a closed mouth, and of each px of opening
STEPS = "2"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(openings_T: np.ndarray) -> np.ndarray:
    """The face with its mouth open so many px, (T, 478, 2)."""
    landmarks = np.repeat(FACE[None], len(openings_T), axis=0)
    for upper, lower in INNER_LIP_PAIRS:
        landmarks[:, lower] = landmarks[:, upper] + np.stack([np.zeros(len(openings_T)), openings_T], axis=-1)
    return landmarks


def similarity(landmarks_TN2: np.ndarray, turn: complex, shift: complex) -> np.ndarray:
    """Landmarks scaled, turned and moved, more from frame to frame."""
    frames = 1 + np.arange(len(landmarks_TN2))[:, None] / 50
    moved = (landmarks_TN2[..., 0] + 1j * landmarks_TN2[..., 1]) * turn**frames + shift * frames
    return np.stack([moved.real, moved.imag], axis=-1)


def seen_as(landmarks_TN2: np.ndarray, found_T: np.ndarray | None = None) -> Seen:
    found_T = np.ones(len(landmarks_TN2), bool) if found_T is None else found_T
    return Seen(np.zeros((len(landmarks_TN2), 8, 8, 3), np.uint8), landmarks_TN2, found_T)


WAVE = 8 + 4 * np.sin(np.arange(40) / 3)
TRUTH = similarity(opened(WAVE), 1.01 * np.exp(0.05j), 1 + 2j)


# ---- metrics against closed forms ----


def test_moving_turning_and_scaling_the_row_changes_no_lip_metric() -> None:
    plain = dub_metrics.lips(TRUTH, seen_as(opened(2 * WAVE)))
    moved = dub_metrics.lips(TRUTH, seen_as(similarity(opened(2 * WAVE), 1.3 * np.exp(0.4j), 20 - 30j)))
    assert moved == pytest.approx(plain, rel=1e-5)
    assert plain["lmd_px"] > 0.1


def test_turning_and_moving_the_truth_changes_no_lip_metric() -> None:
    found = [
        dub_metrics.lips(similarity(opened(WAVE), np.exp(turn), 9 + 5j), seen_as(opened(WAVE + 3)))
        for turn in (0j, 0.2j)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0]["opening_error_px"] == pytest.approx(3, rel=1e-4)


def test_a_mouth_moved_on_its_face_by_3_and_4_px_is_5_px_away_wherever_the_head_is() -> None:
    moved = opened(WAVE)
    moved[:, MOUTH] += [3.0, 4.0]
    found = dub_metrics.lips(opened(WAVE), seen_as(similarity(moved, 0.5 * np.exp(1j), 7)))
    assert found["lmd_px"] == pytest.approx(5, rel=1e-4)
    assert found["opening_error_px"] == pytest.approx(0, abs=1e-3)
    assert found["opening_correlation"] == pytest.approx(1, abs=1e-4)


def test_px_are_px_at_256_of_the_truths_mean_head() -> None:
    """A head of half the size opens its mouth half as far."""
    half = dub_metrics.lips(opened(WAVE) / 2, seen_as(opened(WAVE + 3)))
    assert half["opening_error_px"] == pytest.approx(1.5, rel=1e-4)


def test_frames_without_a_face_are_left_out_of_the_lips_and_filled_for_the_others() -> None:
    found_T = np.ones(40, bool)
    found_T[[0, 10, 11, 12, 39]] = False
    landmarks = np.where(found_T[:, None, None], opened(WAVE), 0.0)
    filled = redetect.filled(landmarks, found_T)
    assert np.array_equal(filled[found_T], opened(WAVE)[found_T])
    assert np.array_equal(filled[0], filled[1])
    assert np.array_equal(filled[39], filled[38])
    assert np.allclose(filled[11], (filled[9] + filled[13]) / 2)
    assert np.allclose(filled[10], (3 * filled[9] + filled[13]) / 4)
    lips = dub_metrics.lips(opened(WAVE), seen_as(filled, found_T))
    assert lips["lmd_px"] == pytest.approx(0, abs=1e-6), "the filled frames do not count"


def test_a_still_row_correlates_at_0_and_a_still_truth_is_refused() -> None:
    still = opened(np.full(40, 5.0))
    assert dub_metrics.lips(TRUTH, seen_as(still))["opening_correlation"] == 0
    with pytest.raises(metrics.StillTruth):
        dub_metrics.lips(still, seen_as(TRUTH))


def psnr_by_hand(truth, result) -> float:
    error = ((truth.astype(float) - result.astype(float)) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / error)).mean())


def ssim_by_hand(truth, result) -> float:
    """Wang et al. 2004, equation 13, window by window; the border is reflected."""
    at = np.arange(11) - 5
    bell = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for t, c in np.ndindex(len(truth), 3):
        a, b = (np.pad(side[t, ..., c].astype(float), 5, mode="reflect") for side in (truth, result))
        for y, x in np.ndindex(a.shape[0] - 10, a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2
            cov = (window * p * q).sum() - mp * mq
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def test_psnr_and_ssim_agree_with_their_formulas_and_see_the_box_alone() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    result = np.clip(truth.astype(int) + random.integers(-40, 41, truth.shape), 0, 255).astype(np.uint8)
    box = (slice(5, 22), slice(10, 24))
    cut = np.s_[:, 5:22, 10:24]
    assert pixels.psnr_db(truth, result, box) == pytest.approx(psnr_by_hand(truth[cut], result[cut]), rel=1e-5)
    assert pixels.ssim(truth, result, box) == pytest.approx(ssim_by_hand(truth[cut], result[cut]), rel=1e-4)
    outside = result.copy()
    outside[:, 30:] = 0
    assert pixels.psnr_db(truth, outside, box) == pixels.psnr_db(truth, result, box)
    assert pixels.psnr_db(truth, truth, box) == 100
    assert pixels.ssim(truth, truth, box) == pytest.approx(1)


def test_ssim_is_the_mean_over_frames_however_they_are_divided(monkeypatch) -> None:
    random = np.random.default_rng(1)
    truth, result = random.integers(0, 256, (2, 21, 16, 16, 3), dtype=np.uint8)
    box = (slice(0, 16), slice(0, 16))
    whole = pixels.ssim(truth, result, box)
    monkeypatch.setattr(pixels, "CHUNK_FRAMES", 5)
    assert pixels.ssim(truth, result, box) == pytest.approx(whole, rel=1e-5)


def test_the_box_is_fixed_round_all_the_lips_and_inside_the_picture() -> None:
    landmarks = opened(WAVE)
    rows_px, columns_px = pixels.mouth_box(landmarks, (256, 256))
    low, high = landmarks[:, MOUTH].min((0, 1)), landmarks[:, MOUTH].max((0, 1))
    margin = 0.25 * (high[0] - low[0])
    assert [columns_px.start, rows_px.start] == pytest.approx(low - margin, abs=1)
    assert [columns_px.stop, rows_px.stop] == pytest.approx(high + margin, abs=1)
    at_edge = pixels.mouth_box(landmarks - low, (256, 256))
    assert at_edge[0].start == at_edge[1].start == 0
    beyond = pixels.mouth_box(landmarks + 300, (256, 256))
    assert all(side.stop == 256 and side.stop - side.start >= 11 for side in beyond)


def test_sync_is_measured_against_the_true_speech_and_offsets_have_no_sign(monkeypatch) -> None:
    heard: list[Any] = []

    def fake(model, landmarks_TN2, audio_S):
        heard.append(audio_S)
        return syncnet.SyncScore(distance=0.9, confidence=0.4, offset_frames=-3, windows=1)

    monkeypatch.setattr(syncnet, "score", fake)
    audio_S = np.arange(40 * SAMPLES_PER_FRAME, dtype=np.float32)
    frames = np.zeros((40, 256, 256, 3), np.uint8)
    truth = Truth(frames, opened(WAVE), audio_S, opened(WAVE))
    seen = Seen(frames, opened(WAVE), np.ones(40, bool))
    made = dub_metrics.measure(truth, seen, Judges(syncnet=syncnet.SyncNet(SYNC)))
    assert heard[0] is audio_S
    assert [made[name] for name in dub_protocol.SYNC] == [0.4, 0.9, 3.0]
    assert "identity_cosine" not in made
    assert not set(dub_protocol.SYNC) & set(dub_metrics.measure(truth, seen, Judges()))


def test_a_clip_that_is_too_short_for_the_offsets_is_a_miss() -> None:
    short = seen_as(opened(WAVE[:8]))
    with pytest.raises(clip.Miss) as refused:
        dub_metrics.sync(syncnet.SyncNet(SYNC).eval(), short, np.zeros(8 * SAMPLES_PER_FRAME, np.float32))
    assert refused.value.reason == dub_metrics.TOO_SHORT


def test_the_same_person_has_cosine_1_and_masked_frames_say_nothing() -> None:
    torch.manual_seed(0)
    encoder = identity.IdentityEncoder(IDENTITY).eval()
    landmarks = opened(WAVE)
    assert dub_metrics.identity_cosine(encoder, landmarks, seen_as(landmarks)) == pytest.approx(1, abs=1e-5)
    other = opened(WAVE)
    other[:, 100:300] *= 1.4
    apart = dub_metrics.identity_cosine(encoder, landmarks, seen_as(other))
    assert apart < 0.999
    found_T = np.ones(40, bool)
    found_T[20:] = False
    held = other.copy()
    held[20:] = held[19]
    jumps = other.copy()
    jumps[20:] = landmarks[20:] * 3
    masked = [dub_metrics.identity_cosine(encoder, landmarks, seen_as(points, found_T)) for points in (held, jumps)]
    assert masked[0] == pytest.approx(masked[1], abs=1e-5)


# ---- the command with stand-ins ----


def coded(landmarks_TN2: np.ndarray, person: int = 0) -> np.ndarray:
    """Frames whose disc is as bright as the mouth is open."""
    made = np.full((len(landmarks_TN2), CROP_PX, CROP_PX, 3), 128, np.uint8)
    made[:, 100:220, 60:200] = (GREY + PER_PX * opening(landmarks_TN2)).round().clip(0, 255)[:, None, None, None]
    return made


class Reader:
    """A detector that reads the code; a black frame shows no face."""

    def reset(self) -> None:
        pass

    def detect(self, frame_HW3: np.ndarray) -> np.ndarray | None:
        level = float(frame_HW3[130:190, 90:170].mean())
        return None if level < GREY / 2 else opened(np.array([(level - GREY) / PER_PX]))[0].astype(np.float32)


class Writer:
    """A painter that writes the code."""

    shown: ClassVar[list[np.ndarray]] = []
    dark: ClassVar[set[int]] = set()  # calls, each of up to 16 frames, that paint no face

    def __init__(self, generator, references_RHW3, reference_landmarks_RN2):
        self.shown.append(references_RHW3)
        self.calls = 0

    def paint(self, frames_BHW3, landmarks_BN2, regions_BV2):
        painted = coded(landmarks_BN2)
        if self.calls in self.dark:
            painted[:] = 0
        self.calls += 1
        mask = np.zeros(frames_BHW3.shape[:3], np.float32)
        mask[:, 90:230, 50:210] = 1
        return painted, mask


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Three unseen people of two coded clips each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(talkers, "pictures", coded)
        return talkers.write(tmp_path_factory.mktemp("shards"), {"train": 1, "unseen": 3}, frames=26, video=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Folders of tiny models with random weights."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    writer, extractor = motion.MotionModel(MOTION), identity.IdentityEncoder(IDENTITY)
    torch.nn.init.normal_(writer.out.weight, std=0.2)
    motion.save_model(writer.state_dict(), MOTION, folder / "motion", extractor)
    for name in ("appearance", "syncnet"):
        (folder / name).mkdir()
    for name in ("config.json", "model.safetensors"):  # the painter is a stand-in
        (folder / "appearance" / name).write_text("{}")
    told_apart(folder / "identity", [0.7, 0.9])
    heard(folder / "syncnet", [0.7, 0.9])
    return {name: folder / name for name in ("motion", "appearance", "syncnet", "identity")}


def heard(folder: Path, ci95: list[float]) -> None:
    """A SyncNet that was found as good as this on unseen people."""
    facts = {"mean": sum(ci95) / 2, "ci95": ci95, "people": 5, "chance": 0.5}
    torch.manual_seed(1)
    state = syncnet.SyncNet(SYNC).state_dict()
    syncnet.save_model(state, SYNC, folder, {"validation": {syncnet.MEASURED: facts}})


def told_apart(folder: Path, ci95: list[float]) -> None:
    """An identity encoder that was found as good as this on unseen people."""
    facts = {"mean": sum(ci95) / 2, "ci95": ci95, "people": 5, "chance": 0.5}
    torch.manual_seed(2)
    state = identity.IdentityEncoder(IDENTITY).state_dict()
    identity.save_model(state, IDENTITY, folder, {"validation": {identity.MEASURED: facts}})


class Midday(datetime):
    """The same day in every report."""

    @classmethod
    def now(cls, tz=None) -> datetime:
        return datetime(2026, 6, 1, 12, tzinfo=tz)


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Make detector, painter and date those above."""
    import mytalk.face.mediapipe_mesh
    import mytalk.networks.appearance

    patch.setattr("eval.benchmark.datetime", Midday)
    patch.setattr(mytalk.face.mediapipe_mesh, "FaceDetector", Reader)
    patch.setattr(mytalk.face.mediapipe_mesh, "version", lambda: "a stand-in")
    patch.setattr(mytalk.networks.appearance, "Painter", Writer)
    patch.setattr(mytalk.networks.appearance, "load_model", lambda folder, device: None)


@pytest.fixture
def stand_ins(monkeypatch):
    """Detector and painter are those above."""
    Writer.shown, Writer.dark = [], set()
    stand_in(monkeypatch)


def typed(shards: Path, models: dict[str, Path], out: Path, *more: str) -> list[str]:
    """What follows `python -m eval`."""
    named = [word for name, folder in models.items() for word in (f"--{name}", str(folder))]
    return ["benchmark", "--shards", str(shards), *named, "--out", str(out), "--steps", STEPS, *more]


def benchmark(shards: Path, models: dict[str, Path], out: Path, *more: str) -> int:
    """The command in this process; its exit code."""
    return commands.main("python -m eval", "", COMMANDS, typed(shards, models, out, *more))


def held(out: Path) -> dict:
    return json.loads((out / report.NAME).read_text())


@pytest.fixture
def bench(shards, models, tmp_path, stand_ins) -> dubbed.Bench:
    """What one clip is benchmarked with, as the command makes it."""
    settings = plan.Settings(sampler_steps=int(STEPS))
    judges = Judges(None, identity.load_model(models["identity"]))
    loaded = dubbing.load_models(models["motion"], models["appearance"])
    return dubbed.Bench(Manifest.load(shards), settings, tmp_path, loaded, judges, Reader())


def test_the_command_from_shards_to_a_page(shards, models, tmp_path, stand_ins, capsys) -> None:
    assert benchmark(shards, models, tmp_path) == 0
    made = held(tmp_path)
    assert made["coverage"] == {"people": {"scored": 3, "total": 3}, "clips": {"scored": 6, "total": 6}, "misses": []}
    assert set(made["methods"]) == {"ground_truth", "mytalk", "shuffled_audio", "frozen_mouth"}
    assert all(set(scores) == set(made["protocol"]["metrics"]) for scores in made["methods"].values())
    floor = made["methods"]["ground_truth"]
    assert floor["opening_correlation"]["mean"] > 0.97, "what is re-detected is what was written"
    assert floor["opening_error_px"]["mean"] < 0.6
    assert floor["detected_share"]["mean"] == 1
    assert made["methods"]["frozen_mouth"]["opening_correlation"]["mean"] < 0.5
    names = {f"{name}_{what}" for name in (*models, "motion_extractor") for what in ("config", "weights")}
    assert set(made["digests"]) == {"manifest", "shards", *names}
    assert made["digests"]["motion_extractor_weights"] == weights.digest(models["motion"] / motion.EXTRACTOR)
    assert dub_protocol.SAME_NETWORK not in made["protocol"]["metrics"]["identity_cosine"]["definition"]
    assert (made["protocol"]["source_is_same_clip"], made["protocol"]["shuffled_is_same_person"]) == (0, 0)
    assert set(made["ordering"]["pairs"]) == {"ground_truth > mytalk", "mytalk > shuffled_audio"}
    said = capsys.readouterr().out
    assert "gate: " in said
    assert "ordering: " in said
    assert "refused" not in said
    assert (tmp_path / page.NAME).stat().st_size < 8_000_000
    kept_keys = sorted(path.name for path in (tmp_path / kept.VIDEOS).iterdir())
    assert len(kept_keys) == 3, "the first clip of each person is pictured"
    for path in (tmp_path / kept.VIDEOS / kept_keys[0]).iterdir():
        assert media.probe(path).audio_hz == 16_000
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["clips.jsonl", "report.html", "report.json", "scoring.lock", "videos"], "nothing else is left"


def test_the_generator_is_shown_the_source_clip_and_never_the_scored_one(bench, monkeypatch) -> None:
    task = plan.tasks(bench.manifest, bench.settings)[0]
    assert task.source is not None
    asked = []
    whole = reader.read_video
    monkeypatch.setattr(reader, "read_video", lambda m, row, at: asked.append(row) or whole(m, row, at))
    assert dubbed.score(bench, task).reason is None
    assert asked == [task.scored.row, task.source.row]
    source = whole(bench.manifest, task.source.row, range(task.source.start, task.source.stop))
    for shown in Writer.shown:
        assert len(shown) <= rows.REFERENCES
        assert all((source == frame).all(axis=(1, 2, 3)).any() for frame in shown)


def test_a_face_lost_in_one_row_is_a_miss_in_all_rows(bench) -> None:
    task = plan.tasks(bench.manifest, bench.settings)[0]
    Writer.dark = {1}  # from frame 16 on in each dubbed row
    lost = dubbed.score(bench, task)
    assert (lost.reason, lost.methods) == (dubbed.LOST, {})
    assert lost.message is not None
    assert "of the frames of mytalk" in lost.message
    assert not (bench.out / kept.VIDEOS).exists()
    assert list(bench.out.iterdir()) == [], "the temporary folder is gone"


def test_a_few_lost_frames_lower_the_detected_share_and_nothing_else(bench) -> None:
    class Blinks(Reader):
        seen = 0

        def reset(self) -> None:
            self.seen = 0

        def detect(self, frame_HW3):
            self.seen += 1
            return None if self.seen == 20 else super().detect(frame_HW3)

    task = plan.tasks(bench.manifest, bench.settings)[0]
    whole, gap = dubbed.score(bench, task), dubbed.score(dataclasses.replace(bench, detector=Blinks()), task)
    frames = task.scored.stop - task.scored.start
    for name, scores in gap.methods.items():
        assert scores["detected_share"] == pytest.approx(1 - 1 / frames), name
    for metric, value in whole.methods["ground_truth"].items():
        assert gap.methods["ground_truth"][metric] == pytest.approx(value, abs=0.05), metric


def test_a_clip_without_a_face_or_with_one_for_a_while_is_a_miss(bench) -> None:
    class Late(Reader):
        first = 5

        def reset(self) -> None:
            self.seen = 0

        def detect(self, frame_HW3):
            self.seen += 1
            return None if self.seen <= self.first else super().detect(frame_HW3)

    task, never = plan.tasks(bench.manifest, bench.settings)[0], Late()
    assert dubbed.score(dataclasses.replace(bench, detector=Late()), task).reason == rows.NOT_WHOLE
    never.first = 1000
    assert dubbed.score(dataclasses.replace(bench, detector=never), task).reason == rows.NO_FACE


def test_a_model_of_nans_and_a_damaged_clip_are_misses(bench, monkeypatch) -> None:
    task = plan.tasks(bench.manifest, bench.settings)[0]

    def nans(found, *_):
        return [np.full_like(span.landmarks_FN2, np.nan) for span in found.spans]

    with monkeypatch.context() as patch:
        patch.setattr(dubbing, "write_motion", nans)
        assert dubbed.score(bench, task).reason == clip.NOT_FINITE

    def damaged(*_):
        raise reader.ClipError(task.key, "corrupt", "cannot be decoded")

    monkeypatch.setattr(reader, "read_video", damaged)
    assert dubbed.score(bench, task).reason == "corrupt"


@pytest.mark.parametrize("why", ["at chance", "not named"])
def test_metrics_of_a_judge_that_cannot_judge_are_refused_by_name(
    why, shards, models, tmp_path, stand_ins, capsys
) -> None:
    models = dict(models)
    if why == "at chance":
        heard(tmp_path / "deaf", [0.4, 0.6])
        told_apart(tmp_path / "blind", [0.3, 0.6])
        models.update(syncnet=tmp_path / "deaf", identity=tmp_path / "blind")
    else:
        del models["syncnet"], models["identity"]
    out = tmp_path / "out"
    assert benchmark(shards, models, out, "--clips-per-person", "1") == 0
    made, said = held(out), capsys.readouterr().out
    for scores in made["methods"].values():
        assert not set(scores) & set(made["refused"])
    assert "ordering" not in made
    refused = {"sync_confidence", "sync_distance", "sync_offset_frames"}
    if why == "at chance":
        assert set(made["refused"]) == {*refused, "identity_cosine"}
        assert said.count("refused: identity_cosine: AT CHANCE: 0.45") == 1
        assert "identity_weights" in made["digests"]
        assert said.count("refused: sync_confidence, sync_distance, sync_offset_frames: AT CHANCE: 0.50") == 1
        assert "AT CHANCE" in (out / page.NAME).read_text()
        assert "syncnet_weights" in made["digests"]
    else:
        assert set(made["refused"]) == {*refused, "identity_cosine"}
        assert "no model was named (--syncnet)" in said
        assert "syncnet" not in made["protocol"]["models"]


def test_a_stopped_benchmark_continues_and_ends_as_if_never_stopped(
    shards, models, tmp_path, stand_ins, monkeypatch
) -> None:
    few = ("--clips-per-person", "1")
    assert benchmark(shards, models, tmp_path / "whole", *few) == 0
    whole, asked, out = dubbed.score, [], tmp_path / "stopped"

    def until_third(bench, task):
        if len(asked) == 2:
            dubbed.kept.keep(tmp_path / "whole" / kept.VIDEOS / asked[0], out, task.key)  # killed before its line
            raise KeyboardInterrupt
        asked.append(task.key)
        return whole(bench, task)

    monkeypatch.setattr(dubbed, "score", until_third)
    assert benchmark(shards, models, out, *few) == commands.EXIT_INTERRUPTED
    monkeypatch.setattr(dubbed, "score", lambda bench, task: asked.append(task.key) or whole(bench, task))
    assert benchmark(shards, models, out, *few) == 0
    assert len(asked) == len(set(asked)) == 3, "each clip once"
    assert held(out) == held(tmp_path / "whole")
    # How an encoder's threads interleave packets differs from time to time; what is written does not.
    texts = [re.sub('data:video[^"]*', "", (made / page.NAME).read_text()) for made in (out, tmp_path / "whole")]
    assert texts[0] == texts[1]
    (out / page.NAME).unlink()
    assert benchmark(shards, models, out, *few) == 0
    assert len(asked) == 3, "a page that is gone is made from what is kept"
    assert (out / page.NAME).is_file()


def test_two_processes_dub_each_clip_once_and_report_what_one_does(
    command, shards, models, tmp_path, stand_ins
) -> None:
    one, two, program = tmp_path / "one", tmp_path / "two", tmp_path / "program.py"
    few = ("--clips-per-person", "1")
    assert benchmark(shards, models, one, *few) == 0
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path.cwd())!r})\n"
        "from tests.eval import test_benchmark as here\n"
        "here.stand_in(here.pytest.MonkeyPatch())\n"
        "whole, asked = here.dubbed.score, open(Path(__file__).parent / f'asked-{os.environ[\"RANK\"]}', 'w')\n"
        "here.dubbed.score = lambda bench, task: print(task.key, file=asked, flush=True) or whole(bench, task)\n"
        "sys.exit(here.commands.main('python -m eval', '', here.COMMANDS, sys.argv[1:]))\n"
    )
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", str(free_port())]
    done = command(*launch, str(program), *typed(shards, models, two, *few), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("gate:") == 1, "one process speaks"
    asked = [(tmp_path / f"asked-{rank}").read_text().split() for rank in range(2)]
    assert all(asked), "both processes dub"
    keys = [score.key for score in records.read(one / records.WHOLE)[1]]
    assert sorted(asked[0] + asked[1]) == sorted(keys), "each clip is dubbed once"
    assert [score.key for score in records.read(two / records.WHOLE)[1]] == keys, "and has one score"
    assert {path.name for path in (two / kept.VIDEOS).iterdir()} == set(keys)
    made, wanted = held(two), held(one)
    for name in ("protocol", "digests", "coverage"):
        assert made[name] == wanted[name]
    for method, scores in wanted["methods"].items():
        for metric, value in scores.items():
            assert made["methods"][method][metric]["mean"] == pytest.approx(value["mean"], rel=1e-4, abs=1e-6)


def test_other_weights_are_refused_until_forced_and_then_replace_everything(
    shards, models, tmp_path, stand_ins, capsys
) -> None:
    few = ("--clips-per-person", "1")
    assert benchmark(shards, models, tmp_path / "out", *few) == 0
    videos = tmp_path / "out" / kept.VIDEOS
    (videos / "somebody else's").mkdir()
    for folder in videos.iterdir():
        (folder / "by an earlier run").touch()
    heard(tmp_path / "other", [0.6, 0.9])
    other = {**models, "syncnet": tmp_path / "other"}
    capsys.readouterr()
    assert benchmark(shards, other, tmp_path / "out", *few) == 1
    assert "differ in digests.syncnet_config;" in capsys.readouterr().err
    assert benchmark(shards, other, tmp_path / "out", *few, "--force") == 0
    left = [path.parent.name for path in videos.glob("*/by an earlier run")]
    assert left == ["somebody else's"], "what no score of ours names is nobody's to remove"


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_with_somebody_elses_videos_is_refused(force, shards, models, tmp_path, stand_ins, capsys) -> None:
    film = tmp_path / kept.VIDEOS / "p001" / "film.mp4"
    film.parent.mkdir(parents=True)
    film.write_bytes(b"a corpus")
    assert benchmark(shards, models, tmp_path, *force) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "name another folder" in error
    assert film.read_bytes() == b"a corpus"


def test_videos_whose_damaged_scores_were_deleted_are_ours_still(tmp_path) -> None:
    (tmp_path / "videos" / "a").mkdir(parents=True)
    job = work.Job("benchmark", tmp_path, [], {}, videos="videos")
    with pytest.raises(commands.UserError):
        work.foreign(job)
    with sole_user(tmp_path, work.LOCK):
        pass
    assert work.foreign(job) == []


@pytest.mark.parametrize("key", ["", ".", "..", "../kept", "/kept"])
def test_keys_that_name_no_folder_of_their_own_remove_nothing(key, tmp_path) -> None:
    out, beside = tmp_path / "out", tmp_path / "out" / "kept"
    beside.mkdir(parents=True)
    (out / "videos" / "a").mkdir(parents=True)
    (out / "videos" / "b").mkdir()
    records.write_whole(out, {"protocol": {}}, [records.ClipScore(key, "x"), records.ClipScore("a", "x")])
    job = work.Job("benchmark", out, [], {"protocol": {"seed": 1}}, videos="videos", force=True)
    work._clear(job, work.foreign(job), set())
    assert sorted(path.name for path in out.iterdir()) == ["kept", "videos"]
    assert [path.name for path in (out / "videos").iterdir()] == ["b"]


def test_a_benchmark_beside_another_is_one_line(shards, models, tmp_path, stand_ins, capsys) -> None:
    with sole_user(tmp_path, work.LOCK):
        assert benchmark(shards, models, tmp_path) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "another scoring is at work in" in error
    assert [path.name for path in tmp_path.iterdir()] == [f"{work.LOCK}.lock"]


def test_a_video_damaged_after_scoring_is_one_line_that_says_what_to_remove(
    shards, models, tmp_path, stand_ins, capsys
) -> None:
    few = ("--clips-per-person", "1")
    assert benchmark(shards, models, tmp_path, *few) == 0
    (tmp_path / page.NAME).unlink()
    folder = sorted((tmp_path / kept.VIDEOS).iterdir())[0]
    film = folder / "mytalk.media.mp4"
    short = list(media.read_frames(film))[:5]
    for damage in ("torn", "short", "gone"):
        if damage == "torn":
            film.write_bytes(film.read_bytes()[:500])
        elif damage == "short":
            media.write_video(film, iter(short), 25, np.zeros(5 * SAMPLES_PER_FRAME))
        else:
            film.unlink()
        capsys.readouterr()
        assert benchmark(shards, models, tmp_path, *few) == 1, damage
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"error: {folder} is damaged" in error
        assert "remove it and type the same command again" in error
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert benchmark(shards, models, tmp_path, *few) == 0
    assert (tmp_path / page.NAME).read_text().count("<video") == 2


def test_the_judge_that_conditioned_the_motion_model_is_named_as_such(shards, models, stand_ins) -> None:
    same = protocol.digests(
        Manifest.load(shards),
        {"motion_": ("motion", models["motion"]), "identity_": ("identity", models["motion"] / motion.EXTRACTOR)},
    )
    assert same["identity_weights"] == same["motion_extractor_weights"]
    definition = dub_protocol.kind(same).metrics["identity_cosine"].definition
    assert "the same network that conditioned the motion model" in definition


def test_names_that_are_repeated_here_are_the_originals() -> None:
    assert protocol.EXTRACTOR == motion.EXTRACTOR
    assert identity.MEASURED == train_identity.MEASURED


@pytest.mark.parametrize("name", ["motion", "appearance", "syncnet", "identity"])
def test_a_missing_model_is_one_line(name, shards, models, tmp_path, stand_ins, capsys) -> None:
    assert benchmark(shards, {**models, name: tmp_path / "none"}, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"train one with: python -m train {name}" in error
    assert not (tmp_path / "out").exists()


# ---- the command with the real parts ----


needed = ("mediapipe", "espeakng_loader", "cv2")


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in needed), reason="needs the extras landmarks and demo"
)
def test_a_drawn_person_through_the_real_detector_and_generator(command, models, tmp_path) -> None:
    from mytalk.networks import appearance

    size = ("--identities", "2", "--clips-per-identity", "2", "--seed", "0", "--seconds", "2")
    command("-m", "data_pipeline", "demo", str(tmp_path / "videos"), *size, check=True)
    for name in ("p001", "broken"):
        for path in (tmp_path / "videos" / name).iterdir():
            path.unlink()
    command("-m", "data_pipeline", "extract", str(tmp_path / "videos"), str(tmp_path / "shards"), check=True)
    held_ = Manifest.load(tmp_path / "shards")
    splits = pa.array(["unseen"] * len(held_))
    table = held_.table.set_column(held_.table.column_names.index("split"), "split", splits)
    manifest_update.save(tmp_path / "shards", table, held_.header)
    config = appearance.AppearanceConfig(
        size_px=128, stem=4, channels=[8, 8], blocks=[1, 1], heads=2, discriminator_channels=8
    )
    torch.manual_seed(0)
    folder = tmp_path / "appearance"
    appearance.save_model(appearance.Generator(config).state_dict(), config, folder)
    named = {**models, "appearance": folder}
    argv = typed(tmp_path / "shards", named, tmp_path / "out", "--clips-per-person", "1")
    done = command("-m", "eval", *argv, timeout=600)
    assert done.returncode == 0, done.stderr
    made = held(tmp_path / "out")
    floor = made["methods"]["ground_truth"]
    assert floor["opening_correlation"]["mean"] > 0.9
    assert floor["psnr_mouth_db"]["mean"] > 30 > made["methods"]["mytalk"]["psnr_mouth_db"]["mean"]
    assert floor["ssim_mouth"]["mean"] > 0.9
    assert (tmp_path / "out" / page.NAME).is_file()
