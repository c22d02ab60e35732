"""Facts of what a clip's pictures show: light, sharpness, standstill, turned heads, hands, text (list: facts.py).

How they are measured was chosen in docs/log.md (2026-11-26). Lengths in px are of the crop.
Shape suffixes: T frames, N landmarks, H height, W width, P px of a face, 2 = (x, y), 3 = RGB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mytalk.face.landmarks import OUTER_LIP, OVAL

if TYPE_CHECKING:
    from data_pipeline.shards.facts import ClipData

LOOK_EVERY_FRAMES = 10
CLIPPED = 250  # grey levels: what is as bright has lost its detail
STILL_FRAMES = 5  # a face moves within 0.2 s; a film of 12 pictures a second repeats each of them only once
STILL_CHANGE = 0.7  # grey levels, rms: codecs change a picture that stands still by less, faces that rest by more
SHRINK = 4  # pictures are compared at a quarter of their side: grain is no movement
PROFILE_DEG = 50.0  # as the mesh reads it: a drawn head at 60 degrees is read as 43 to 54
SPECTRUM_PX = 128  # side of the face whose spectrum is taken
PLAIN_CYCLES = slice(6, 13)  # every face in focus has these; what is finer is measured against them
FADED = 0.05  # share of the power that detail must have
MOUTH_REACH = (0.25, 0.15)  # of the face's side from the lips' middle: where text is looked for
EDGE_EVERY_FRAMES = 5
STAY_LOOKS = 10  # of the edges, 2 s: as long as subtitles stay
EDGE = 20.0  # grey levels a px: edges of letters are harder than those of faces


def luma(clip: ClipData) -> float:
    """Brightness of the face: its median grey, 0 (black) to 255, median over the clip."""
    return _median([float(np.median(_grey(clip.crops[t])[_inside(clip, t)])) for t in _looks(clip)])


def overexposed(clip: ClipData) -> float:
    """Share of the face without detail for brightness: two of three colours are clipped. Median over the clip."""
    shares = []
    for t in _looks(clip):
        clipped_P3 = clip.crops[t][_inside(clip, t)] >= CLIPPED
        shares.append(float((clipped_P3.sum(axis=-1) >= 2).mean()))
    return _median(shares)


def frozen(clip: ClipData) -> float:
    """Share of frames that lie in 0.2 s or more in which the picture of the face does not change."""
    import cv2

    low_2, high_2 = _face_box(clip)
    small = []
    for picture_HW3 in clip.crops:
        grey_HW = _grey(picture_HW3)[low_2[1] : high_2[1], low_2[0] : high_2[0]]
        size = (max(grey_HW.shape[1] // SHRINK, 1), max(grey_HW.shape[0] // SHRINK, 1))
        small.append(cv2.resize(grey_HW.astype(np.float32), size, interpolation=cv2.INTER_AREA))
    frozen_T = np.zeros(len(small), bool)
    for t in range(STILL_FRAMES, len(small)):
        if np.sqrt(np.square(small[t] - small[t - STILL_FRAMES]).mean()) < STILL_CHANGE:
            frozen_T[t - STILL_FRAMES : t + 1] = True
    return round(float(frozen_T.mean()), 4)


def detail_px(clip: ClipData) -> float:
    """Sharpness as a size: the side in px that a face needs to hold as much detail, at most 128. Median over the clip.

    Twice the cycles across the face at which the spectrum, times the frequency squared (even in a sharp picture: Field,
    J. Opt. Soc. Am. A, 1987), has faded. Unlike `blur` it does not grow with contrast, beards or the face's size.
    """
    return _median([2 * _resolved_cycles(_spectrum(_face(clip, t))) for t in _looks(clip)])


def profile(clip: ClipData) -> float:
    """Share of frames in which the head is turned to a side by more than 50 degrees."""
    return round(float((np.abs(clip.angles_T3[:, 0]) > PROFILE_DEG).mean()), 4)


def jump(clip: ClipData) -> float:
    """The longest step of the face's centre from a frame to the next, in face sides."""
    centre_T2, side_T = clip.face_T
    steps_T = np.linalg.norm(np.diff(centre_T2, axis=0), axis=1) / np.minimum(side_T[1:], side_T[:-1])
    return round(float(steps_T.max(initial=0.0)), 4)


