"""The column `mel`: log-mel energies of the speech, the four mel frames of a video frame side by side.

Shape suffixes: T frames, S audio samples.
"""

from __future__ import annotations

import numpy as np
import torch

from data_pipeline.columns.column import Made
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.members import WAV_HEADER_BYTES, from_pcm
from mytalk.networks.speech_features import BANDS, MEL_PER_FRAME, log_mel

OPTIONS: dict[str, bool] = {}


def made() -> Made:
    """What gives a clip's values. Where an A/V offset is annotated, they are shifted with the sound when read."""
    return Made(values, MEL_PER_FRAME * BANDS, "audio")


def values(manifest: Manifest, row: int) -> np.ndarray:
    """Log-mel energies of a clip's stored speech, 4 x 80 values a frame: (T, 320) float32. Raises ClipError."""
    frames = int(manifest.at(row, "frames"))
    audio_S = from_pcm(reader.read_member(manifest, row, "audio")[WAV_HEADER_BYTES:])
    return log_mel(torch.from_numpy(audio_S)[None])[0].reshape(frames, -1).numpy()
