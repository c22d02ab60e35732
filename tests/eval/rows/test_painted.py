"""Rows that are painted together are those that `dubbing.render` paints one by one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from eval.rows import painted
from mytalk import media
from mytalk.dub import dubbing
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.dub.person import PersonReference
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.generator import Generator
from tests.helpers.faces import opened

FRAMES = 20
CONFIG = AppearanceConfig(size_px=64, stem=4, channels=[8, 8], blocks=[0, 1], heads=2, discriminator_channels=8)


@pytest.fixture
def faces(tmp_path) -> FirstPass:
    """A film of squares with two spans, and frames before, between and after them."""
    squares_THW3 = np.random.default_rng(0).integers(0, 256, (FRAMES, 4, 4, 3), np.uint8)
    path = tmp_path / "film.mp4"
    media.write_video(path, squares_THW3.repeat(64, axis=1).repeat(64, axis=2), 25, np.zeros(FRAMES * 640))
    whole = np.repeat(np.eye(2, 3)[None], FRAMES, axis=0)
    points_TN3 = opened(np.linspace(0, 20, FRAMES)).astype(np.float32)
    spans = [FaceSpan(a, b, whole[a:b], points_TN3[a:b]) for a, b in ((1, 18), (19, 20))]
    return FirstPass(path, Fraction(25), 256, 256, FRAMES, spans)


def test_rows_painted_together_are_those_painted_alone_and_frames_are_encoded_once(
    faces, tmp_path, monkeypatch
) -> None:
    torch.manual_seed(0)
    generator = Generator(CONFIG).eval()
    models = dubbing.Models(None, generator)  # type: ignore[arg-type]
    points_RN3 = opened(np.array([3.0, 9.0])).astype(np.float32)
    frames_RHW3 = np.random.default_rng(1).integers(0, 256, (2, 256, 256, 3), np.uint8)
    person = PersonReference(points_RN3, np.zeros(2 * 640), frames_RHW3, points_RN3)
    rows = {}
    for name, how_far in (("wide", 1.5), ("narrow", 0.5)):
        landmarks = [span.landmarks_FN3 * np.array([1, how_far, 1], np.float32) for span in faces.spans]
        rows[tmp_path / f"{name}.mp4"] = painted.Row(landmarks, np.full(FRAMES * 640 + 5, how_far, np.float32))
        alone, speech_S = [dubbing.Dub(faces, landmarks, person)], rows[tmp_path / f"{name}.mp4"].speech_S
        dubbing.render(alone, models, speech_S, tmp_path / f"{name} alone.mp4")
    calls = []
    for part in ("encode_frame", "encode_lips", "decode"):
        whole = getattr(generator, part)
        monkeypatch.setattr(generator, part, lambda *x, whole=whole, part=part: calls.append(part) or whole(*x))
    painted.write(faces, rows, models, person)
    batches = 4
    assert [calls.count(part) for part in ("encode_lips", "encode_frame", "decode")] == [1, batches, batches * 2]
    written = {}
    for path in rows:
        alone = path.with_name(f"{path.stem} alone.mp4")
        written[path.stem] = np.stack(list(media.read_frames(path)))
        assert np.array_equal(written[path.stem], np.stack(list(media.read_frames(alone))))
        assert np.array_equal(media.read_audio(path), media.read_audio(alone))
        assert media.read_tags(path) == media.read_tags(alone)
    assert not np.array_equal(written["wide"], written["narrow"])
