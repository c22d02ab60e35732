"""Every metric of a report: one file a family, and one line here for each.

From these lists come the protocol's definitions, the columns of tables, and what is omitted without an evaluator.
The order is that of reports. Nothing here loads torch before a metric is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eval.metrics import detection, identity, lips, perception, person, pixels, sync
from eval.metrics.metric import Comparison, Metric, Miss

NOT_FINITE = "metric_not_finite"  # reason of a miss

LANDMARK_METRICS: dict[str, Metric] = lips.LANDMARK_METRICS  # of generated landmarks (`motion`)
VIDEO_METRICS: dict[str, Metric] = {  # of dubbed videos (`benchmark`)
    **lips.METRICS,
    **sync.METRICS,
    **pixels.METRICS,
    **perception.METRICS,
    **identity.METRICS,
    **person.METRICS,
    **detection.METRICS,
}


def measure(metrics: Mapping[str, Metric], compared: Any) -> dict[str, float]:
    """Every one of `metrics`, computed from what it compares. Raises Miss, for a value that is no number too."""
    values = {name: metric.compute(compared) for name, metric in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise Miss(NOT_FINITE, f"{name} is {value}")
    return values


def measure_video(row: Comparison, cross_audio: bool = False) -> dict[str, float]:
    """Every metric of a dubbed row that applies and whose evaluator is loaded. Raises Miss."""
    possible = {
        name: metric
        for name, metric in VIDEO_METRICS.items()
        if metric.applies(cross_audio) and (metric.needs is None or getattr(row.evaluators, metric.needs) is not None)
    }
    return measure(possible, row)
