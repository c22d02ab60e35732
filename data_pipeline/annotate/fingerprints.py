"""Fingerprints of a clip's sound and pictures that survive re-encoding, scaling, mirroring and trimming.

Sound: pairs of peaks of the spectrogram, after Wang, "An industrial-strength audio search algorithm" (ISMIR 2003).
Pictures: signs of the horizontal differences of the mean crop, 256 bits, and of its mirror image (a perceptual hash);
and how lips and eyes move, which no mirror changes.

Shape suffixes: S audio samples (16 kHz), M times, F frequencies, P peaks, T frames, N landmarks, H height, W width.
"""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import opening

SILENT_PEAK = 1e-3  # of full scale: what is nowhere louder has no peaks
FFT, HOP = 1024, 256  # samples: 64 and 16 ms
LOWEST_BIN, HIGHEST_BIN = 8, 256  # 125 Hz to 4 kHz
AROUND_TIMES, AROUND_BINS = 4, 6  # a peak is the largest so far around it
BELOW_LOUDEST_DB = 30.0
PAIRED, LEAST_APART, MOST_APART = 8, 2, 63  # each peak with so many of the next ones, so many hops apart
SIDE = 16  # of the perceptual hash
EYES = ((159, 145), (386, 374))  # upper and lower lid of either eye
CORNERS = (61, 291)


def sound(audio_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of pairs of spectral peaks, uint32, and the hop at which each begins, uint16, in order of time."""
    from scipy.ndimage import maximum_filter

    if len(audio_S) < FFT or np.abs(audio_S).max() < SILENT_PEAK:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint16)
    windows_MS = np.lib.stride_tricks.sliding_window_view(audio_S, FFT)[::HOP]
    level_MF = 20 * np.log10(np.abs(np.fft.rfft(windows_MS * np.hanning(FFT).astype(np.float32))) + 1e-6)
    level_MF = level_MF[:, LOWEST_BIN:HIGHEST_BIN]
    around_MF = maximum_filter(level_MF, (2 * AROUND_TIMES + 1, 2 * AROUND_BINS + 1))
    time_P, bin_P = np.nonzero((level_MF == around_MF) & (level_MF > level_MF.max() - BELOW_LOUDEST_DB))
    hashes, times = [], []
    for ahead in range(1, PAIRED + 1):
        apart_P = time_P[ahead:] - time_P[:-ahead]
        near_P = (apart_P >= LEAST_APART) & (apart_P <= MOST_APART)
        first_P, second_P = bin_P[:-ahead][near_P], bin_P[ahead:][near_P]
        hashes.append(first_P // 2 << 16 | second_P // 2 << 8 | apart_P[near_P] // 2)
        times.append(time_P[:-ahead][near_P])
    time = np.concatenate(times)
    order = np.argsort(time, kind="stable")
    return np.concatenate(hashes)[order].astype(np.uint32), np.minimum(time[order], 65535).astype(np.uint16)


def picture(mean_HW3: np.ndarray) -> tuple[bytes, bytes]:
    """The perceptual hash of a picture and of its mirror image, 32 bytes each."""
    import cv2

    grey_HW = cv2.cvtColor(mean_HW3.astype(np.uint8), cv2.COLOR_RGB2GRAY)
    small_HW = cv2.resize(grey_HW, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return _bits(small_HW), _bits(small_HW[:, ::-1])


def _bits(small_HW: np.ndarray) -> bytes:
    return np.packbits(np.diff(small_HW, axis=1) > 0).tobytes()


def unlike(one: bytes, other: bytes, mirrored: bytes) -> float:
    """Share of the bits of a picture's hash in which it differs from another, or from that one's mirror image."""
    own = np.frombuffer(one, np.uint8)
    bits = [np.unpackbits(own ^ np.frombuffer(held, np.uint8)).mean() for held in (other, mirrored)]
    return float(min(bits))


def movement(landmarks_TN3: np.ndarray) -> np.ndarray:
    """How far lips are open, how wide, and how far the eyes are open, in each frame: (T, 3) px."""
    corners_TN2 = landmarks_TN3[:, CORNERS, :2]
    width_T = np.linalg.norm(corners_TN2[:, 0] - corners_TN2[:, 1], axis=-1)
    lids_T = np.mean(
        [np.linalg.norm(landmarks_TN3[:, a, :2] - landmarks_TN3[:, b, :2], axis=-1) for a, b in EYES], axis=0
    )
    return np.stack([opening(landmarks_TN3), width_T, lids_T], axis=-1)


def alike_sound(
    hash_P: np.ndarray, time_P: np.ndarray, other_hash_P: np.ndarray, other_time_P: np.ndarray
) -> tuple[int, float]:
    """How many hashes two sounds share at one shift in time, and what share that is of those where both are."""
    order = np.argsort(other_hash_P, kind="stable")
    sorted_P = other_hash_P[order]
    low, high = np.searchsorted(sorted_P, hash_P, "left"), np.searchsorted(sorted_P, hash_P, "right")
    count_P = high - low
    place = np.repeat(low - np.cumsum(count_P) + count_P, count_P) + np.arange(count_P.sum())
    shift = other_time_P[order[place]].astype(np.int64) - np.repeat(time_P, count_P)
    if not len(shift):
        return 0, 0.0
    counts = np.bincount(shift - shift.min())
    near = counts[:-1] + counts[1:] if len(counts) > 1 else counts  # a trim is no whole number of hops
    count, best = int(near.max()), int(near.argmax()) + int(shift.min())
    there = [
        int(((times.astype(np.int64) + by >= 0) & (times.astype(np.int64) + by <= last)).sum())
        for times, by, last in ((time_P, best, int(other_time_P.max())), (other_time_P, -best, int(time_P.max())))
    ]
    return count, count / max(min(there), 1)


def alike_movement(one_T3: np.ndarray, other_T3: np.ndarray, least_frames: int) -> float:
    """The mean correlation of two movements at the shift where it is largest; -1 where they are too short."""
    best = -1.0
    for shift in range(least_frames - len(one_T3), len(other_T3) - least_frames + 1):
        first, second = max(0, -shift), max(0, shift)
        count = min(len(one_T3) - first, len(other_T3) - second)
        if count < least_frames:
            continue
        a_T3, b_T3 = one_T3[first : first + count], other_T3[second : second + count]
        a_T3, b_T3 = a_T3 - a_T3.mean(0), b_T3 - b_T3.mean(0)
        norms_3 = np.linalg.norm(a_T3, axis=0) * np.linalg.norm(b_T3, axis=0)
        best = max(best, float(((a_T3 * b_T3).sum(0) / np.maximum(norms_3, 1e-9)).mean()))
    return best
