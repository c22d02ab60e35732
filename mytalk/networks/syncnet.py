"""SyncNet: do this mouth and this speech belong together, and how far are they apart in time?

Two encoders, one for windows of a mouth and one for windows of speech of the same length, whose embeddings
lie near each other where both are of one moment. The idea and the scores are Chung & Zisserman's (2016), the
distance over offsets and the confidence those of their `syncnet_python`. The networks are our own, and so are lip
landmarks in place of pixels; a SyncNet that sees pixels, in the crops of mytalk/networks/reader.py, can teach painters.

Shape suffixes: B batch, T video frames (25 Hz), W windows (T - w + 1), N landmarks (478), F features, D embedding,
S audio samples (640 T) or, of crops, their side, O offsets, 2 = (x, y), 3 = (x, y, z) or RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import MOUTH, SAMPLES_PER_FRAME
from mytalk.intervals import proven
from mytalk.networks import reader, speech_features, weights
from mytalk.networks.conformer import FeedForward
from mytalk.settings import Settings, setting

UNIT_PX = 8.0  # px of lip motion in the head's frame that count as 1
MEASURED = "two_way_accuracy"  # the fact of a model's folder that shows whether a score means anything
LANDMARKS, PIXELS = "landmarks", "pixels"
CORPORA = "corpora"  # another of these facts: the same, of the people of each corpus
APART_FRAMES = 3  # speech nearer than this to the mouth's moment is neither true nor false
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
    sees: str = setting(
        LANDMARKS,
        "of a mouth: the lips' landmarks, or the pixels of a crop that is placed by points which do not speak",
        choices=(LANDMARKS, PIXELS),
    )
    side: int = setting(48, "of that crop; a multiple of 16", unit="px", at_least=16)
    channels: list[int] = setting([16, 32, 48, 64], "of the four levels that see it, multiples of 4", at_least=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.features:
            raise ValueError(f"model.features must be {speech_features.MEL} or the name of a column")
        reader.check_levels(self.side, self.channels)

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
        self.pixels, of_lips = None, 2 * len(MOUTH)
        if config.sees == PIXELS:
            self.pixels, of_lips = reader.levels(config.side, config.channels)
        self.lips = WindowEncoder(of_lips, config)
        assert bool(config.column) == bool(config.features_width), "the width is the column's"
        of_mel = speech_features.MEL_PER_FRAME * speech_features.BANDS
        self.voice = WindowEncoder(config.features_width or of_mel, config)

    def mouth(self, seen: torch.Tensor, mask_BT: torch.Tensor | None = None) -> torch.Tensor:
        """What the model sees, and which frames of it are valid -> unit vectors (B, W, D).

        Landmarks in crop px (B, T, N, 3), or crops (B, T, 3, S, S) in [-1, 1] of a model that sees pixels.
        """
        if self.pixels is not None:
            crops_K3SS = seen.flatten(0, 1).to(self.lips.enter.weight.dtype)
            return self.lips(self.pixels(crops_K3SS).unflatten(0, seen.shape[:2]))
        if mask_BT is None:
            mask_BT = torch.ones_like(seen[..., 0, 0])
        return self.lips(lip_motion(seen, mask_BT).flatten(2))

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
        seen: torch.Tensor,
        mask_BT: torch.Tensor,
        audio_BS: torch.Tensor,
        voice_B: torch.Tensor | None = None,
        features_BTF: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mouth, speech), both (B, W, D): the whole network in one call."""
        return self.mouth(seen, mask_BT), self.speech(audio_BS, voice_B, features_BTF)


