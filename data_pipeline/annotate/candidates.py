"""Which of all pairs of clips may be copies, without comparing all: those that share codes at one shift in time.

A hash of sound is a pair of peaks of the spectrum. There are half a million of them, so in a large corpus each is in
many clips; two that begin at one peak make a code of three peaks, of which there are a thousand million. Like voices
share many codes at one moment, where their harmonics meet; copies share them at many moments, all at the same shift.

Shape suffixes: P hashes, C codes, K what two clips share, n clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

AHEAD = 2  # each pair of peaks makes codes with so many of the next ones that begin at the same peak
NEIGHBOURS, RARE = 4, 16  # of clips with one code, each is paired with so many; one that more clips have makes a chain
BLOCK = 1 << 22  # codes that are sorted at once: some 300 MB
CLIPS = 512  # whose codes are made at once
SHIFT, MOMENT = 4, 16  # hops of 16 ms: shifts that count as one, and moments
SHIFT_BITS, MOMENT_BITS = 10, 6
Codes = tuple[np.ndarray, np.ndarray, np.ndarray]  # a code of 32 bits, its clip, its time in hops: (C,) each


def by_sound(
    hash_P: np.ndarray, time_P: np.ndarray, start_n: np.ndarray, source_n: np.ndarray, least: int
) -> np.ndarray:
    """Pairs of clips of different sources that share codes at `least` moments, (K, 2), the smaller number first.

    `start_n`: where the hashes of each clip begin, and the end; clips hold theirs in order of time.
    """
    parts = max(1, -(-AHEAD * len(hash_P) // BLOCK))
    return sharing((_codes(hash_P, time_P, start_n, part, parts) for part in range(parts)), source_n, least)


def _codes(hash_P: np.ndarray, time_P: np.ndarray, start_n: np.ndarray, part: int, parts: int) -> Codes:
    """One part of the codes of all clips, of 31 bits."""
    pieces: list[Codes] = []
    for first in range(0, len(start_n) - 1, CLIPS):
        bounds = start_n[first : first + CLIPS + 1]
        of = slice(bounds[0], bounds[-1])
        clip_P = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        # clip, time and frequency of the first peak, then frequency and distance of the second
        anchored_P = np.sort(clip_P << 40 | time_P[of].astype(np.int64) << 24 | hash_P[of])
        for ahead in range(1, AHEAD + 1):
            one_C, other_C = anchored_P[:-ahead], anchored_P[ahead:]
            same_C = one_C >> 16 == other_C >> 16
            one_C, other_C = one_C[same_C], other_C[same_C]
            code_C = (one_C >> 16 & 0x7F) << 24 | _peak(one_C) << 12 | _peak(other_C)
            one_C, code_C = (values[code_C % parts == part] for values in (one_C, code_C))
            pieces.append((code_C, (one_C >> 40) + first, one_C >> 24 & 0xFFFF))
    code_C, clip_C, time_C = map(np.concatenate, zip(*pieces))
    return code_C, clip_C, time_C


def _peak(hash_C: np.ndarray) -> np.ndarray:
    """Frequency and distance in time of a hash's second peak, 12 bits."""
    return (hash_C >> 8 & 0x7F) << 5 | hash_C & 0x1F


def sharing(blocks: Iterable[Codes], source_n: np.ndarray, least: int) -> np.ndarray:
    """Pairs of clips of different sources that share codes at `least` moments at one shift, (K, 2), smaller first.

    A code of one block is another than the same number in the next. In memory are one block, and 8 bytes for each
    moment at which two clips share one.
    """
    key_K = np.zeros(0, np.int64)
    for block in blocks:
        key_K = np.unique(np.concatenate([key_K, *_together(block, source_n)]))
    shift_K, moments_K = np.unique(key_K >> MOMENT_BITS, return_counts=True)
    pair_K = np.unique(shift_K[moments_K >= least] >> SHIFT_BITS)
    return np.stack(np.divmod(pair_K, len(source_n)), axis=1)


def _together(block: Codes, source_n: np.ndarray) -> Iterator[np.ndarray]:
    """What clips of different sources share, a number each: pair (first * clips + second), shift, moment."""
    code_C, clip_C, time_C = block
    order_C = np.argsort(code_C << 31 | clip_C, kind="stable")
    code_C, clip_C, time_C = (values[order_C] for values in block)
    first = np.flatnonzero(np.diff(code_C, prepend=-1))
    often = np.diff(first, append=len(code_C))
    often_C = np.repeat(often, often)
    for apart in range(1, NEIGHBOURS + 1):
        one_C, other_C = clip_C[:-apart], clip_C[apart:]
        same_C = (code_C[:-apart] == code_C[apart:]) & (source_n[one_C] != source_n[other_C])
        if apart > 1:
            same_C &= often_C[apart:] <= RARE
        pair_K = one_C[same_C] * len(source_n) + other_C[same_C]
        shift_K = (time_C[apart:] - time_C[:-apart])[same_C] // SHIFT % (1 << SHIFT_BITS)
        moment_K = time_C[:-apart][same_C] // MOMENT % (1 << MOMENT_BITS)
        yield (pair_K << SHIFT_BITS | shift_K) << MOMENT_BITS | moment_K
