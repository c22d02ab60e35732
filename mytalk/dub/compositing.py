"""The second pass of dubbing: painted faces are blended into their frames.

Shape suffixes: F frames of a span, B batch, N landmarks, V corners, H height and W width of the frame, P side of
the crop, 3 = RGB or (x, y, z), 2 = (x, y) in crop px, 23 an affine matrix.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mytalk import machine, media
from mytalk.ahead import ahead, together
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX
from mytalk.networks.appearance.inputs import RIM_PX

if TYPE_CHECKING:
    from mytalk.dub.hands import Hands
    from mytalk.networks.appearance.painter import Painter

BATCH_FRAMES = 8
MOST_THREADS = 4  # that paint; each holds a batch
DECODED_FRAMES = 4  # that are read ahead


@dataclass(frozen=True)
class Layer:
    """What is painted over a video of one person: spans in order, and their landmarks (F, N, 3) and regions (F, V, 2).

    No frame is in two of its spans. `strengths` are (F,), 1 where the painting is shown, 0 where the frame is.
    """

    spans: list[FaceSpan]
    landmarks: list[np.ndarray]
    regions: list[np.ndarray]
    strengths: list[np.ndarray]
    painter: Painter


def dubbed_frames(
    faces: FirstPass,
    layers: list[Layer],
    on_frame: Callable[[], None],
    hands: Hands | None = None,
) -> Iterator[np.ndarray]:
    """Every frame of the video in order: the frames of spans painted, the others unchanged.

    Each layer is painted over those before it, and none over the hands that `hands` finds. Raises MediaError and
    OSError.
    """
    frames = ahead(media.read_frames(faces.video, faces.fps, stop=faces.frames), DECODED_FRAMES)
    for layer in layers:
        frames = with_layer(frames, layer, hands, _threads(layer.painter))
    for frame in frames:
        yield frame
        on_frame()


def with_layer(
    frames: Iterator[np.ndarray], layer: Layer, hands: Hands | None = None, threads: int = 1
) -> Iterator[np.ndarray]:
    """A video's frames with one person painted."""
    position = 0
    of_spans = zip(layer.spans, layer.landmarks, layer.regions, layer.strengths, strict=True)
    for span, new_FN3, regions_FV2, strength_F in of_spans:
        yield from itertools.islice(frames, span.start - position)
        several, more = [new_FN3], (regions_FV2, strength_F, layer.painter, hands, threads)
        yield from (frame for [frame] in painted_each(frames, span, several, *more))
        position = span.stop
    yield from frames


def painted_each(
    frames: Iterator[np.ndarray],
    span: FaceSpan,
    several: Sequence[np.ndarray],
    regions_FV2: np.ndarray,
    strength_F: np.ndarray,
    painter: Painter,
    hands: Hands | None = None,
    threads: int = 1,
) -> Iterator[list[np.ndarray]]:
    """Take the span's frames, which come next, and paint each with every one of `several` landmarks (F, N, 3).

    What `hands` finds is not painted over. So many batches are painted at a time, each in its thread.
    """
    looked_at = zip(itertools.repeat(None), frames) if hands is None else hands.hidden(frames, span.crops_F23)
    starts = range(0, len(regions_FV2), BATCH_FRAMES)
    batches = ((start, list(itertools.islice(looked_at, len(regions_FV2[_batch(start)])))) for start in starts)
    last: list[np.ndarray] | None = None

    def paint(one: tuple[int, list[tuple[Any, np.ndarray]]]):
        nonlocal last
        start, looked = one
        crops_BPP3 = np.stack(
            [
                crop.picture(frame, crop_23, painter.side_px)
                for (_, frame), crop_23 in zip(looked, span.crops_F23[start:])
            ]
        )
        painted, mask_BPP = painter.paint_each(
            crops_BPP3, several, regions_FV2[_batch(start)], start, last if threads == 1 else None
        )
        last = [one_BPP3[-1] for one_BPP3 in painted]
        return start, looked, painted, mask_BPP * strength_F[_batch(start)][:, None, None]

    for start, looked, painted, mask_BPP in together(paint, batches, threads):
        for place, (hidden_PP, frame) in enumerate(looked):
            mask_PP = mask_BPP[place] if hands is None else hands.take_out(mask_BPP[place], hidden_PP)
            yield [paste(frame, one_BPP3[place], mask_PP, span.crops_F23[start + place]) for one_BPP3 in painted]


def _threads(painter: Painter) -> int:
    """How many batches are painted at a time: one on a GPU, and where a frame needs the one painted before it."""
    return 1 if painter.in_order or painter.device.type != "cpu" else min(machine.cores(), MOST_THREADS)


def _batch(start: int) -> slice:
    return slice(start, start + BATCH_FRAMES)


def paste(frame_HW3: np.ndarray, painted_PP3: np.ndarray, mask_PP: np.ndarray, crop_23: np.ndarray) -> np.ndarray:
    """The frame with the painted crop blended in by its mask: uint8 (H, W, 3); the frame itself is not written to.

    Both are pictures of the crop, of any side. `mask_PP` is 1 where the painting shows, 0 where the frame does. Pixels
    that the mask does not reach stay bit-equal. The crop may reach over the frame's border.
    """
    crop_23 = np.asarray(crop_23, np.float64) * (len(mask_PP) / CROP_PX)
    mask_PP = mask_PP * _rim(len(mask_PP))
    left, top, right, bottom = _box(mask_PP, crop_23, frame_HW3.shape)
    if left >= right or top >= bottom:
        return frame_HW3
    side_px = max(right - left, bottom - top)
    back_23 = crop.invert(crop_23)
    back_23[:, 2] -= (left, top)
    inside = np.s_[: bottom - top, : right - left]
    painted = crop.warp(painted_PP3, back_23, side_px)[inside].astype(np.float32)
    weight = crop.warp(mask_PP.astype(np.float32), back_23, side_px)[inside][..., None]
    out = frame_HW3.copy()
    box = out[top:bottom, left:right]
    box[:] = np.rint(box + weight * (painted - box))
    return out


def _box(mask_PP: np.ndarray, crop_23: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in frame px around all that the mask can reach; empty where it reaches nothing."""
    rows, columns = np.nonzero(mask_PP.any(axis=1))[0], np.nonzero(mask_PP.any(axis=0))[0]
    if not len(rows):
        return 0, 0, 0, 0
    corners = [(columns[0] - 1, rows[0] - 1), (columns[-1] + 2, rows[-1] + 2)]  # the warp blends a pixel with the next
    (left, top), (right, bottom) = crop.apply(np.array(corners), crop.invert(crop_23))
    height, width = shape[:2]
    return (
        max(int(np.floor(left)), 0),
        max(int(np.floor(top)), 0),
        min(int(np.ceil(right)), width),
        min(int(np.ceil(bottom)), height),
    )


@functools.cache
def _rim(side_px: int) -> np.ndarray:
    """(side, side) float32: 0 along the crop's border, 1 from RIM_PX inwards, so a mouth cut there shows no edge."""
    from_end = np.minimum(np.arange(side_px), np.arange(side_px)[::-1])
    ramp = np.clip(from_end / (RIM_PX * side_px / CROP_PX), 0, 1).astype(np.float32)
    return np.minimum.outer(ramp, ramp)
