"""Hands before a mouth: what of the painted crop they hide, steady over time.

Shape suffixes: F frames, H height and W width of the frame, P side of the crop, K points of a hand (21),
V corners, 2 = (x, y) px, 3 = RGB, 23 an affine matrix.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mytalk.face import crop, mediapipe_hands
from mytalk.face.landmarks import CROP_PX

AROUND_PX = CROP_PX // 2  # what is looked at beyond the crop's sides: a hand that it cuts off is not found
MARGIN_PX, SOFT_PX = 3, 6  # of the crop: around a hand's outline, and from there to where the painting shows wholly
MISSED_FRAMES = 10  # in which a hand may be missed; one that is not seen again within them is none


class Hands:
    """Takes hands before a face out of what is painted; `kept_frames` counts the frames that had any.

    `find` gives the points (21, 2) of each hand in an RGB uint8 picture, in its px.
    """

    def __init__(self, find: Callable[[np.ndarray], list[np.ndarray]]) -> None:
        self.find, self.kept_frames = find, 0

    def hidden(self, frames: Iterator[np.ndarray], crops_F23: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take a span's frames, which come next; of each what hands hide of its crop, (P, P) from 0 to 1, and itself.

        MISSED_FRAMES are taken ahead.
        """
        shown, looked_at = itertools.tee(frames)
        seen = (mask(self.in_crop(frame, crop_23)) for crop_23, frame in zip(crops_F23, looked_at))
        return zip(steady(seen), shown)

    def in_crop(self, frame_HW3: np.ndarray, crop_23: np.ndarray) -> list[np.ndarray]:
        """The points (21, 2) of each hand in and around a crop, in its px."""
        wider_23 = np.array(crop_23, np.float64)
        wider_23[:, 2] += AROUND_PX
        around_HW3 = crop.warp(frame_HW3, wider_23, CROP_PX + 2 * AROUND_PX)
        return [hand_K2 - AROUND_PX for hand_K2 in self.find(around_HW3)]

    def take_out(self, painted_PP: np.ndarray, hidden_PP: np.ndarray) -> np.ndarray:
        """The mask of a painting, of any side, without what hands hide."""
        import cv2

        if painted_PP.shape != hidden_PP.shape:
            hidden_PP = cv2.resize(hidden_PP, painted_PP.shape[::-1], interpolation=cv2.INTER_LINEAR)
        self.kept_frames += bool((painted_PP * hidden_PP).any())
        return painted_PP * (1 - hidden_PP)


def load() -> Hands | None:
    """MediaPipe's hand model, or None, which is said, where it is not installed."""
    if importlib.util.find_spec("mediapipe") is None:
        print("hands before the mouth are painted over: the model that finds them is in the extra landmarks")
        return None
    return Hands(mediapipe_hands.Hands().find)


def mask(hands: list[np.ndarray], side_px: int = CROP_PX) -> np.ndarray:
    """1 in the outline of each hand (K, 2) and MARGIN_PX around it, 0 SOFT_PX further: (side, side) float32."""
    import cv2

    if not hands:
        return np.zeros((side_px, side_px), np.float32)
    free_PP = np.full((side_px, side_px), 255, np.uint8)
    for hand_K2 in hands:
        cv2.fillConvexPoly(free_PP, np.round(mediapipe_hands.outline(hand_K2)).astype(np.int32), (0,))
    away_PP = cv2.distanceTransform(free_PP, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(1 - (away_PP - MARGIN_PX) / SOFT_PX, 0, 1).astype(np.float32)


def steady(masks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Masks (P, P) over time without single looks, gaps and flashes.

    A hand hides what it hides now, and what it hides in two masks before and after that are at most MISSED_FRAMES
    apart. It is none where no other is seen in that time. Nothing is hidden ahead of a hand that comes.
    """
    for before, now_PP, after in _windows(masks, MISSED_FRAMES):
        hidden_PP = now_PP if any(one_PP.any() for one_PP in before + after) else np.zeros_like(now_PP)
        for ago, earlier_PP in enumerate(reversed(before), 1):
            later = after[: MISSED_FRAMES - ago]
            if later and earlier_PP.any():
                hidden_PP = np.maximum(hidden_PP, np.minimum(earlier_PP, np.max(later, axis=0)))
        yield hidden_PP


def _windows(values: Iterable[Any], half: int) -> Iterator[tuple[list[Any], Any, list[Any]]]:
    """For each value up to `half` before it, itself, and up to `half` behind it; fewer at the ends."""
    beyond = object()
    window = deque([beyond] * (2 * half + 1), 2 * half + 1)
    for count, value in enumerate(itertools.chain(values, itertools.repeat(beyond, half))):
        window.append(value)
        if count >= half:
            around = list(window)
            before, after = ([one for one in part if one is not beyond] for part in (around[:half], around[half + 1 :]))
            yield before, around[half], after
