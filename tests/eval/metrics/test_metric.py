"""Which metrics apply to which audio, and values that are no numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import LANDMARK_METRICS, NOT_FINITE, PEOPLE_METRICS, VIDEO_METRICS, measure, measure_rows
from eval.metrics.metric import (
    DIRECTIONS,
    HIGHER,
    LOWER,
    NO_MOUTH,
    ONE,
    ORIGINAL_MOUTH,
    REAL,
    TRUE_MOUTH,
    ZERO,
    Metric,
    Miss,
    badness,
)


def valued(value: float, mouth: str = TRUE_MOUTH) -> Metric:
    return Metric(lambda row: value, "a number", "px", "lower", mouth=mouth)


def test_a_metric_that_needs_the_true_mouth_says_nothing_of_other_audio() -> None:
    assert [valued(1, mouth).applies(cross_audio=False) for mouth in (TRUE_MOUTH, NO_MOUTH, ORIGINAL_MOUTH)] == [
        1,
        1,
        0,
    ]
    assert [valued(1, mouth).applies(cross_audio=True) for mouth in (TRUE_MOUTH, NO_MOUTH, ORIGINAL_MOUTH)] == [0, 1, 1]
    for name in ("lmd_px", "opening_correlation", "psnr_mouth_db"):
        assert VIDEO_METRICS[name].mouth == TRUE_MOUTH, name
    for name in ("sync_confidence", "identity_cosine", "detected_share"):
        assert VIDEO_METRICS[name].mouth == NO_MOUTH, name
    assert VIDEO_METRICS["lmd_px"].stated()["mouth"] == TRUE_MOUTH


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_a_miss_by_the_metrics_name(value) -> None:
    with pytest.raises(Miss, match=f"second is {value}") as raised:
        measure({"first": valued(1.0), "second": valued(value)}, None)
    assert raised.value.reason == NOT_FINITE


def lacking(value: float | None) -> float:
    """What is compared is the value, or None where there is nothing to measure."""
    if value is None:
        raise Miss("no_silence", "nobody is silent")
    return value


def test_a_conditional_metric_is_left_out_of_every_row_with_its_reason_and_the_others_stay() -> None:
    metrics = {"first": valued(1.0), "asks": Metric(lacking, "a number", "px", "lower", conditional=True)}
    values, omitted = measure_rows({"one": 2.0, "two": None}, metrics)
    assert values == {"one": {"first": 1.0}, "two": {"first": 1.0}}
    assert omitted == {"asks": ["no_silence", "nobody is silent"]}
    values, omitted = measure_rows({"one": 2.0, "two": 3.0}, metrics)
    assert (values["two"]["asks"], omitted) == (3.0, {})
    with pytest.raises(Miss, match="nobody is silent"):
        measure_rows({"one": None}, {"asks": Metric(lacking, "a number", "px", "lower")})


def test_a_conditional_value_that_is_no_number_is_never_written() -> None:
    metrics = {"asks": Metric(lacking, "a number", "px", "lower", conditional=True)}
    values, omitted = measure_rows({"one": float("nan"), "two": 1.0}, metrics)
    assert values == {"one": {}, "two": {}}
    assert omitted["asks"][0] == NOT_FINITE


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_badness_orders_values_by_their_distance_from_what_is_best(a, b) -> None:
    order = {LOWER: (a, b), HIGHER: (-a, -b), ONE: (abs(a - 1), abs(b - 1)), ZERO: (abs(a), abs(b))}
    for better, (of_a, of_b) in order.items():
        assert (badness(better, a) < badness(better, b)) == (of_a < of_b), better
    assert (badness(REAL, a, 2.0) < badness(REAL, b, 2.0)) == (abs(a - 2) < abs(b - 2))
    with pytest.raises(ValueError, match="real video"):
        badness(REAL, a)
    with pytest.raises(ValueError, match="no direction 'best'"):
        badness("best", a)
    assert set(DIRECTIONS) == {*order, REAL}
    assert {metric.better for metric in VIDEO_METRICS.values()} <= set(DIRECTIONS)


def test_every_metric_stands_under_a_heading_with_its_definition() -> None:
    for metric in [*VIDEO_METRICS.values(), *LANDMARK_METRICS.values(), *PEOPLE_METRICS.values()]:
        stated = metric.stated()
        assert all(stated[name] for name in ("definition", "unit", "better", "group", "mouth"))
