"""How motion is written: brought to the video's rate, held to its promises, joined over windows."""

from __future__ import annotations

import copy
import itertools
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mytalk.control.control import Control
from mytalk.control.motion_file import Keyframes
from mytalk.control.promises import mouth_of
from mytalk.dub import dubbing, first_pass, long_form
from mytalk.face.landmarks import NOISED, SAMPLE_HZ, SAMPLES_PER_FRAME, without_mouth
from mytalk.networks.motion import generation
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import MotionModel
from tests.helpers.heads import swaying
from tests.helpers.stand_ins import NTSC, a_source, studied


def test_at_25_fps_what_is_written_is_what_the_model_generates(models):
    found, source = studied(60, 25, start=10), a_source()
    speech = np.random.default_rng(4).uniform(-0.5, 0.5, 70 * SAMPLES_PER_FRAME).astype(np.float32)
    (got,) = dubbing.write_motion(found, speech, models.motion, source, seed=3, steps=4)
    clip = found.spans[0].landmarks_FN3
    own_speech = speech[10 * SAMPLES_PER_FRAME :]
    stretch = SourceStretch(source.landmarks_UN3, source.audio_S)
    expected = generation.generate(models.motion, without_mouth(clip), stretch, own_speech, 3, 4)
    assert np.abs(expected - clip)[:, NOISED].max() > 5
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_the_model_never_sees_the_mouth_that_is_replaced(models, monkeypatch):
    seen = []
    monkeypatch.setattr(generation, "generate", lambda m, clip, *a, **k: seen.append(clip) or clip)
    dubbing.write_motion(studied(40, 25), np.zeros(0, np.float32), models.motion, a_source(), 0, 2)
    assert (seen[0][:, NOISED] == 0).all()


@pytest.mark.parametrize("fps", [24, 25, NTSC, 30, 60])
def test_a_tracker_stays_exact_at_every_rate(models, monkeypatch, fps):
    """A stand-in that tells the true face of each moment of its 25 Hz clip: every frame gets its own mouth and pose."""
    start = 17
    truth = swaying(1000, 25 * 40, side_px=160, centre=(128.0, 120.0))  # 1 s, a thousand times
    sound = np.arange(2 * 16_000, dtype=np.float32)

    def tracked(model, clip, source, audio_S, *args, **kwargs):
        first_s = audio_S[0] / 16_000 - start / float(fps)
        at = np.rint((first_s + np.arange(len(clip)) / 25) * 1000).astype(int)
        assert np.abs(np.delete(clip - truth[np.minimum(at, 999)], NOISED, axis=1)).max() < 0.5
        return truth[np.minimum(at, 999)]

    monkeypatch.setattr(generation, "generate", tracked)
    frames = round(0.9 * fps)
    found = studied(frames, fps, start)
    (got,) = dubbing.write_motion(found, sound, models.motion, a_source(), 0, 2)
    (span,) = found.spans
    assert np.array_equal(np.delete(got, NOISED, axis=1), np.delete(span.landmarks_FN3, NOISED, axis=1))
    np.testing.assert_allclose(
        got[..., :2], span.landmarks_FN3[..., :2], atol=0.15
    )  # of 11 px of motion and 13 of the head


