"""Detection: in how much of a row a face is detected again."""

from __future__ import annotations

from eval.metrics.metric import NO_MOUTH, Comparison, Metric

LEAST_DETECTED = 0.9  # of a row's frames; below it the clip is a miss


def detected_share(row: Comparison) -> float:
    """Share of the frames in which a face was detected."""
    return float(row.video.detected_T.mean())


METRICS = {
    "detected_share": Metric(
        detected_share,
        f"frames in which a face is detected again, of all; below {LEAST_DETECTED:g} in any row the clip is a miss in "
        "all rows",
        "0 to 1",
        "higher",
        mouth=NO_MOUTH,
    ),
}
