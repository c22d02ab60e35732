"""Appearance models small enough for tests, and faces and masks to paint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from data_pipeline.examples.appearance import AppearanceExamples
from mytalk import config, intervals
from mytalk.face.landmarks import CLEAN
from mytalk.face.region import JAW
from mytalk.networks import syncnet
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.syncnet import SyncConfig, SyncNet
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig

TINY = AppearanceConfig(
    size_px=64,
    window_px=[128, 192],
    stem=2,
    channels=[8, 16],
    blocks=[0, 1],
    heads=2,
    discriminator_channels=4,
)


def tiny_settings(shards: Path, *more: str) -> AppearanceTrainConfig:
    return config.load(
        AppearanceTrainConfig, ROOT / "tests" / "helpers" / "tiny_appearance.yaml", [f"shards={shards}", *more]
    )


def tiny_recipe(folder: Path) -> AppearanceRecipe:
    """The recipe at its smallest, on shards written into this folder: a clip a person."""
    shards = talkers.write(folder, {"train": 3, "val": 2, "unseen": 1}, 1, 40, video=True)
    return AppearanceRecipe(tiny_settings(shards))


def shaken(module):
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in module.parameters():
            drawn = torch.randn(weight.shape, generator=random)
            weight.copy_(drawn / weight[0].numel() ** 0.5 if weight.dim() > 1 else 0.7 + 0.3 * drawn)
    return module.eval()


def talking(frames: int = 30, seed: int = 4, gain_px: float = 12.0) -> np.ndarray:
    """(T, 478, 3) px: a face with a jaw that falls as the mouth opens, on a head that sways."""
    random = np.random.default_rng(seed)
    face = talkers.outlined(talkers.base_face(random))
    landmarks, _ = talkers.clip(random, face, gain_px, frames)
    open_T1 = landmarks[:, talkers.LOWER, 1].mean(1, keepdims=True) - landmarks[:, CLEAN, 1].mean(1, keepdims=True)
    landmarks[:, JAW[5:12], 1] += 0.8 * (open_T1 - open_T1.mean())
    return landmarks.astype(np.float32)


def filled(polygon_V2: np.ndarray, size_px: int, grow: int = 0) -> np.ndarray:
    """The polygon by pillow, 8 times finer, as (size, size) bool; `grow` px dilated, or eroded below 0."""
    fine = Image.new("1", (8 * size_px, 8 * size_px))
    ImageDraw.Draw(fine).polygon([tuple(point) for point in (8 * polygon_V2).tolist()], fill=1)
    mask = torch.from_numpy(np.asarray(fine)[4::8, 4::8].copy()).float()[None, None]
    reach = abs(grow)
    around = torch.nn.functional.pad(mask, [reach] * 4)  # beyond the picture nothing is filled
    if grow > 0:
        mask = torch.nn.functional.max_pool2d(around, 2 * reach + 1, 1)
    elif grow < 0:
        mask = 1 - torch.nn.functional.max_pool2d(1 - around, 2 * reach + 1, 1)
    return mask[0, 0].numpy() > 0


def referred(examples: AppearanceExamples, slot: int) -> tuple[int, int, list[int]]:
    """(row, frame, frames of the references) of a slot."""
    example = examples.windows.example(slot)
    row, frame, _ = example.window
    landmarks = np.zeros((int(examples.windows.frames[row]), 478, 3), np.float32)
    return row, frame, examples.reference_frames(slot, example, landmarks)


def pixel_syncnet(folder: Path, accuracy: float = 0.9) -> Path:
    """A SyncNet of pixels that has not learnt, whose folder says that it reached this two-way accuracy of 0.75.

    Its people are of the corpus `test`, as the talkers of tests are.
    """
    sizes = SyncConfig(width=16, hidden=16, layers=1, embedding=8, sees=syncnet.PIXELS, side=16, channels=[4, 4, 8, 8])
    torch.manual_seed(0)
    reached = intervals.against_chance([accuracy - 0.01, accuracy, accuracy + 0.01], 0.5, 0.75)
    facts = {syncnet.MEASURED: reached, syncnet.CORPORA: {"test": reached}}
    syncnet.save_model(SyncNet(sizes).state_dict(), sizes, folder, {"validation": facts})
    return folder
