"""Painting at 512 px: from pictures of the clips to frames of a dub, and which painter a face gets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from mytalk import media
from mytalk.command import UserError
from mytalk.dub import compositing
from mytalk.dub.dubbing import Models
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.face import crop, region
from mytalk.networks.appearance import inputs
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.generator import Generator
from mytalk.networks.appearance.painter import Painter
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import save_model
from mytalk.networks.motion.network import MotionModel
from tests.helpers import talkers
from tests.helpers.appearance_models import TINY, referred, shaken, talking, tiny_settings
from tests.helpers.checkout import ROOT
from train.recipes.appearance import AppearanceRecipe

LARGE = replace(TINY, size_px=512, stem=8)
WINDOW = "model.window_px=[128, 192]"
MOTION = MotionConfig(width=32, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1)
SETTINGS = ("model.size_px=512", "model.stem=8", WINDOW)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    return talkers.write(folder, {"train": 2, "val": 1}, 1, 14, video=True, frames_px=512)


def test_a_painter_of_512_px_learns_from_the_pictures_as_they_are(shards):
    """The window is of the video's own pixels; a smaller painter sees the same shards reduced."""
    recipe = AppearanceRecipe(tiny_settings(shards, *SETTINGS))
    batch = recipe.examples([1])
    assert batch.frame_B3HW.shape[2:] == (256, 384)
    row, frame, _ = referred(recipe.examples, 1)
    landmarks_TN3 = reader.read_landmarks(recipe.examples.manifest, row)
    x, y = inputs.corners(region.regions(landmarks_TN3.astype(np.float32))[[frame]], LARGE)[0]
    pixels = video_reader.read_video(recipe.examples.manifest, row, [frame], 512)[0]
    pixels = pixels[2 * y : 2 * y + 256, 2 * x : 2 * x + 384]
    assert np.array_equal(((batch.frame_B3HW[0] + 1) * 127.5).round().permute(1, 2, 0), pixels)
    points = landmarks_TN3[frame, :, :2].astype(np.float32) * 2 - 2 * np.array([x, y])
    np.testing.assert_allclose(batch.landmarks_BN2[0], points, atol=1e-3)
    small = AppearanceRecipe(tiny_settings(shards, "model.size_px=64", WINDOW)).examples([1])
    reduced = torch.nn.functional.avg_pool2d(batch.frame_B3HW, 8)
    assert (small.frame_B3HW - reduced).abs().mean() < 0.05, "within 4 px of the crop the windows lie alike"
    networks = {name: shaken(player.module) for name, player in recipe.players().items()}
    assert recipe.generator_loss(networks, batch).total_B.isfinite().all()


def test_pictures_of_256_px_teach_no_painter_of_512(tmp_path):
    shards = talkers.write(tmp_path, {"train": 2, "val": 1}, 1, 14, video=True)
    with pytest.raises(UserError, match=r"frames of 256 px and model\.size_px is 512"):
        AppearanceRecipe(tiny_settings(shards, *SETTINGS))


class Copying(Generator):
    """Shows the references, moved to the landmarks."""

    def decode(self, landmark_image_B3HW, encoded, base_B3HW, time_BDHW=None):
        return base_B3HW


def large_face() -> tuple[np.ndarray, FaceSpan]:
    """Frames of 640 x 600 px with fine structure, and a face whose crop has a side of 512 px in them."""
    landmarks_FN3 = talking(8)
    crop_23 = np.array([[0.5, 0, -20.0], [0, 0.5, -30.0]])
    fine = np.random.default_rng(0).integers(40, 215, (600, 640, 3)).astype(np.uint8)
    still = cv2.GaussianBlur(fine, (0, 0), 0.7)
    return np.stack([still] * 8), FaceSpan(0, 8, np.stack([crop_23] * 8), np.repeat(landmarks_FN3[:1], 8, 0))


