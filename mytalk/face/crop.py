"""The canonical crop: one fixed square box per clip, in which the head moves.

The same crop serves extraction, training, dubbing and scoring. A box that followed the face in every frame
would carry the mouth's motion (the chin moves the box) into the landmarks; a fixed one cannot.

It hangs on the forehead, the eyes and the nose bridge, never on mouth or chin. So does the slow path of crops with
which dubbing follows a speaker who walks or comes nearer in one shot.

A crop is a 2 x 3 affine map from source px to crop px (scale and shift, no rotation). Coordinates are
areas: 0 is a picture's left or top edge, its width or height the other; OpenCV, which counts pixel
centres, is half a pixel off and converted to in `warp`.

Shape suffixes: T frames, N landmarks, 2 = (x, y), 3 = (x, y, z), 23 the affine matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mytalk.face.landmarks import CROP_PX
from mytalk.machine import most_threads

if TYPE_CHECKING:
    from mytalk.face import pose

MARGIN = 1.5  # side of the crop / side of the face
FACE_CENTRE = (0.0, 62.0, 4.0)  # middle of the box around a mean face, px in the head's frame (27 people)
LOOSE = 1.2  # a fixed crop may be so much larger than that, and a face reach so far beyond it; else the crop follows
MOST_ZOOM = 1.3  # of the face in a fixed crop
BLOCK_FRAMES = 500  # that are in memory as float64 at a time
FOLLOW_S = 0.3  # sigma of the Gaussian that smooths the path of a crop that follows
FACE_SIDE_PX = 210.0  # its side there: with a standard deviation of 12 between people


@most_threads(1)
def head_poses(landmarks_TN3: np.ndarray) -> pose.Pose:
    """How a mean head stands in each frame by its rigid points, in the px of the landmarks: float64, a batch of one."""
    import torch

    from mytalk.face import pose

    rigid_1R3 = pose.MEAN_RIGID_R3[None]
    blocks = [
        pose.fit(torch.from_numpy(landmarks_TN3[start : start + BLOCK_FRAMES].astype(np.float64))[None], rigid_1R3)
        for start in range(0, len(landmarks_TN3), BLOCK_FRAMES)
    ]
    scales, rotations, shifts = zip(*((one.scale_BT, one.rotation_BT33, one.shift_BT3) for one in blocks))
    return pose.Pose(torch.cat(scales, 1), torch.cat(rotations, 1), torch.cat(shifts, 1))


def faces(posed: pose.Pose) -> tuple[np.ndarray, np.ndarray]:
    """Where the face is in each frame and how large, whatever the mouth does: centres (T, 2) and sides (T,), px."""
    import torch

    x, y, z = FACE_CENTRE
    centre_2 = torch.tensor([x, y], dtype=torch.float64).expand(1, posed.scale_BT.shape[1], 1, 2)
    centre_T2 = posed.to_crop(centre_2, torch.tensor([[z]], dtype=torch.float64))[0, :, 0, :2]
    return centre_T2.numpy(), FACE_SIDE_PX * posed.scale_BT[0].numpy()


def canonical(landmarks_TN3: np.ndarray, size_px: int = CROP_PX) -> np.ndarray:
    """The clip's crop as a float64 (2, 3) matrix, from its landmarks in source px.

    Centre: the median over the frames, so single bad frames do not move it. Side: MARGIN times the median face, or more
    where the head moves so far that nine in ten of the faces would not fit.
    """
    return box(*_canonical(*faces(head_poses(landmarks_TN3))), size_px)


def path(landmarks_TN3: np.ndarray, fps: float) -> np.ndarray:
    """The crop of every frame of a shot, from its landmarks in source px: float64 (T, 2, 3).

    It is `canonical` in all frames where that holds the face, not much smaller than it could be. Where the face goes
    further or changes its size, centre and side are smooth functions of time: every face is wholly in its crop, which
    is no larger than it must be for half a second around.
    """
    centre_T2, side_T = faces(head_poses(landmarks_TN3))
    centre_2, side_px = _canonical(centre_T2, side_T)
    reach_T = np.abs(centre_T2 - centre_2).max(axis=1) + side_T / 2
    least, most = np.quantile(side_T, [0.05, 0.95])
    fits = 2 * np.quantile(reach_T, 0.99) <= LOOSE * side_px and most <= MOST_ZOOM * least
    if fits and side_px <= LOOSE * MARGIN * np.median(side_T):
        return np.broadcast_to(box(centre_2, side_px), (len(side_T), 2, 3))
    weights = _gaussian(FOLLOW_S * fps)
    path_T2 = np.stack([_smoothed(values_T, weights) for values_T in centre_T2.T], axis=-1)
    reach_T = np.abs(centre_T2 - path_T2).max(axis=1) + side_T / 2
    needed_T = np.maximum(MARGIN * side_T, 2 * reach_T)
    half = len(weights) // 2
    around_TW = np.lib.stride_tricks.sliding_window_view(np.pad(needed_T, 2 * half, "edge"), len(weights))
    sides_T = np.convolve(around_TW.max(axis=1), weights, "valid")  # a mean of values that are all large enough
    return np.stack([box(*one) for one in zip(path_T2, sides_T)])


def box(centre_2: np.ndarray, side_px: float, size_px: int = CROP_PX) -> np.ndarray:
    """The crop of a square in source px: float64 (2, 3)."""
    scale = size_px / side_px
    shift_2 = size_px / 2 - scale * centre_2
    return np.array([[scale, 0, shift_2[0]], [0, scale, shift_2[1]]])


def _canonical(centre_T2: np.ndarray, side_T: np.ndarray) -> tuple[np.ndarray, float]:
    centre_2 = np.median(centre_T2, axis=0)
    reach_T = np.abs(centre_T2 - centre_2).max(axis=1) + side_T / 2
    return centre_2, max(MARGIN * float(np.median(side_T)), 2 * float(np.quantile(reach_T, 0.9)))


def _gaussian(sigma: float) -> np.ndarray:
    """Weights of a Gaussian that ends at two sigma, their sum 1."""
    half = max(round(2 * sigma), 1)
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def _smoothed(values_T: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A weighted mean over time. Beyond its ends a path goes on in the same direction (odd reflection)."""
    half = len(weights) // 2
    return np.convolve(np.pad(values_T, half, "reflect", reflect_type="odd"), weights, "valid")


