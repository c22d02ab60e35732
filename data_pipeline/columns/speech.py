"""The column `speech`: learnt features of the speech, by an encoder of others (mytalk/speech/encoder.py).

Shape suffixes: T frames, D values.
"""

from __future__ import annotations

import functools

import numpy as np

from data_pipeline.columns.column import Made
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.members import WAV_HEADER_BYTES, from_pcm
from mytalk.speech import encoder as encoders
from mytalk.speech import encoder_folder

OPTIONS = {"encoder": True, "layer": False}


def made(encoder: str, layer: str | None) -> Made:
    """What gives a clip's features, by the encoder of a folder or hub id. Raises UserError as `describe`."""
    described = encoder_folder.describe(encoder, layer or "")
    fixed = (str(described.folder), str(described.layer))
    return Made(functools.partial(values, *fixed), described.width, "audio", described.made_by)


def values(folder: str, layer: str, manifest: Manifest, row: int) -> np.ndarray:
    """The features of a clip's stored speech: (T, D) fp16. Raises ClipError, UserError."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    audio_S = from_pcm(reader.read_member(manifest, row, "audio")[WAV_HEADER_BYTES:])
    return encoders.loaded(folder, layer, device)(audio_S)
