"""Random numbers of a slot: a pure function of (selection digest, seed, slot, purpose)."""

from __future__ import annotations

import enum
import functools
import hashlib
from typing import Any

import numpy as np


class Purpose(enum.IntEnum):
    """What random numbers are for. Each purpose has its own stream, so a new use changes no old one."""

    ORDER = 0
    WINDOW = 1
    SOURCE = 2
    NOISE = 3
    VOICE = 4
    SYNC_WINDOW = 5
    SYNC_VOICE = 6
    IDENTITY_WINDOW = 7
    REFERENCES = 8
    SUBSTITUTE = 9
    RECORDING = 10
    DROPOUT = 11
    TIMES = 12
    WRONG_LANDMARKS = 13
    PREDICTED = 14
    READER = 15
    WIDE_MOUTHS = 16
    VOICES = 17
    PREVIOUS = 18
    SYNC_MOUTH = 19
    SYNC_LOSS = 20


def slot_random(digest: str, seed: int, slot: int, purpose: int, block: int = 0) -> np.random.Generator:
    """The generator of one slot and purpose: Philox with key (digest, seed) and counter (block, slot, purpose)."""
    return np.random.Generator(np.random.Philox(_key(digest, seed), counter=[0, block, slot, purpose]))


class _Key(np.random.bit_generator.ISeedSequence):
    """A Philox key given as a seed. The numbers are the same as with `key=`.

    With `key=`, numpy first asks the system for a seed, which costs four times as much as all the rest.
    """

    def __init__(self, key: int):
        self.words = np.array([key & (2**64 - 1), key >> 64], np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        assert (n_words, dtype) == (2, np.uint64), "what Philox asks for"
        return self.words


@functools.lru_cache(maxsize=64)
def _key(digest: str, seed: int) -> Any:  # numpy's types name no other ISeedSequence than its own
    return _Key(int.from_bytes(hashlib.blake2b(f"{digest}:{seed}".encode(), digest_size=16).digest(), "big"))