def apply(points: np.ndarray, crop_23: np.ndarray) -> np.ndarray:
    """Points (..., 2) or (..., 3) through the map, float32. A depth is scaled as x and y are."""
    matrix, points = np.asarray(crop_23, np.float64), np.asarray(points, np.float64)
    moved = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    deep = points[..., 2:] * np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return np.concatenate([moved, deep], axis=-1).astype(np.float32)


def apply_each(points_TN3: np.ndarray, crops_T23: np.ndarray) -> np.ndarray:
    """The points of every frame through its own map: (T, N, 3) float32."""
    return np.stack([apply(points_N3, crop_23) for points_N3, crop_23 in zip(points_TN3, crops_T23, strict=True)])


def scale(crop_23: np.ndarray) -> float:
    """Px of the crop for a px of the source."""
    return float(np.sqrt(abs(np.linalg.det(np.asarray(crop_23, np.float64)[:, :2]))))


def invert(crop_23: np.ndarray) -> np.ndarray:
    """The map back, from crop px to source px: (2, 3)."""
    matrix = np.asarray(crop_23, np.float64)
    back = np.linalg.inv(matrix[:, :2])
    return np.hstack([back, -back @ matrix[:, 2:]])


def picture(frame: np.ndarray, crop_23: np.ndarray, side_px: int) -> np.ndarray:
    """`warp` of a crop of CROP_PX, as a picture of another side."""
    return warp(frame, np.asarray(crop_23, np.float64) * (side_px / CROP_PX), side_px)


def reduced(picture_PP3: np.ndarray, side_px: int) -> np.ndarray:
    """A square picture with a side of at most `side_px`, by area mean; a smaller one as it is."""
    import cv2

    if len(picture_PP3) <= side_px:
        return picture_PP3
    return np.asarray(cv2.resize(picture_PP3, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)


def warp(frame: np.ndarray, crop_23: np.ndarray, size_px: int = CROP_PX) -> np.ndarray:
    """The crop of a uint8 (H, W, 3) frame as (size_px, size_px, 3); beyond its border, the border's colour.

    A face larger than twice the crop is first shrunk by a whole number with area averaging, since bilinear
    sampling alone would alias there.
    """
    import cv2

    matrix = np.array(crop_23, np.float64)
    shrink = int(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    height, width = frame.shape[:2]
    if shrink > 1 and min(height, width) >= shrink:
        small = (width // shrink, height // shrink)
        frame = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        matrix[:, :2] *= [width / small[0], height / small[1]]
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # from edges to OpenCV's pixel centres
    return cv2.warpAffine(frame, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