def overlay(clip: ClipData) -> float | None:
    """Share of the mouth's surroundings with hard edges that stay in place for 2 s, as letters do and lips do not.

    The most in any 2 s; missing where the clip is shorter.
    """
    import cv2

    low_2, high_2 = _mouth_box(clip)
    hard = []
    for picture_HW3 in clip.crops[::EDGE_EVERY_FRAMES]:
        grey_HW = _grey(picture_HW3[low_2[1] : high_2[1], low_2[0] : high_2[0]])
        across_HW, down_HW = (cv2.Sobel(grey_HW, cv2.CV_32F, *axes) / 8 for axes in ((1, 0), (0, 1)))
        hard.append(np.hypot(across_HW, down_HW) > EDGE)
    starts = range(0, len(hard) - STAY_LOOKS + 1, STAY_LOOKS // 2)
    shares = [np.all(hard[start : start + STAY_LOOKS], axis=0).mean() for start in starts]
    return round(float(max(shares)), 4) if shares else None


def hand(clip: ClipData) -> float | None:
    """Share of the frames looked at in which a hand covers the mouth. Missing where nobody looked."""
    if clip.hands_T is None or np.isnan(clip.hands_T).all():
        return None
    return round(float(np.nanmean(clip.hands_T)), 4)


def _looks(clip: ClipData) -> range:
    return range(0, len(clip.crops), LOOK_EVERY_FRAMES)


def _median(values: list[float]) -> float:
    return round(float(np.median(values)), 4)


def _grey(picture_HW3: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2GRAY)


def _inside(clip: ClipData, frame: int) -> np.ndarray:
    """Which px lie inside the face's outline (H, W)."""
    import cv2

    height, width = clip.crops[frame].shape[:2]
    outline_V2 = np.round(clip.crop_landmarks_TN3[frame, OVAL, :2]).astype(np.int32)
    return cv2.fillConvexPoly(np.zeros((height, width), np.uint8), cv2.convexHull(outline_V2), [1]).astype(bool)


def _face_box(clip: ClipData) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of the face's median box in whole px of the crop."""
    points_TN2 = clip.crop_landmarks_TN3[..., :2]
    return _whole(clip, np.median(points_TN2.min(axis=1), axis=0), np.median(points_TN2.max(axis=1), axis=0))


def _mouth_box(clip: ClipData) -> tuple[np.ndarray, np.ndarray]:
    """The same of the mouth's surroundings."""
    points_TN2 = clip.crop_landmarks_TN3[..., :2]
    middle_2 = np.median(points_TN2[:, OUTER_LIP].mean(axis=1), axis=0)
    reach_2 = np.median(np.ptp(points_TN2, axis=1).max(axis=-1)) * np.array(MOUTH_REACH)
    return _whole(clip, middle_2 - reach_2, middle_2 + reach_2)


def _whole(clip: ClipData, low_2: np.ndarray, high_2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A box of at least one px in whole px inside the crop."""
    height, width = clip.crops[0].shape[:2]
    low = np.clip(np.floor(low_2).astype(int), 0, [width - 1, height - 1])
    return low, np.clip(np.ceil(high_2).astype(int), low + 1, [width, height])


def _face(clip: ClipData, frame: int) -> np.ndarray:
    """The grey square around the face at one size, float (SPECTRUM_PX, SPECTRUM_PX)."""
    from mytalk.face import crop

    points_N2 = clip.crop_landmarks_TN3[frame, :, :2]
    low_2, high_2 = points_N2.min(axis=0), points_N2.max(axis=0)
    scale = SPECTRUM_PX / max(float((high_2 - low_2).max()), 1.0)
    shift_2 = SPECTRUM_PX / 2 - scale * (low_2 + high_2) / 2
    matrix_23 = np.array([[scale, 0, shift_2[0]], [0, scale, shift_2[1]]])
    return _grey(crop.warp(clip.crops[frame], matrix_23, SPECTRUM_PX)).astype(float)


def _spectrum(grey_HH: np.ndarray) -> np.ndarray:
    """Mean power at each whole number of cycles across a square picture, 0 up to half its side."""
    window = np.hanning(len(grey_HH))
    window_HH = np.outer(window, window)
    mean = (grey_HH * window_HH).sum() / window_HH.sum()
    power_HH = np.abs(np.fft.fft2((grey_HH - mean) * window_HH)) ** 2
    along = np.fft.fftfreq(len(grey_HH), 1 / len(grey_HH))
    ring_HH = np.hypot(along[:, None], along).round().astype(int)
    power = np.bincount(ring_HH.ravel(), power_HH.ravel()) / np.bincount(ring_HH.ravel())
    return power[: len(grey_HH) // 2]


def _resolved_cycles(power: np.ndarray) -> float:
    """The frequency at which even power has faded to a share FADED of that of PLAIN_CYCLES, cycles across the face."""
    even = power * np.arange(len(power)) ** 2.0
    limit = FADED * even[PLAIN_CYCLES].mean()
    even = np.convolve(np.pad(even, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    faded = np.flatnonzero(even[PLAIN_CYCLES.stop - 1 :] <= limit)
    if not len(faded):
        return float(len(power))
    after = PLAIN_CYCLES.stop - 1 + int(faded[0])
    if limit <= 0 or even[after] <= 0:
        return float(after)
    above, below = np.log(even[after - 1 : after + 1])
    return after - 1 + float(np.clip((above - np.log(limit)) / max(above - below, 1e-9), 0.0, 1.0))
