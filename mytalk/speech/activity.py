"""Where there is speech: Silero's network, and a rule of levels for where it is not installed.

Shape suffixes: S audio samples (16 kHz), T video frames (25 Hz), K blocks of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.speech.level import frame_count, levels_db

BLOCK = 512  # samples that the network judges at once
CONTEXT = 64  # samples of the block before, which it sees again
STATE = (2, 1, 128)  # what it remembers from block to block

FLOOR_SHARE = 0.1  # the level that a tenth of the sound does not reach is the noise between words
ABOVE_FLOOR_DB = 10.0  # speech is louder than that noise by so much
LEAST_DB = -50.0  # and than this, of full scale: what is softer is the noise of a recording without a speaker
GAP_FRAMES = 10  # a pause up to 0.4 s belongs to the speech around it
SHORTEST_FRAMES = 4  # what is shorter is a click


class SpeechDetector(Protocol):
    """Tells where there is speech. `name` says by what."""

    name: str

    def speech_T(self, audio_S: np.ndarray, on_block: Callable[[], None] = lambda: None) -> np.ndarray:
        """Probability of speech in each 40 ms of a file's sound at 16 kHz: (S,) -> (T,), T = S / 640 rounded up.

        `on_block` is called now and then, as a sign of life.
        """


class Silero:
    """Silero's voice activity detector, by onnxruntime on one thread.

    It judges blocks of 32 ms, each with 4 ms of the one before and a state that begins anew with each file; a frame of
    the video has the mean over the blocks that it overlaps. About 5 ms for a second of sound.
    """

    name = "silero-vad"

    def __init__(self, model: bytes):
        """`model`: the ONNX file. Raises ModuleNotFoundError without onnxruntime."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def speech_T(self, audio_S: np.ndarray, on_block: Callable[[], None] = lambda: None) -> np.ndarray:
        """See SpeechDetector."""
        blocks = -(-len(audio_S) // BLOCK)
        probability_K = np.zeros(blocks)
        state, rate = np.zeros(STATE, np.float32), np.array(SAMPLE_HZ, np.int64)
        for block in range(blocks):
            start = block * BLOCK - CONTEXT
            samples = np.asarray(audio_S[max(start, 0) : start + CONTEXT + BLOCK], np.float32)
            before = max(-start, 0)
            heard = np.pad(samples, (before, CONTEXT + BLOCK - before - len(samples)))
            found, state = self._session.run(None, {"input": heard[None], "state": state, "sr": rate})
            probability_K[block] = found[0, 0]
            on_block()
        return _by_frame(probability_K, frame_count(audio_S))


def _by_frame(probability_K: np.ndarray, frames: int) -> np.ndarray:
    """The mean of the blocks that each frame overlaps, weighted by how far."""
    edges_K = np.arange(len(probability_K) + 1) * BLOCK
    edges_T = np.minimum(np.arange(frames + 1) * SAMPLES_PER_FRAME, edges_K[-1])
    heard_K = np.concatenate([[0.0], np.cumsum(probability_K * BLOCK)])
    return np.diff(np.interp(edges_T, edges_K, heard_K)) / np.diff(edges_T)


class EnergyRule:
    """Speech is what stands out of the file's own noise; for where Silero's network is not installed.

    A frame is speech (1, else 0) where its level lies ABOVE_FLOOR_DB above the file's floor and above LEAST_DB. Pauses
    up to 0.4 s are filled, bursts below 0.16 s dropped. Steady sound, however loud, is its own floor and no speech.
    Music and noises that come and go are speech to it: it cannot tell them.
    """

    name = "energy rule"

    def speech_T(self, audio_S: np.ndarray, on_block: Callable[[], None] = lambda: None) -> np.ndarray:
        """See SpeechDetector."""
        level_T = levels_db(audio_S)
        on_block()
        if not len(level_T):
            return level_T
        threshold_db = max(LEAST_DB, float(np.quantile(level_T, FLOOR_SHARE)) + ABOVE_FLOOR_DB)
        return _bridged(level_T > threshold_db).astype(np.float64)


def _bridged(active_T: np.ndarray) -> np.ndarray:
    """Runs joined over pauses up to GAP_FRAMES, those of SHORTEST_FRAMES or more."""
    bridged_T = np.zeros_like(active_T)
    places = np.flatnonzero(active_T)
    for run in np.split(places, np.flatnonzero(np.diff(places) > GAP_FRAMES + 1) + 1):
        if len(run) >= SHORTEST_FRAMES:
            bridged_T[run[0] : run[-1] + 1] = True
    return bridged_T
