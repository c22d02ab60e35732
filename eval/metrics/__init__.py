"""Every metric of a report: one file a family, and one line here for each.

From these lists come the protocol's definitions, the columns of tables, and what is omitted without an evaluator.
The order is that of reports. Nothing here loads torch before a metric is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eval.metrics import detection, lips, lse, people, perception, person, pixels, read, sync
from eval.metrics.landmarks import closure, identity, leak, shape, smoothness, theval
from eval.metrics.metric import NOT_FINITE, ORIGINAL_MOUTH, Comparison, Metric, Miss, NotAsked, grouped
from eval.metrics.people import PeopleMetric

LANDMARK_METRICS: dict[str, Metric] = {  # of generated landmarks
    **grouped("lips", lips.LANDMARK_METRICS),
    **grouped("lip shape", shape.LANDMARK_METRICS),
    **grouped("smoothness", smoothness.LANDMARK_METRICS),
}
VIDEO_METRICS: dict[str, Metric] = {  # of dubbed videos (`benchmark`)
    **grouped("lips", lips.METRICS),
    **grouped("lip shape", shape.METRICS),
    **grouped("lips by pixels", read.METRICS),
    **grouped("lip closure", closure.METRICS),
    **grouped("mouth leak", leak.METRICS),
    **grouped("sync", sync.METRICS),
    **grouped("sync", lse.METRICS),
    **grouped("picture", pixels.METRICS),
    **grouped("picture", perception.METRICS),
    **grouped("smoothness", smoothness.METRICS),
    **grouped("THEval", theval.METRICS),
    **grouped("identity", identity.METRICS),
    **grouped("identity", person.METRICS),
    **grouped("detection", detection.METRICS),
}
PEOPLE_METRICS: dict[str, PeopleMetric] = people.METRICS  # of all clips of a report together


def measure(metrics: Mapping[str, Metric], compared: Any) -> dict[str, float]:
    """Every one of `metrics` that has a value here, computed from what it compares. Raises Miss."""
    return measure_rows({"": compared}, metrics)[0][""]


def measure_videos(
    rows: Mapping[str, Comparison], cross_audio: bool = False
) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
    """`measure_rows` of dubbed rows with every metric that applies and whose evaluator is loaded. Raises Miss."""
    evaluators = [row.evaluators for row in rows.values()]
    possible = {
        name: metric
        for name, metric in VIDEO_METRICS.items()
        if (metric.applies(cross_audio) or metric.mouth == ORIGINAL_MOUTH)  # which asks no row of its own sound
        and (metric.needs is None or all(getattr(loaded, metric.needs) is not None for loaded in evaluators))
    }
    return measure_rows(rows, possible)


def measure_rows(
    rows: Mapping[str, Any], metrics: Mapping[str, Metric]
) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
    """Every row's values by metric; and the conditional metrics that have none on this clip: [reason, message].

    What is missing in one row is left out of all, so that rows are compared on the same clips. Raises Miss for a value
    that is not finite, and as the metrics do that are not conditional.
    """
    values: dict[str, dict[str, float]] = {name: {} for name in rows}
    omitted: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        found: dict[str, float] = {}
        for row, compared in rows.items():
            try:
                found[row] = _finite(name, metric.compute(compared))
            except NotAsked:
                continue
            except Miss as miss:
                if not metric.conditional:
                    raise
                omitted[name] = [miss.reason, str(miss)]
                break
        if name not in omitted:
            for row, value in found.items():
                values[row][name] = value
    return values, omitted


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise Miss(NOT_FINITE, f"{name} is {value}")
    return value