@pytest.mark.parametrize(("config", "most"), [(LARGE, 2.0), (replace(TINY, size_px=256, stem=4), np.inf)])
def test_a_large_face_keeps_its_detail_where_the_painter_sees_512_px(config, most):
    """Copied from references of the same still face: to the pixel at 512; at 256 what is finer is lost."""
    frames, span = large_face()
    made = Copying(config)
    side_px = made.config.side_px
    crops = np.stack([crop.picture(frame, span.crops_F23[0], side_px) for frame in frames[4:]])
    assert crops.shape[1:] == (side_px, side_px, 3)
    painter = Painter(made, crops, span.landmarks_FN3[4:])
    given = [span.landmarks_FN3[:4]], region.regions(span.landmarks_FN3)[:4], np.ones(4, np.float32), painter
    results = [picture for [picture] in compositing.painted_each(iter(frames[:4]), replace(span, stop=4), *given)]
    assert len(results) == 4
    x, y = crop.apply(given[1][0].mean(0), crop.invert(span.crops_F23[0])).astype(int)
    inside = np.s_[y - 40 : y + 40, x - 60 : x + 60]
    error = np.abs(results[0][inside].astype(int) - frames[0][inside]).mean()
    assert error < most
    if most == np.inf:
        assert error > 10
    assert np.array_equal(results[0][:20], frames[0][:20])


def test_small_references_are_enlarged_for_a_painter_of_512():
    frames, span = large_face()
    small = np.stack([crop.picture(frame, span.crops_F23[0], 256) for frame in frames[4:]])
    painted, mask = Painter(Copying(LARGE), small, span.landmarks_FN3[4:]).paint(
        small[:2], span.landmarks_FN3[:2], region.regions(span.landmarks_FN3)[:2]
    )
    assert painted.shape == (2, 256, 256, 3)
    assert np.abs(painted[mask == 1].astype(int) - small[:2][mask == 1]).mean() < 8


@pytest.mark.parametrize(("side_px", "size_px"), [(120, 256), (361, 256), (363, 512), (900, 512)])
def test_a_face_gets_the_painter_of_its_size(side_px, size_px):
    """Of several, that whose size is nearest by ratio to the median side of the person's crops in the source."""
    crops = np.stack([crop.box(np.zeros(2), side) for side in (40, side_px, side_px, side_px)])
    faces = FirstPass(Path("v.mp4"), Fraction(25), 1920, 1080, 4, [FaceSpan(0, 4, crops, np.zeros((4, 478, 3)))])
    painters = [SimpleNamespace(config=AppearanceConfig(size_px=size)) for size in (512, 256)]
    models = Models(None, painters[0], (painters[1],))  # type: ignore[arg-type]
    assert models.painter_of(faces).config.size_px == size_px
    assert Models(None, painters[0]).painter_of(faces) is painters[0], "alone it paints all"  # type: ignore[arg-type]


@pytest.mark.full
def test_from_a_drawn_video_to_a_dub_at_512_px(tmp_path, monkeypatch):
    """Three drawn people, extracted at 512 px, two steps of a small painter, and a dub with it: by the commands."""
    monkeypatch.chdir(ROOT)
    videos, folder, run = tmp_path / "videos", tmp_path / "shards", tmp_path / "run"
    motion_model = tmp_path / "motion"
    save_model(MotionModel(MOTION).state_dict(), MOTION, motion_model)
    tiny = ROOT / "tests" / "helpers" / "tiny_appearance.yaml"
    for words in (
        f"data_pipeline demo {videos} --identities 3 --clips-per-identity 1 --seed 0 --seconds 1.2 --size 640 "
        "--no-broken --workers 1",
        f"data_pipeline extract {videos} {folder} --workers 1 frames_px=512",
        f"data_pipeline split {folder} --val 0.34 --unseen 0.34",
        f"train appearance --config {tiny} shards={folder} run={run} steps=2 model.size_px=512 model.stem=16 "
        "model.window_px=[128,192] validate_every=2 workers=0",
    ):
        subprocess.run([sys.executable, "-m", *words.split()], check=True)
    video = next(videos.rglob("*.mp4"))
    frames = np.stack(list(media.read_frames(video)))[:6]
    sound_S = media.read_audio(video)
    media.write_video(tmp_path / "v.mp4", frames, 25, sound_S[: 6 * 640], 16_000)
    models = f"--motion {motion_model} --appearance {run / 'model'}"
    words = f"mytalk dub {tmp_path / 'v.mp4'} {video} -o {tmp_path / 'o.mp4'} {models} --steps 2"
    subprocess.run([sys.executable, "-m", *words.split()], check=True)
    dubbed = np.stack(list(media.read_frames(tmp_path / "o.mp4")))
    assert dubbed.shape == frames.shape
    assert Manifest.load(folder).column("frames_px").tolist() == [512, 512, 512]
