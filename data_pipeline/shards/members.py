"""The members of a clip as bytes: landmarks (npy), audio (wav), facts (json).

Shape suffixes: T frames, N landmarks, 3 = (x, y, z), S audio samples.
"""

from __future__ import annotations

import io
import json
import wave
from typing import Any

import numpy as np

from mytalk.face.landmarks import COUNT, SAMPLE_HZ

WAV_HEADER_BYTES = 44
AT_ONCE = 1 << 20  # samples that are converted at once
FRAME_BYTES = COUNT * 3 * 2  # of landmarks: 478 points, x, y and z, fp16


def landmarks_npy(landmarks_TN3: np.ndarray) -> bytes:
    """Landmarks in crop px as a fp16 `.npy`."""
    target = io.BytesIO()
    np.save(target, np.ascontiguousarray(landmarks_TN3, dtype="<f2"), allow_pickle=False)
    return target.getvalue()


def audio_wav(audio_S: np.ndarray, rate: int = SAMPLE_HZ) -> bytes:
    """Float mono samples in [-1, 1] as a 16-bit PCM `.wav`."""
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(pcm(audio_S).tobytes())
    return target.getvalue()


def pcm(audio_S: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as little-endian int16, one step 1/32768, clipped at the top."""
    pcm_S = np.empty(len(audio_S), "<i2")
    for start in range(0, len(audio_S), AT_ONCE):  # so that an hour of sound is never held twice as float
        piece_S = np.asarray(audio_S[start : start + AT_ONCE], np.float64)
        pcm_S[start : start + AT_ONCE] = np.clip(np.rint(piece_S * 32768), -32768, 32767)
    return pcm_S


def from_pcm(data: bytes) -> np.ndarray:
    """The inverse of `pcm` on bytes: float32 (S,)."""
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def facts_json(facts: dict[str, Any]) -> bytes:
    """Facts as one line of JSON with sorted keys; refuses NaN and infinity."""
    return json.dumps(facts, sort_keys=True, allow_nan=False).encode()
