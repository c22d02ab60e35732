"""The 478 points of the face mesh: which of them speech moves, and what is measured on them.

Axes: x to the right, y down, z away from the camera, all in crop pixels; z is relative: its zero is somewhere in the
head. "Left" and "right" are the image's.

Shape suffixes: B batch, T frames, N landmarks (478), K noised landmarks, 2 = (x, y), 3 = (x, y, z).
"""

from __future__ import annotations

import numpy as np

from mytalk.machine import zeros

COUNT = 478  # 468 mesh points + 5 for each iris
CROP_PX = 256  # side of the canonical crop; every distance in px is at this size
PICTURES_PX = (
    CROP_PX,
    2 * CROP_PX,
)  # sides that the pictures of a crop may have; px of landmarks stay
FRAME_HZ = 25
SAMPLE_HZ = 16_000
SAMPLES_PER_FRAME = SAMPLE_HZ // FRAME_HZ  # 640

# Lip rings in drawing order, from the image-left corner over the upper lip, back along the lower lip.
OUTER_LIP = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
INNER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
MOUTH = sorted(OUTER_LIP + INNER_LIP)

# Face contour from the top of the forehead, clockwise as seen in the image.
OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152]
OVAL += [148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]

# Pairs (upper, lower) on the inner lips whose mean distance is the mouth opening.
INNER_LIP_PAIRS = [(82, 87), (13, 14), (312, 317)]
FOREHEAD_TOP, CHIN = 10, 152

# Points that neither speech nor blinking moves: the head's pose is read off these alone, so that no
# trace of the mouth enters it. Nose bridge, eye corners, temples, forehead.
RIGID = [6, 8, 9, 10, 33, 67, 103, 109, 127, 133, 151, 168, 197, 263, 297, 332, 338, 356, 362, 389, 162]
RIGID = sorted(RIGID)


def opening(landmarks_TN: np.ndarray) -> np.ndarray:
    """Mouth opening per frame as seen in the picture, px: mean distance of three pairs on the inner lips in x and y.

    (..., N, 2 or 3) -> (...).
    """
    points = np.asarray(landmarks_TN, dtype=np.float32)[..., :2]
    upper = points[..., [a for a, _ in INNER_LIP_PAIRS], :]
    lower = points[..., [b for _, b in INNER_LIP_PAIRS], :]
    return np.linalg.norm(upper - lower, axis=-1).mean(axis=-1)


def face_height(landmarks_TN: np.ndarray) -> np.ndarray:
    """Distance from the top of the forehead to the chin in x and y per frame, px. (..., N, 2 or 3) -> (...)."""
    points = np.asarray(landmarks_TN, dtype=np.float32)[..., :2]
    return np.linalg.norm(points[..., FOREHEAD_TOP, :] - points[..., CHIN, :], axis=-1)


def _indices(ranges: str) -> list[int]:
    """`"0-2 11 13-15"` as a list of ints."""
    out: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        out += range(int(first), int(last or first) + 1)
    return out


# The noised side of partial noising (paper, Sec. 3.2): every point level with the nose tip or lower, jaw
# and cheek contour included, since those move with speech and would leak the original mouth. Chosen by
# height on an upright face and made symmetric.
NOISED = _indices(
    "0-2 11-20 32 37-44 48 57-62 64 72-99 102 106 125 129 132 135-136 138 140-141 146-150 152 164-167 "
    "169-172 175-187 191-192 194 199-208 210-216 218-219 235 237-242 250 262 267-274 278 287-292 294 "
    "302-328 331 335 354 358 361 364-365 367 369-370 375-379 391-397 400-411 415-416 418 421-428 430-436 "
    "438-439 455 457-462"
)
CLEAN = sorted(set(range(COUNT)) - set(NOISED))


def without_mouth(landmarks_TN3: np.ndarray) -> np.ndarray:
    """A copy whose noised points all lie at 0, so that no mistake in a model can reveal the true mouth."""
    erased = zeros(landmarks_TN3.shape, landmarks_TN3.dtype)
    erased[:] = landmarks_TN3
    erased[:, NOISED] = 0.0
    return erased