def _with_mouth_of(face: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """The clip with the lower face of `face` on each frame's own pose."""
    head = long_form.person_head(face[None])
    return long_form.with_lower_face(clip, long_form.lower_face(face[None], head).repeat(len(clip), axis=0), head)


def test_motion_is_retimed_in_the_heads_frame_not_in_px(models, monkeypatch):
    """A head that shakes faster than 25 Hz can tell keeps its own movement, mouth included."""
    heads = swaying(1, side_px=160, centre=(128.0, 120.0)).repeat(60, axis=0)
    heads[::2, :, :2] += 6
    span = first_pass.FaceSpan(0, 60, np.repeat(np.eye(3)[None, :2], len(heads), 0), heads)
    found = first_pass.FirstPass(Path("none"), Fraction(60), 256, 256, 60, [span])
    monkeypatch.setattr(generation, "generate", lambda m, clip, *a, **k: _with_mouth_of(heads[0], clip))
    (got,) = dubbing.write_motion(found, np.zeros(0, np.float32), models.motion, a_source(), 0, 2)
    np.testing.assert_allclose(got[..., :2], heads[..., :2], atol=1e-2)


@pytest.mark.parametrize("fps", [24, 25, NTSC, 50])
def test_promises_hold_in_the_landmarks_that_are_written(models, fps):
    """Closed lips within 0.1 px of their limit, a mouth still within 0.01 px, keyframes within 0.01 px, at any rate."""
    frames, source = round(3 * fps), a_source()
    found = studied(frames, fps, start=10)
    (span,) = found.spans
    speech = np.random.default_rng(4).uniform(-0.5, 0.5, 5 * SAMPLE_HZ).astype(np.float32)
    begin_s = float(10 / Fraction(fps))
    closed_s, still_s = (begin_s + 0.5, begin_s + 0.6), (begin_s + 1.0, begin_s + 1.5)
    edited = span.landmarks_FN3[[frames - 9, frames - 3]].copy()
    edited[:, NOISED, 1] += 4
    control = Control(1.3, [closed_s], [still_s], Keyframes(np.array([frames + 1, frames + 7]), edited, float(fps)))
    (got,) = dubbing.write_motion(found, speech, models.motion, source, 3, 4, control=control)
    head = long_form.person_head(source.landmarks_UN3)
    lower = long_form.lower_face(got, head)
    mouth = mouth_of(long_form.lower_face(source.landmarks_UN3, head))
    first, last = (round(moment_s * float(fps)) - 10 for moment_s in closed_s)
    assert mouth.opening(lower[first : last + 1]).max() < mouth.closed_px + 0.1
    first, last = (round(moment_s * float(fps)) - 10 for moment_s in still_s)
    assert np.ptp(lower[first : last + 1], axis=0).max() < 0.01
    np.testing.assert_allclose(got[[frames - 9, frames - 3]][:, NOISED, :2], edited[:, NOISED, :2], atol=0.01)
    np.testing.assert_array_equal(np.delete(got, NOISED, axis=1), np.delete(span.landmarks_FN3, NOISED, axis=1))


def test_promises_hold_over_the_edges_of_windows(models, monkeypatch):
    monkeypatch.setattr(models.motion, "window_frames", 40)
    found, source = studied(100, 25), a_source()
    control = Control(still_s=[(0.4, 3.6)], closed_s=[(0.2, 0.2), (3.8, 3.9)])
    (got,) = dubbing.write_motion(found, np.zeros(0, np.float32), models.motion, source, 3, 4, control=control)
    head = long_form.person_head(source.landmarks_UN3)
    lower = long_form.lower_face(got, head)
    assert np.ptp(lower[10:91], axis=0).max() < 0.01
    mouth = mouth_of(long_form.lower_face(source.landmarks_UN3, head))
    assert mouth.opening(lower[[5, 95, 96, 97]]).max() < mouth.closed_px + 0.1


def test_amplitude_multiplies_what_differs_from_the_persons_mean(models):
    found, source = studied(40, 25), a_source()
    speech = np.random.default_rng(4).uniform(-0.5, 0.5, 40 * SAMPLES_PER_FRAME).astype(np.float32)
    head = long_form.person_head(source.landmarks_UN3)
    mean_K2 = long_form.lower_face(source.landmarks_UN3, head).mean(0)
    half, whole = (
        long_form.lower_face(
            dubbing.write_motion(found, speech, models.motion, source, 3, 4, control=Control(amplitude))[0], head
        )
        for amplitude in (0.5, 1.0)
    )
    np.testing.assert_allclose(half - mean_K2, (whole - mean_K2) / 2, atol=1e-3)


@pytest.mark.parametrize("window", [1, 3, 64, 199, 201, 250, 400])
def test_windows_cover_a_clip_and_overlap_by_a_quarter_of_the_models(window):
    for frames in (1, 7, window, window + 1, 5 * window - 2, *range(window + 1, 5 * window, 37)):
        windows = long_form.windows(frames, window)
        assert sorted({i for a, b in windows for i in range(a, b)}) == list(range(frames))
        assert all(b - a == min(frames, window) for a, b in windows)
        assert all(b[0] <= a[1] - min(50, window // 4) for a, b in itertools.pairwise(windows))


def test_windows_are_as_few_as_they_can_be():
    assert long_form.windows(250) == [(0, 250)]
    assert long_form.windows(251) == [(0, 250), (1, 251)]
    assert long_form.windows(450) == [(0, 250), (200, 450)]
    assert long_form.windows(125, 64) == [(0, 64), (48, 112), (61, 125)]


def long_clip(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and a sound whose samples tell the frame's number."""
    return swaying(frames, side_px=160), np.repeat(np.arange(frames), SAMPLES_PER_FRAME).astype(np.float32)


def of_windows(window_frames: int) -> MotionModel:
    """As much of a motion model as `long.generate` looks at."""
    config = types.SimpleNamespace(slow_frames=12.0)
    return types.SimpleNamespace(window_frames=window_frames, config=config)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("frames", "window"), [(250, 250), (251, 250), (430, 250), (700, 250), (125, 64), (130, 64), (9, 2)]
)
def test_an_exact_tracker_stays_exact_over_windows(monkeypatch, frames, window):
    truth, sound = long_clip(frames)

    def tracked(model, clip, source, audio_S, *args, context, first_frame, **kwargs):
        begin, (before, after) = int(audio_S[0]), context
        assert (before, after) == (min(36, first_frame), min(36, frames - begin - len(clip) + after))
        assert len(clip) - before - after == min(frames, window)
        assert len(audio_S) == len(clip) * SAMPLES_PER_FRAME
        assert first_frame == begin + before
        return truth[begin + before : begin + len(clip) - after]

    monkeypatch.setattr(generation, "generate", tracked)
    clip, source = without_mouth(truth), SourceStretch(a_source().landmarks_UN3)
    got = long_form.generate(of_windows(window), clip, source, sound, 0, 2)
    np.testing.assert_allclose(got[..., :2], truth[..., :2], atol=1e-3)


def test_windows_that_disagree_are_faded_on_a_line(monkeypatch):
    """Each window answers a constant, its own: constant in the windows, linear between, in the head's frame."""
    truth, sound = long_clip(450)
    source = SourceStretch(a_source().landmarks_UN3)
    head = long_form.person_head(source.landmarks_UN3)
    answers = iter([0.0, 10.0])

    def constant(model, clip, *args, context, **kwargs):
        clip = clip[context[0] : len(clip) - context[1]]
        return long_form.with_lower_face(clip, np.full((len(clip), len(NOISED), 2), next(answers)), head)

    monkeypatch.setattr(generation, "generate", constant)
    got = long_form.lower_face(long_form.generate(of_windows(250), truth, source, sound, 0, 2), head)
    expected = 10 * np.clip((np.arange(450) - 199) / 51, 0, 1)
    np.testing.assert_allclose(got, np.broadcast_to(expected[:, None, None], got.shape), atol=1e-3)


def windows_of(model, clip, sound, monkeypatch, sigmas: float) -> tuple[list[np.ndarray], np.ndarray]:
    """The lower faces of each window of a clip, and of all joined, where so much beyond a window is read."""
    source = SourceStretch(a_source().landmarks_UN3, a_source().audio_S)
    head, written, generate = long_form.person_head(source.landmarks_UN3), [], generation.generate

    def kept(*args, **kwargs):
        written.append(generate(*args, **kwargs))
        return written[-1]

    monkeypatch.setattr(long_form, "CONTEXT_SIGMAS", sigmas)
    monkeypatch.setattr(generation, "generate", kept)
    joined_TK2 = long_form.lower_face(long_form.generate(model, clip, source, sound, 1, 1), head)
    monkeypatch.setattr(generation, "generate", generate)
    return [long_form.lower_face(window_TN3, head) for window_TN3 in written], joined_TK2


def test_windows_agree_at_their_seams_because_they_read_beyond_their_ends(models, monkeypatch):
    """Speech and slow pose alone tell windows apart here; cut off at its ends, each would write other shared frames."""
    model = copy.deepcopy(models.motion)
    model.window_frames = 64
    for block in [*model.blocks, *model.speech_blocks]:
        for weight in block.attention.out.parameters():
            torch.nn.init.zeros_(weight)
    random, spans = np.random.default_rng(4), long_form.windows(160, 64)
    sound = (random.uniform(-0.5, 0.5, (160, 640)) * random.uniform(0, 1, (160, 1))).astype(np.float32).ravel()
    clip, seams_T = without_mouth(swaying(160, side_px=160)), np.zeros(159, bool)
    apart_px = {}
    for sigmas in (long_form.CONTEXT_SIGMAS, 0.0):
        windows, joined_TK2 = windows_of(model, clip, sound, monkeypatch, sigmas)
        apart = []
        for (start, one_TK2), (after, other_TK2) in itertools.pairwise(zip([a for a, _ in spans], windows)):
            shared = start + 64 - after
            apart.append(np.linalg.norm(one_TK2[-shared:] - other_TK2[:shared], axis=-1).mean())
            seams_T[after : start + 64] = True
        apart_px[sigmas > 0] = np.mean(apart)
        speed_T = np.linalg.norm(np.diff(joined_TK2, axis=0), axis=-1).mean(1)
        assert speed_T[seams_T].mean() < 1.1 * speed_T[~seams_T].mean()
    assert apart_px[True] < 0.5 * apart_px[False]


def test_a_short_clip_is_the_models_own_answer(models):
    truth, _ = long_clip(30)
    source = SourceStretch(a_source().landmarks_UN3, a_source().audio_S)
    sound = np.zeros(30 * SAMPLES_PER_FRAME, np.float32)
    got = long_form.generate(models.motion, truth, source, sound, 5, 2)
    expected = generation.generate(models.motion, truth, source, sound, 5, 2)
    np.testing.assert_allclose(got, expected, atol=1e-4)
