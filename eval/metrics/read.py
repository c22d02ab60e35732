"""Lips as the reader of pixels sees them (mytalk/networks/reader.py), beside what the detector's landmarks say.

The detector makes the inputs, the targets and most of the scores. The reader looks at the pixels of a mouth alone: the
detector places its crop, by points that do not speak. Truth and row are read alike, each in its own crop, so both are
in the head's frame; one size, the truth's mean, makes px of them.

Shape suffixes: T frames, M lip points (40, in the order of MOUTH), H height, W width, 2 = (x, y), 3 = RGB, or
(x, y, z) in px at 256.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eval.metrics import lips
from eval.metrics.metric import HIGHER, LOWER, ONE, Comparison, Metric, Miss

TOGETHER = 25  # frames in the network at once


@dataclass(frozen=True)
class Read:
    """Lips of truth and row in the frames that show a face, (T, M, 2), and what is measured there, px at 256."""

    truth_TM2: np.ndarray
    row_TM2: np.ndarray
    truth: dict[str, np.ndarray]  # by reader.MEASURES, (T,)
    row: dict[str, np.ndarray]


def lips_read(row: Comparison) -> Read:
    """What the reader sees in both. Raises Miss where no frame of the row shows a face."""
    import torch

    from mytalk.networks import reader

    detected_T, truth = row.video.detected_T, row.truth
    if not detected_T.any():
        raise Miss(lips.NO_FRAMES, "no frame shows a face")
    true_TM2, half_px = truth.once(_units, lambda: _units(row, truth.frames_THW3, truth.landmarks_TN3))
    row_TM2, _ = _units(row, row.video.frames_THW3[detected_T], row.video.landmarks_TN3[detected_T])
    sides = [true_TM2[detected_T] * half_px, row_TM2 * half_px]
    measured = [reader.measures(torch.from_numpy(side)).numpy().T for side in sides]
    return Read(*sides, *(dict(zip(reader.MEASURES, one)) for one in measured))


def _units(row: Comparison, frames_THW3: np.ndarray, landmarks_TN3: np.ndarray) -> tuple[np.ndarray, float]:
    """Lips in units of their crops, (T, M, 2), and the mean half side of these, px."""
    import torch

    from mytalk.networks import reader

    model = row.evaluators.reader
    assert model is not None, "without it its metrics are omitted"
    device, read, halves = next(model.parameters()).device, [], []
    with torch.inference_mode():
        for start in range(0, len(frames_THW3), TOGETHER):
            some = slice(start, start + TOGETHER)
            pixels = reader.pictures(frames_THW3[some]).to(device)
            points = torch.from_numpy(np.asarray(landmarks_TN3[some, :, :2], np.float32)).to(device)
            where = reader.place(points)
            crops_B3SS = reader.crops(pixels, where, model.config.side)
            read.append(model(crops_B3SS).double().cpu().numpy())
            halves.append(where.half_px_B.double().cpu().numpy())
    return np.concatenate(read), float(np.concatenate(halves).mean())


def _lmd_px(read: Read) -> float:
    return float(np.linalg.norm(read.truth_TM2 - read.row_TM2, axis=-1).mean())


def _opening_error_px(read: Read) -> float:
    return float(np.abs(read.truth["opening"] - read.row["opening"]).mean())


def _followed(measure: str) -> Callable[[Read], float]:
    return lambda read: lips.correlation(read.truth[measure], read.row[measure])


def _metric(compute: Callable[[Read], float], words: str, unit: str, better: str) -> Metric:
    how = (
        "as the reader of lips of the digests sees them in the pixels of truth and row, each in the crop that its own "
        "rigid points place; frames without a re-detected face are left out"
    )
    return Metric(
        lambda row: compute(row.once(lips_read)), f"{words}, {how}", unit, better, needs="reader", conditional=True
    )


def lip_score(row: Comparison) -> float:
    """Cosine of the features that a lip reader has of truth and row, mean over the frames. Source: LipScore."""
    judge, truth = row.evaluators.lip_reading, row.truth
    assert judge is not None, "without it the metric is omitted"
    true_TD = truth.once(judge.embed, lambda: judge.embed(truth.frames_THW3, truth.landmarks_TN3))
    row_TD = judge.embed(row.video.frames_THW3, row.video.landmarks_TN3)
    lengths_T = np.linalg.norm(true_TD, axis=1) * np.linalg.norm(row_TD, axis=1)
    return float(((true_TD * row_TD).sum(axis=1) / np.maximum(lengths_T, 1e-12)).mean())


_CORRELATED = "Pearson correlation over the frames of the"
METRICS = {
    "lmd_px@reader": _metric(
        _lmd_px, "distance between the row's and the true lip point, mean over 40 and the frames", "px at 256", LOWER
    ),
    "opening_error_px@reader": _metric(
        _opening_error_px, "absolute difference of the mouth openings, mean over the frames", "px at 256", LOWER
    ),
    "opening_correlation@reader": _metric(_followed("opening"), f"{_CORRELATED} mouth openings", "-1 to 1", HIGHER),
    "amplitude_ratio@reader": _metric(
        lambda read: lips.spread_ratio(read.truth["opening"], read.row["opening"]),
        "standard deviation over the frames of the mouth opening, the row's divided by the true one's",
        "1: as far as the person",
        ONE,
    ),
    "width_correlation@reader": _metric(_followed("width"), f"{_CORRELATED} mouth widths", "-1 to 1", HIGHER),
    "upper_lip_correlation@reader": _metric(
        _followed("upper_lip"), f"{_CORRELATED} heights of the upper lip", "-1 to 1", HIGHER
    ),
    "lip_score": Metric(
        lip_score,
        "cosine of the features that the lip reader of the digests has of the row and of the clip, mean over the "
        "frames; its network and our crop decide it: beside published LipScore it says nothing",
        "-1 to 1",
        HIGHER,
        needs="lip_reading",
    ),
}
