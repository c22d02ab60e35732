"""A head's pose in space: points of the head into the picture, and which of its points a picture shows.

Weak perspective: a point p = (x, y, z) of the head is shown at PIVOT + shift + scale * (R (p - PIVOT)), without its z.
R = Rz(roll) Rx(pitch) Ry(yaw). Lengths as in `person`, z towards the camera. Shape suffixes: M points, G points of a
grid along one side.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.synthetic.movement import Pose

PIVOT = np.array([0.0, 60.0, 0.0])  # about where the neck carries the head
RIM = 0.1  # width of what is hidden, in its own widths: an edge as sharp as 0 would come out in steps of the grid


def rotation(pose: Pose) -> np.ndarray:
    """R (3, 3)."""
    yaw, pitch, roll = np.radians([pose.yaw, pose.pitch, pose.roll])
    about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    about_z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_x) @ np.array(about_y)


def shown_at(points_M3: np.ndarray, pose: Pose) -> np.ndarray:
    """Where points of the head appear in the picture, (M, 2)."""
    turned_M3 = (points_M3 - PIVOT) @ rotation(pose).T
    return PIVOT[:2] + np.array([pose.x, pose.y]) + pose.scale * turned_M3[:, :2]


def upright(x: np.ndarray, y: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Points of the picture with shift, scale and roll undone."""
    across, along = (x - PIVOT[0] - pose.x) / pose.scale, (y - PIVOT[1] - pose.y) / pose.scale
    cos, sin = np.cos(np.radians(pose.roll)), np.sin(np.radians(pose.roll))
    return PIVOT[0] + across * cos + along * sin, PIVOT[1] + along * cos - across * sin


def seen_through(x_G: np.ndarray, y_G: np.ndarray, z_GG: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Which point (x, y) of the head is seen at each point of the grid (y_G, x_G), by yaw and pitch alone.

    `z_GG` is the surface over the same grid. Where it hides a part of itself, the part in front is seen and the hidden
    one is squeezed into a narrow rim: the nose covers the far cheek. Yaw moves points along rows and pitch, which comes
    after it, along columns, so each is undone by interpolation along lines.
    """
    yaw, pitch = np.radians([pose.yaw, pose.pitch])
    across_G, along_G = x_G - PIVOT[0], y_G - PIVOT[1]
    yawed_GG = _rising(across_G * np.cos(yaw) + z_GG * np.sin(yaw), across_G, yaw)
    x_GG = _along_rows(across_G, yawed_GG, across_G)
    front_GG = _along_rows(x_GG, across_G, z_GG)
    behind_GG = front_GG * np.cos(yaw) - x_GG * np.sin(yaw)
    pitched_GG = _rising((along_G[:, None] * np.cos(pitch) + behind_GG * np.sin(pitch)).T, along_G, pitch)
    y_GG = _along_rows(along_G, pitched_GG, along_G)
    x_GG = _along_rows(y_GG, along_G, x_GG.T).T
    return x_GG + PIVOT[0], y_GG.T + PIVOT[1]


def _along_rows(at: np.ndarray, from_: np.ndarray, values: np.ndarray) -> np.ndarray:
    """np.interp of every row, (G, G); rows that are all the same may be given once, (G,)."""
    at_GG, from_GG, values_GG = np.broadcast_arrays(at, from_, values)
    # One call for all: rows lie one after the other, further apart than any is long.
    apart_G1 = np.arange(len(at_GG))[:, None] * 4 * (np.abs(at).max() + np.abs(from_).max())
    found = np.interp((at_GG + apart_G1).ravel(), (from_GG + apart_G1).ravel(), values_GG.ravel())
    return found.reshape(at_GG.shape)


def _rising(moved_GG: np.ndarray, from_G: np.ndarray, towards: float) -> np.ndarray:
    """Rows made to rise by RIM px a px or more: what is turned `towards` a side hides what it overtakes."""
    above_GG = moved_GG - RIM * from_G
    if towards >= 0:
        above_GG = np.maximum.accumulate(above_GG, axis=1)
    else:
        above_GG = np.minimum.accumulate(above_GG[:, ::-1], axis=1)[:, ::-1]
    return above_GG + RIM * from_G
