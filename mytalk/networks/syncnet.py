"""SyncNet on landmarks: do this mouth and this speech belong together, and how far are they apart in time?

Two encoders, one for windows of lip landmarks and one for windows of speech of the same length, whose embeddings
lie near each other where both are of one moment. The idea and the scores are Chung & Zisserman's (2016), the
distance over offsets and the confidence those of their `syncnet_python`. Landmarks instead of pixels for the mouth,
and the networks, are our own.

Shape suffixes: B batch, T video frames (25 Hz), W windows (T - w + 1), N landmarks (478), F features, D embedding,
S audio samples (640 T), O offsets, 2 = (x, y), 3 = (x, y, z).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mytalk.face import pose
from mytalk.face.landmarks import MOUTH, SAMPLES_PER_FRAME
from mytalk.networks import speech_features, weights
from mytalk.networks.conformer import FeedForward
from mytalk.settings import Settings, setting

UNIT_PX = 8.0  # px of lip motion in the head's frame that count as 1
MEASURED = "two_way_accuracy"  # the fact of a model's folder that shows whether a score means anything
REACH_FRAMES = 15  # offsets are searched this far on either side, as in `syncnet_python`


@dataclass
class SyncConfig(Settings):
    """Size of both encoders of SyncNet."""

    part = "model"

    window_frames: int = setting(5, "frames of an embedding: 0.2 s, as Chung & Zisserman's", unit="frames", at_least=1)
    width: int = setting(256, "features of each frame", at_least=1)
    hidden: int = setting(512, "width inside the feed-forward blocks", at_least=1)
    layers: int = setting(4, "feed-forward blocks before the window's frames are joined, and again after", at_least=1)
    embedding: int = setting(256, "size of an embedding", at_least=1)
    features: str = setting(
        speech_features.MEL,
        f"what is heard of the speech: {speech_features.MEL}, computed from the sound, or the name of a column of the "
        "shards",
    )
    features_width: int = setting(0, "values a frame of that column; 0: no column", unit="values", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.features:
            raise ValueError(f"model.features must be {speech_features.MEL} or the name of a column")

    @property
    def column(self) -> str:
        """The column of shards that is heard; empty: the sound."""
        return "" if self.features == speech_features.MEL else self.features


class WindowEncoder(nn.Module):
    """Features of frames -> a unit vector for every window of them.

    Blocks work on each frame alone, and one convolution without padding joins the frames of a window: each window
    is embedded as if it were alone, and what windows share is computed once.
    """

    def __init__(self, features: int, config: SyncConfig):
        super().__init__()
        width, hidden = config.width, config.hidden
        self.enter = nn.Linear(features, width)
        self.of_frames = nn.ModuleList(FeedForward(width, hidden) for _ in range(config.layers))
        self.join = nn.Conv1d(width, width, config.window_frames)
        self.norm = nn.LayerNorm(width)
        self.of_windows = nn.ModuleList(FeedForward(width, hidden) for _ in range(config.layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.embedding))

    def forward(self, features_BTF: torch.Tensor) -> torch.Tensor:
        x_BTD = self.enter(features_BTF.to(self.enter.weight.dtype))
        for block in self.of_frames:
            x_BTD = block(x_BTD)
        x_BWD = F.silu(self.norm(self.join(x_BTD.transpose(1, 2)).transpose(1, 2)))
        for block in self.of_windows:
            x_BWD = block(x_BWD)
        return F.normalize(self.out(x_BWD).to(self.enter.weight.dtype), dim=-1)


class SyncNet(nn.Module):
    """Embeddings of lips and of speech; `forward` gives both, as training needs them."""

    def __init__(self, config: SyncConfig):
        super().__init__()
        self.config = config
        self.lips = WindowEncoder(2 * len(MOUTH), config)
        assert bool(config.column) == bool(config.features_width), "the width is the column's"
        of_mel = speech_features.MEL_PER_FRAME * speech_features.BANDS
        self.voice = WindowEncoder(config.features_width or of_mel, config)

    def mouth(self, landmarks_BTN3: torch.Tensor, mask_BT: torch.Tensor | None = None) -> torch.Tensor:
        """Landmarks in crop px (B, T, N, 3), their valid frames in `mask_BT` -> unit vectors (B, W, D)."""
        if mask_BT is None:
            mask_BT = torch.ones_like(landmarks_BTN3[..., 0, 0])
        return self.lips(lip_motion(landmarks_BTN3, mask_BT).flatten(2))

    def speech(
        self,
        audio_BS: torch.Tensor,
        voice_B: torch.Tensor | None = None,
        features_BTF: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Samples in [-1, 1] (B, S) -> unit vectors (B, W, D). `voice_B` augments, see `speech_features.log_mel`.

        A model that hears a column hears `features_BTF` instead. Raises UserError where it has none.
        """
        if column := self.config.column:
            heard = speech_features.of_column(features_BTF, "syncnet", column, self.config.features_width)
            return self.voice(heard)
        with torch.autocast(audio_BS.device.type, enabled=False):  # log-mel energies need float32
            mel_BMC = speech_features.log_mel(audio_BS, voice_B)
        return self.voice(mel_BMC.unflatten(1, (-1, speech_features.MEL_PER_FRAME)).flatten(2))

    def forward(
        self,
        landmarks_BTN3: torch.Tensor,
        mask_BT: torch.Tensor,
        audio_BS: torch.Tensor,
        voice_B: torch.Tensor | None = None,
        features_BTF: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mouth, speech), both (B, W, D): the whole network in one call."""
        return self.mouth(landmarks_BTN3, mask_BT), self.speech(audio_BS, voice_B, features_BTF)


def lip_motion(landmarks_BTN3: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The 40 points of the lips in the head's frame, minus their mean over the clip: (B, T, 40, 2).

    Without the person's mean the two-way accuracy on unseen people is higher (docs/log.md).
    """
    lips = pose.to_own_head(landmarks_BTN3, mask_BT)[:, :, MOUTH]
    weight_BT = mask_BT / mask_BT.sum(1, keepdim=True)
    return (lips - (lips * weight_BT[..., None, None]).sum(1, keepdim=True)) / UNIT_PX


