"""Drawn scenes: a function of kind and seed, with a truth that agrees with itself, the sound and a face mesh."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_pipeline.synthetic.scenes.kinds import KINDS, LOOKS
from data_pipeline.synthetic.scenes.scene import HEIGHT, WIDTH, scene
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.face.mediapipe_mesh import FaceDetector


def person_of(truth: dict, does: str) -> dict:
    return next(one for one in truth["people"] if does in one["does"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_agrees_with_itself_and_with_the_sound(kind):
    one = scene(kind, 1)
    truth = json.loads(json.dumps(one.truth, allow_nan=False))
    frames = truth["frames"]
    assert len(one.audio_S) == frames * SAMPLES_PER_FRAME
    assert one.audio_S.dtype == np.float32
    assert len(truth["voice"]) == len(truth["music"]) == len(truth["hand"]) == frames
    assert all(0 < cut < frames for cut in truth["cuts"])
    assert all(0 < start < stop < frames for _, start, stop in truth["transitions"])
    assert truth["look"] in ("", *LOOKS)
    assert len({person["identity"] for person in truth["people"]}) == len(truth["people"])
    voice_T = np.array(truth["voice"])
    for person in truth["people"]:
        assert len(person["box"]) == len(person["visible"]) == len(person["speaking"]) == frames
        assert not any(seen and box is None for seen, box in zip(person["visible"], person["box"]))
        assert np.all(voice_T[np.array(person["speaking"])])
        assert any(person["speaking"]) == ("speaks" in person["does"])
    loud_T = np.sqrt(np.mean(np.square(one.audio_S.reshape(frames, -1)), axis=1))
    if voice_T.any() and not any(truth["music"]):
        assert np.median(loud_T[voice_T]) > 0.02
        assert (loud_T[~voice_T] < 0.01).mean() > 0.5 or voice_T.all()


def test_a_scene_depends_on_kind_and_seed_alone():
    first, again, other = scene("hand", 2), scene("hand", 2), scene("hand", 3)
    assert first.truth == again.truth != other.truth
    np.testing.assert_array_equal(first.audio_S, again.audio_S)
    for one, same, _ in zip(first.pictures(), again.pictures(), range(3)):
        np.testing.assert_array_equal(one, same)


def test_sounds_are_what_they_are_called():
    def rms_db(samples_S: np.ndarray) -> float:
        return 20 * np.log10(np.sqrt(np.mean(np.square(samples_S, dtype=np.float64))) + 1e-12)

    assert not scene("silence").audio_S.any()
    assert rms_db(scene("noise").audio_S) == pytest.approx(-63, abs=0.2)
    assert rms_db(scene("music").audio_S) > -25
    assert not any(scene("music").truth["voice"])
    assert any(scene("narrator").truth["voice"])


def test_who_leaves_is_away_and_who_is_behind_is_hidden():
    truth = scene("leaves").truth
    visible = "".join("1" if seen else "0" for seen in truth["people"][0]["visible"])
    assert visible.strip("1").strip("0") == ""
    assert 25 < visible.count("0") < 75
    front, behind = scene("crossing").truth["people"][::-1]
    assert all(front["visible"])
    assert 3 < behind["visible"].count(False) < 30


def test_a_frozen_picture_stands_still():
    one = scene("frozen")
    start, stop = one.truth["frozen"]
    pictures = list(one.pictures())
    assert stop == len(pictures)
    assert all(np.array_equal(pictures[start], picture) for picture in pictures[start:])
    assert not np.array_equal(pictures[start - 1], pictures[start])
    assert len({tuple(box) for box in one.truth["people"][0]["box"][start:]}) == 1


@pytest.mark.parametrize("kind", ["speaks", "photograph", "turned", "hand_beside"])
def test_a_face_mesh_finds_the_face_where_the_truth_has_it(kind):
    one, detector = scene(kind), FaceDetector()
    for frame, picture in enumerate(one.pictures()):
        assert picture.shape == (HEIGHT, WIDTH, 3)
        if frame % 10 == 9:
            (region,) = detector.find(picture)
            points = detector.landmarks(picture, region)
            assert points is not None, frame
            low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
            x, y, side = one.truth["people"][0]["box"][frame]
            assert np.linalg.norm((low + high) / 2 - (x, y)) < 0.12 * side, frame
            assert 0.8 < (high - low).max() / side < 1.2, frame


def test_the_hand_model_sees_the_drawn_hand():
    from mediapipe.python.solutions.hands import Hands

    one = scene("hand")
    with Hands(static_image_mode=True, max_num_hands=2) as hands:
        for frame, picture in enumerate(one.pictures()):
            if frame in (10, 50, 90):
                assert bool(hands.process(picture).multi_hand_landmarks) == one.truth["hand"][frame], frame


def test_the_command_writes_videos_with_their_truth(command, tmp_path):
    from mytalk import media

    out = tmp_path / "scenes"
    arguments = ("-m", "data_pipeline", "scenes", str(out), "--kinds", "small", "--workers", "1")
    command(*arguments, check=True)
    line = json.loads((out / "truth.jsonl").read_text())
    assert line == {"path": "s0/small.mp4"} | scene("small").truth
    path = out / line["path"]
    assert len(list(media.read_frames(path))) == line["frames"]
    assert abs(len(media.read_audio(path)) - line["frames"] * SAMPLES_PER_FRAME) <= SAMPLES_PER_FRAME
    written = path.stat().st_mtime_ns
    command(*arguments, check=True)
    assert path.stat().st_mtime_ns == written
