"""Several drawn people in one room: how they are laid over it, and where their faces are then.

A sheet is (H, W, 4) uint8, blue, green, red and alpha, as in paint/portrait.py. Lengths are px of the picture.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from data_pipeline.synthetic.movement import Pose
from data_pipeline.synthetic.paint import brush, projection
from data_pipeline.synthetic.paint import scene as rooms
from data_pipeline.synthetic.paint.canvas import CENTRE, Canvas, as_bytes
from data_pipeline.synthetic.paint.face import Face
from data_pipeline.synthetic.paint.portrait import portrait
from data_pipeline.synthetic.paint.relief import relief
from data_pipeline.synthetic.person import person
from data_pipeline.synthetic.scenes.actor import PHOTOGRAPH, Actor

WIDTH, HEIGHT = 512, 320
FRAME_SHARE = 0.04  # of a photograph's side: its frame
FOREHEAD_Y = -96.0  # where a face mesh ends, px at 512


@lru_cache(maxsize=4)
def room(seed: int, identity: int) -> np.ndarray:
    """The room of a person without anybody in it, (HEIGHT, WIDTH, 3) uint8 blue green red."""
    who = person(seed, identity)
    picture = rooms.background(Canvas(WIDTH), who, np.random.default_rng(who.texture_seed))
    above = (WIDTH - HEIGHT) // 2
    return as_bytes(picture[above : above + HEIGHT])


@lru_cache(maxsize=8)
def _drawn(seed: int, identity: int, sheet_px: int) -> tuple[Face, np.ndarray]:
    who = person(seed, identity)
    return Face(who, portrait(who, sheet_px)), rooms.body(Canvas(sheet_px), who, who.texture_seed)


def enter(picture: np.ndarray, seed: int, actor: Actor, frame: int) -> None:
    """Lay a person over the picture (HEIGHT, WIDTH, 3), in place."""
    face, body = _drawn(seed, actor.role.identity, actor.role.sheet_px)
    left, top = _corner(actor, frame)
    if actor.role.does == PHOTOGRAPH:
        lay(picture, _photograph(face, actor, frame), left, top)
        return
    lay(picture, body, left, top)
    lay(picture, face.head(actor.shapes_TP[frame], actor.poses_T[frame]), left, top)


def box(actor: Actor, frame: int) -> tuple[float, float, float]:
    """Middle (x, y) and longer side of the face from forehead to chin, px; it may lie outside of the picture."""
    low, high = _bounds(actor, frame)
    return (*((low + high) / 2).tolist(), float((high - low).max()))


def inside(actor: Actor, frame: int) -> float:
    """The share of the face's area that lies in the picture."""
    low, high = _bounds(actor, frame)
    seen = np.minimum(high, [WIDTH, HEIGHT]) - np.maximum(low, 0)
    return float(np.prod(np.maximum(seen, 0)) / np.prod(high - low))


def hidden(actor: Actor, others: list[Actor], frame: int) -> float:
    """The largest share of the face's area behind the face of one of `others`, who stand in front of it."""
    low, high = _bounds(actor, frame)
    shares = [0.0]
    for other in others:
        other_low, other_high = _bounds(other, frame)
        common = np.maximum(np.minimum(high, other_high) - np.maximum(low, other_low), 0)
        shares.append(float(np.prod(common) / np.prod(high - low)))
    return max(shares)


def mouth_at(actor: Actor, frame: int) -> np.ndarray:
    """The middle of the mouth (2,), px."""
    who = actor.who
    return _shown(actor, frame, np.array([0.0]), np.array([who.mouth_y]))[0]


def _bounds(actor: Actor, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """The face's upper left and lower right corner (2,)."""
    turn = np.linspace(0, 2 * np.pi, 33)
    middle_y = (FOREHEAD_Y + actor.who.chin_y) / 2
    x, y = actor.who.half_width * np.sin(turn), middle_y + (actor.who.chin_y - middle_y) * np.cos(turn)
    at_M2 = _shown(actor, frame, x, y)
    return at_M2.min(axis=0), at_M2.max(axis=0)


def _shown(actor: Actor, frame: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where points of the head (px at 512) are in the picture, (M, 2)."""
    pose: Pose = actor.poses_T[frame]
    points_M3 = np.stack([x, y, relief(actor.who, x, y)], axis=-1)
    at_M2 = (projection.shown_at(points_M3, pose) + CENTRE) * actor.role.sheet_px / 512
    return at_M2 + _corner(actor, frame)


def _corner(actor: Actor, frame: int) -> tuple[int, int]:
    """Where the upper left corner of the sheet lies: whole px."""
    return round(actor.middle_T[frame] - actor.role.sheet_px / 2), HEIGHT - actor.role.sheet_px - actor.role.raised_px


def _photograph(face: Face, actor: Actor, frame: int) -> np.ndarray:
    """The person's portrait in its own room, framed: a sheet."""
    picture = face.frame(actor.shapes_TP[frame], actor.poses_T[frame])
    edge = round(FRAME_SHARE * len(picture))
    picture[:edge] = picture[-edge:] = picture[:, :edge] = picture[:, -edge:] = (40, 60, 80)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), np.uint8)


def lay(picture: np.ndarray, sheet: np.ndarray, left: int, top: int) -> None:
    """Lay a sheet over the picture with its upper left corner at (left, top), in place; what sticks out is cut off."""
    rows = slice(max(top, 0), min(top + len(sheet), len(picture)))
    columns = slice(max(left, 0), min(left + sheet.shape[1], picture.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        part = sheet[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        picture[rows, columns] = brush.over(part, picture[rows, columns])
