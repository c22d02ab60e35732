"""Stand-ins for detector and painter, and what a benchmark of them needs.

In a coded film the brightness of a disc in the middle tells how far the mouth is open. The detector reads it, the
painter writes it.
"""

from __future__ import annotations

import types
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from eval.__main__ import COMMANDS
from mytalk import command as commands
from mytalk.face.detector import Region, region_of
from mytalk.face.landmarks import CROP_PX, opening
from mytalk.networks import identity, reader, syncnet
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import save_model
from mytalk.networks.motion.network import MotionModel
from tests.helpers import judges
from tests.helpers.appearance_models import pixel_syncnet
from tests.helpers.faces import opened

IDENTITY = identity.IdentityConfig(width=16, heads=2, layers=1, hidden=16, kernel=3, embedding=8)
MOTION = MotionConfig(
    width=16, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1, extractor_width=IDENTITY.width
)
SYNC = syncnet.SyncConfig(width=8, hidden=8, layers=1, embedding=8)
READER = reader.ReaderConfig(side=16, channels=[4, 4, 8, 8], hidden=16)
GREY, PER_PX = 40, 6  # brightness of a closed mouth, and of each px of opening
STEPS = "2"


def coded(landmarks_TN3: np.ndarray, person: int = 0) -> np.ndarray:
    """Frames whose disc is as bright as the mouth is open."""
    made = np.full((len(landmarks_TN3), CROP_PX, CROP_PX, 3), 128, np.uint8)
    made[:, 100:220, 60:200] = (GREY + PER_PX * opening(landmarks_TN3)).round().clip(0, 255)[:, None, None, None]
    return made


class Reader:
    """A detector that reads the code; a black frame shows no face."""

    def find(self, frame_HW3: np.ndarray) -> list[Region]:
        face = self.landmarks(frame_HW3)
        return [] if face is None else [region_of(face)]

    def landmarks(self, frame_HW3: np.ndarray, region: Region | None = None) -> np.ndarray | None:
        level = float(frame_HW3[130:190, 90:170].mean())
        return None if level < GREY / 2 else opened(np.array([(level - GREY) / PER_PX]))[0].astype(np.float32)


class Writer:
    """A painter that writes the code."""

    side_px = 256

    shown: ClassVar[list[np.ndarray]] = []
    dark: ClassVar[set[int]] = set()  # batches of up to 8 frames in which no row is painted a face

    def __init__(self, generator, references_RHW3, reference_landmarks_RN2):
        self.shown.append(references_RHW3)
        self.calls = 0

    def paint_each(self, frames_BHW3, several, regions_BV2, start=0, before=None):
        mask = np.zeros(frames_BHW3.shape[:3], np.float32)
        mask[:, 90:230, 50:210] = 1
        painted = [coded(landmarks_FN2[start : start + len(frames_BHW3)]) for landmarks_FN2 in several]
        if self.calls in self.dark:
            painted = [np.zeros_like(frames) for frames in painted]
        self.calls += 1
        return painted, mask


def write_models(folder: Path) -> dict[str, Path]:
    """Folders of tiny models with random weights, by name."""
    torch.manual_seed(0)
    writer, extractor = MotionModel(MOTION), identity.IdentityEncoder(IDENTITY)
    torch.nn.init.normal_(writer.out.weight, std=0.2)
    save_model(writer.state_dict(), MOTION, folder / "motion", extractor)
    for name in ("appearance", "syncnet"):
        (folder / name).mkdir()
    for name in ("config.json", "model.safetensors"):  # the painter is a stand-in
        (folder / "appearance" / name).write_text("{}")
    evaluator("identity", folder / "identity", [0.7, 0.9])
    evaluator("syncnet", folder / "syncnet", [0.7, 0.9])
    return {name: folder / name for name in ("motion", "appearance", "syncnet", "identity")}


def evaluator(name: str, folder: Path, ci95: list[float]) -> None:
    """Write a SyncNet, an identity encoder or a reader of lips that is as good as this, by its facts."""
    facts = {"mean": sum(ci95) / 2, "ci95": ci95, "people": 5, "chance": 0.5}
    if name == "syncnet":
        torch.manual_seed(1)
        state = syncnet.SyncNet(SYNC).state_dict()
        syncnet.save_model(state, SYNC, folder, {"validation": {syncnet.MEASURED: facts}})
    elif name == "pixels":
        pixel_syncnet(folder, facts["mean"])
    elif name == "reader":
        torch.manual_seed(3)
        state = reader.LipReader(READER).state_dict()
        reader.save_model(state, READER, folder, {"validation": {reader.MEASURED: facts}})
    else:
        torch.manual_seed(2)
        state = identity.IdentityEncoder(IDENTITY).state_dict()
        identity.save_model(state, IDENTITY, folder, {"validation": {identity.MEASURED: facts}})


class Midday(datetime):
    """The same day in every report."""

    @classmethod
    def now(cls, tz=None) -> datetime:
        return datetime(2026, 6, 1, 12, tzinfo=tz)


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Make detector, painter, date and judges those of tests."""
    import mytalk.face.mediapipe_mesh
    import mytalk.networks.appearance.files
    import mytalk.networks.appearance.painter

    judges.stand_in(patch)
    patch.setattr("eval.report.of_videos.datetime", Midday)
    patch.setattr(mytalk.face.mediapipe_mesh, "FaceDetector", Reader)
    patch.setattr(mytalk.face.mediapipe_mesh, "version", lambda: "a stand-in")
    patch.setattr(mytalk.networks.appearance.painter, "Painter", Writer)
    generator = types.SimpleNamespace(compute_in=lambda precision: None)
    patch.setattr(mytalk.networks.appearance.files, "load_model", lambda folder, device: generator)


def typed(shards: Path, models: dict[str, Path], out: Path, *more: str) -> list[str]:
    """The arguments after `python -m eval`."""
    named = [word for name, folder in models.items() for word in (f"--{name}", str(folder))]
    return ["benchmark", "--shards", str(shards), *named, "--out", str(out), "--steps", STEPS, *more]


def benchmark(shards: Path, models: dict[str, Path], out: Path, *more: str) -> int:
    """The command in this process; its exit code."""
    return commands.main("python -m eval", "", COMMANDS, typed(shards, models, out, *more))