def lip_motion(landmarks_BTN3: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The 40 points of the lips in the head's frame, minus their mean over the clip: (B, T, 40, 2).

    Without the person's mean the two-way accuracy on unseen people is higher (docs/log.md).
    """
    lips = pose.to_own_head(landmarks_BTN3, mask_BT)[:, :, MOUTH]
    return (lips - pose.mean_over_frames(lips, mask_BT)[:, None]) / UNIT_PX


@dataclass(frozen=True)
class SyncScore:
    """How well a clip's mouth and speech fit. Unit vectors: a distance is 0 to 2, and about 1.4 by chance."""

    distance: float  # mean over windows at the best offset
    confidence: float  # median over offsets minus that
    offset_frames: int  # the speech is this many frames ahead of the mouth
    windows: int  # with both mouth and speech at offset 0
    accuracy: float  # two-way, at offset 0


def two_way_accuracy(
    mouth_WD: torch.Tensor, speech_WD: torch.Tensor, min_shift_frames: int = APART_FRAMES
) -> torch.Tensor:
    """How often a mouth window is nearer to its own speech than to speech so many frames away or more, ().

    Over all such choices in a clip, so that none is drawn; a tie counts as half. Chance is 0.5.
    """
    cosine_WW = mouth_WD @ speech_WD.T
    own_W1 = cosine_WW.diagonal()[:, None]
    order = torch.arange(len(mouth_WD), device=mouth_WD.device)
    asked_WW = (order[:, None] - order).abs() >= min_shift_frames
    return ((own_W1 > cosine_WW).double() + 0.5 * (own_W1 == cosine_WW))[asked_WW].mean()


@torch.no_grad()
def embedded_speech(model: SyncNet, audio_S: np.ndarray) -> torch.Tensor:
    """A speech's embeddings, (W, D), for mouths that are scored against it one after another."""
    return model.speech(torch.from_numpy(np.asarray(audio_S, np.float32))[None].to(next(model.parameters())))[0]


def distances(
    model: SyncNet,
    seen: np.ndarray,
    audio_S: np.ndarray,
    reach_frames: int = REACH_FRAMES,
    speech: Callable[[], torch.Tensor] | None = None,
) -> np.ndarray:
    """Mean distance of mouth and speech at every offset up to `reach_frames` either way: (2 reach_frames + 1,).

    At offset o the mouth window that begins at frame i meets the speech window that begins at i - o. Only windows
    where both exist count; `syncnet_python` pads the ends with zeros instead. `seen` is what the model sees, see
    `SyncNet.mouth`, of T frames. `speech` gives `embedded_speech` of the audio, where that is kept. Raises ValueError
    for a clip with too few windows, or with speech of another length.
    """
    mouth_WD, speech_WD = _embedded(model, seen, audio_S, reach_frames, speech)
    return _of_offsets(mouth_WD, speech_WD, reach_frames)


@torch.no_grad()
def _embedded(
    model: SyncNet,
    seen: np.ndarray,
    audio_S: np.ndarray,
    reach_frames: int,
    speech: Callable[[], torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The windows of mouth and speech, both (W, D), of what `distances` takes. Raises ValueError as it says."""
    frames = len(seen)
    if len(audio_S) != frames * SAMPLES_PER_FRAME:
        raise ValueError(f"{frames} frames need {frames * SAMPLES_PER_FRAME} samples, not {len(audio_S)}")
    least = reach_frames + model.config.window_frames
    if frames < least:
        raise ValueError(f"{frames} frames are too few for offsets up to {reach_frames}: {least} are needed")
    weight = next(model.parameters())
    mouth_WD = model.mouth(torch.from_numpy(np.asarray(seen, np.float32))[None].to(weight))[0]
    return mouth_WD, embedded_speech(model, audio_S) if speech is None else speech()


def _of_offsets(mouth_WD: torch.Tensor, speech_WD: torch.Tensor, reach_frames: int) -> np.ndarray:
    """Mean distance of the windows that meet at each offset, (2 reach_frames + 1,)."""
    means = []
    for offset in range(-reach_frames, reach_frames + 1):
        before, after = max(0, offset), max(0, -offset)
        paired_mouth_WD = mouth_WD[before : len(mouth_WD) - after]
        paired_speech_WD = speech_WD[after : len(speech_WD) - before]
        means.append((paired_mouth_WD - paired_speech_WD).norm(dim=-1).mean())
    return torch.stack(means).double().cpu().numpy()


def score(
    model: SyncNet,
    seen: np.ndarray,
    audio_S: np.ndarray,
    reach_frames: int = REACH_FRAMES,
    speech: Callable[[], torch.Tensor] | None = None,
) -> SyncScore:
    """The score of a clip: what the model sees of T frames, speech (T * 640,). `speech`, raises: as `distances`.

    A positive offset means that the speech is that many frames ahead of the mouth (the sign of `syncnet_python`).
    """
    mouth_WD, speech_WD = _embedded(model, seen, audio_S, reach_frames, speech)
    of_offset_O = _of_offsets(mouth_WD, speech_WD, reach_frames)
    best = int(of_offset_O.argmin())
    return SyncScore(
        distance=float(of_offset_O[best]),
        confidence=float(np.median(of_offset_O) - of_offset_O[best]),
        offset_frames=best - reach_frames,
        windows=len(seen) - model.config.window_frames + 1,
        accuracy=float(two_way_accuracy(mouth_WD, speech_WD)),
    )


def save_model(
    state: dict[str, torch.Tensor], config: SyncConfig, folder: str | Path, facts: dict[str, Any] | None = None
) -> None:
    """Write weights as a folder that `load_model` reads; `facts` as `weights.above_chance` reads them."""
    weights.save(state, "syncnet", config, folder, facts)


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", sees: str = LANDMARKS, hears_columns: bool = False
) -> SyncNet:
    """The SyncNet of a folder, in evaluation mode, which scores a mouth with a sound.

    Raises UserError as `weights.load` does, for one that sees something else, and for one that hears a column of
    shards, unless that is asked for: a sound has none.
    """
    refuse_other(folder, sees)
    model = weights.load(folder, "syncnet", SyncConfig, SyncNet, device)
    if model.config.column and not hears_columns:
        speech_features.of_column(None, "syncnet", model.config.column, 0)
    return model


def refuse_other(folder: str | Path, sees: str = LANDMARKS) -> None:
    """UserError where the SyncNet of a folder sees something else of a mouth than what it would be shown."""
    found = weights.describe(folder, "syncnet")["config"].get("sees", LANDMARKS)
    if found != sees:
        raise UserError(
            f"{folder} holds a SyncNet that sees {found}, and one that sees {sees} is needed; train it with: "
            f"python -m train syncnet model.sees={sees}"
        )


def load_proven(folder: str | Path, user: str, corpora: Iterable[str], sees: str = PIXELS) -> SyncNet:
    """A SyncNet, frozen, that teaches or judges clips of these corpora for `user`.

    Raises UserError where it is not shown to tell sync on unseen people of each of them.
    """
    model = load_model(folder, sees=sees)
    shown, words = proven_on(folder, corpora)
    if not shown:
        raise UserError(f"{user} cannot use syncnet {folder}: {words}; train it longer (python -m train syncnet)")
    return model.requires_grad_(False)


def proven_on(folder: str | Path, corpora: Iterable[str]) -> tuple[bool, str]:
    """Whether a SyncNet is above chance on unseen people, of each of these corpora too, and that in words.

    Drawn people say nothing of real ones (docs/log.md). Raises UserError where the folder holds no SyncNet.
    """
    shown, words = weights.above_chance(folder, "syncnet", MEASURED)
    validation = weights.facts_of(folder, "syncnet").get("validation")
    of_corpora = validation.get(CORPORA) if isinstance(validation, dict) else None
    for corpus in sorted({*corpora}) if shown else ():
        found, of_corpus = proven(of_corpora.get(corpus) if isinstance(of_corpora, dict) else None)
        if not found:
            return False, f"on unseen people of '{corpus}', {of_corpus}"
    return shown, words