@dataclass(frozen=True)
class SyncScore:
    """How well a clip's mouth and speech fit. Unit vectors: a distance is 0 to 2, and about 1.4 by chance."""

    distance: float  # mean over windows at the best offset
    confidence: float  # median over offsets minus that
    offset_frames: int  # the speech is this many frames ahead of the mouth
    windows: int  # with both mouth and speech at offset 0


@torch.no_grad()
def embedded_speech(model: SyncNet, audio_S: np.ndarray) -> torch.Tensor:
    """A speech's embeddings, (W, D), for mouths that are scored against it one after another."""
    return model.speech(torch.from_numpy(np.asarray(audio_S, np.float32))[None].to(next(model.parameters())))[0]


@torch.no_grad()
def distances(
    model: SyncNet,
    landmarks_TN3: np.ndarray,
    audio_S: np.ndarray,
    reach_frames: int = REACH_FRAMES,
    speech: Callable[[], torch.Tensor] | None = None,
) -> np.ndarray:
    """Mean distance of mouth and speech at every offset up to `reach_frames` either way: (2 reach_frames + 1,).

    At offset o the mouth window that begins at frame i meets the speech window that begins at i - o. Only windows
    where both exist count; `syncnet_python` pads the ends with zeros instead. `speech` gives `embedded_speech` of the
    audio, where that is kept. Raises ValueError for a clip with
    too few windows, or with speech of another length.
    """
    frames = len(landmarks_TN3)
    if len(audio_S) != frames * SAMPLES_PER_FRAME:
        raise ValueError(f"{frames} frames need {frames * SAMPLES_PER_FRAME} samples, not {len(audio_S)}")
    least = reach_frames + model.config.window_frames
    if frames < least:
        raise ValueError(f"{frames} frames are too few for offsets up to {reach_frames}: {least} are needed")
    weight = next(model.parameters())
    landmarks_BTN3 = torch.from_numpy(np.asarray(landmarks_TN3, np.float32))[None].to(weight)
    mouth_WD = model.mouth(landmarks_BTN3)[0]
    speech_WD = embedded_speech(model, audio_S) if speech is None else speech()
    means = []
    for offset in range(-reach_frames, reach_frames + 1):
        before, after = max(0, offset), max(0, -offset)
        paired_mouth_WD = mouth_WD[before : len(mouth_WD) - after]
        paired_speech_WD = speech_WD[after : len(speech_WD) - before]
        means.append((paired_mouth_WD - paired_speech_WD).norm(dim=-1).mean())
    return torch.stack(means).double().cpu().numpy()


def score(
    model: SyncNet,
    landmarks_TN3: np.ndarray,
    audio_S: np.ndarray,
    reach_frames: int = REACH_FRAMES,
    speech: Callable[[], torch.Tensor] | None = None,
) -> SyncScore:
    """The score of a clip: landmarks (T, 478, 3) in crop px, speech (T * 640,). `speech`, raises: as `distances`.

    A positive offset means that the speech is that many frames ahead of the mouth (the sign of `syncnet_python`).
    """
    of_offset_O = distances(model, landmarks_TN3, audio_S, reach_frames, speech)
    best = int(of_offset_O.argmin())
    return SyncScore(
        distance=float(of_offset_O[best]),
        confidence=float(np.median(of_offset_O) - of_offset_O[best]),
        offset_frames=best - reach_frames,
        windows=len(landmarks_TN3) - model.config.window_frames + 1,
    )


def save_model(
    state: dict[str, torch.Tensor], config: SyncConfig, folder: str | Path, facts: dict[str, Any] | None = None
) -> None:
    """Write weights as a folder that `load_model` reads; `facts` as `weights.above_chance` reads them."""
    weights.save(state, "syncnet", config, folder, facts)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> SyncNet:
    """The SyncNet of a folder, in evaluation mode, which scores a mouth with a sound.

    Raises UserError as `weights.load` does, and for one that hears a column of shards: a sound has none.
    """
    model = weights.load(folder, "syncnet", SyncConfig, SyncNet, device)
    if model.config.column:
        speech_features.of_column(None, "syncnet", model.config.column, 0)
    return model
