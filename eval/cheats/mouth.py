"""A real mouth made to open further, less or not at all, by a warp of the picture.

The lips' own points are moved along the face's down axis; a thin-plate spline carries the skin between them and what
stands still around them (nose, cheeks, border of a box). A warp shows no tongue or teeth that the clip does not show:
it is meant for the eyes of landmarks, not of viewers.

Shape suffixes: T frames, H height, W width, 3 = RGB, N landmarks (478), 2 = (x, y) px, C control points.
"""

from __future__ import annotations

import numpy as np

from mytalk.face.landmarks import CHIN, FOREHEAD_TOP, INNER_LIP, OUTER_LIP, opening

LIPS = 20  # points of a ring; the i-th of the upper lip stands over the (LIPS - i)-th of the lower
UPPER_SHARE = 0.2  # of the way by which lips part, that the upper lip takes
CHIN_SHARE = 0.5  # of the way, that the chin goes along
LEAST_GAP_PX = 0.8  # lips that met would fold the picture
NOSE, CHEEKS = (2, 97, 326, 98, 327), (50, 280, 205, 425)
JAW = (CHIN, 148, 377, 176, 400)
GRID_PX = 3
MARGIN = 0.75  # of the mouth's width, around lips and chin, that the warp may touch


def reopened(frames_THW3: np.ndarray, landmarks_TN3: np.ndarray, wanted_T: np.ndarray) -> np.ndarray:
    """The frames with the mouth opened `wanted_T` px (as `opening` measures it), (T, H, W, 3) uint8."""
    points_TN2 = np.asarray(landmarks_TN3, np.float64)[..., :2]
    own_T = opening(landmarks_TN3).astype(np.float64)
    parted_T = np.maximum(wanted_T, LEAST_GAP_PX) - own_T
    return np.stack([_warped(*frame) for frame in zip(frames_THW3, points_TN2, parted_T, strict=True)])


def _warped(frame_HW3: np.ndarray, points_N2: np.ndarray, parted_px: float) -> np.ndarray:
    """One frame, its lips further apart by `parted_px` in the middle."""
    import cv2
    from scipy.interpolate import RBFInterpolator

    rows, columns = _box(points_N2, frame_HW3.shape[:2])
    y_Y, x_X = (np.arange(side.start, side.stop + GRID_PX, GRID_PX, dtype=np.float64) for side in (rows, columns))
    before_C2, after_C2 = _controls(points_N2, parted_px, (y_Y, x_X))
    spline = RBFInterpolator(after_C2, before_C2 - after_C2, kernel="thin_plate_spline", smoothing=1e-3)
    grid_YX2 = np.stack(np.meshgrid(x_X, y_Y), -1)
    source_YX2 = (grid_YX2 + spline(grid_YX2.reshape(-1, 2)).reshape(grid_YX2.shape)).astype(np.float32)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    at_y, at_x = np.mgrid[:height, :width].astype(np.float32) / GRID_PX
    map_x, map_y = (cv2.remap(source_YX2[..., axis], at_x, at_y, cv2.INTER_LINEAR) for axis in (0, 1))
    made_HW3 = frame_HW3.copy()
    made_HW3[rows, columns] = cv2.remap(frame_HW3, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return made_HW3


def _controls(
    points_N2: np.ndarray, parted_px: float, grid: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Points of the picture before and after, (C, 2) each."""
    down_2 = points_N2[CHIN] - points_N2[FOREHEAD_TOP]
    down_2 = down_2 / np.linalg.norm(down_2)
    way_by_point: dict[int, float] = dict.fromkeys((*NOSE, *CHEEKS), 0.0)
    for ring in (INNER_LIP, OUTER_LIP):
        for place in range(LIPS // 2 + 1):
            way = parted_px * float(np.sin(np.pi * place / (LIPS // 2))) ** 0.5
            way_by_point[ring[place]] = -UPPER_SHARE * way
            if 0 < place < LIPS // 2:
                way_by_point[ring[LIPS - place]] = (1 - UPPER_SHARE) * way
    way_by_point |= dict.fromkeys(JAW, CHIN_SHARE * parted_px)
    before_C2 = points_N2[list(way_by_point)]
    after_C2 = before_C2 + np.array(list(way_by_point.values()))[:, None] * down_2
    y_Y, x_X = grid
    border = [(x, y) for y in y_Y[[0, -1]] for x in x_X[::5]] + [(x, y) for x in x_X[[0, -1]] for y in y_Y[::5]]
    still_C2 = np.unique(np.array(border), axis=0)
    return np.concatenate([before_C2, still_C2]), np.concatenate([after_C2, still_C2])


def _box(points_N2: np.ndarray, size: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns that a warp may touch: lips and chin with a margin."""
    touched_M2 = points_N2[[*OUTER_LIP, *JAW]]
    low_2, high_2 = touched_M2.min(axis=0), touched_M2.max(axis=0)
    margin_px = MARGIN * np.linalg.norm(points_N2[OUTER_LIP[0]] - points_N2[OUTER_LIP[LIPS // 2]])
    low_2 = np.clip(np.floor(low_2 - margin_px), 0, np.array(size[::-1]) - 2).astype(int)
    high_2 = np.clip(np.ceil(high_2 + margin_px), low_2 + 2, np.array(size[::-1])).astype(int)
    return slice(low_2[1], high_2[1]), slice(low_2[0], high_2[0])
