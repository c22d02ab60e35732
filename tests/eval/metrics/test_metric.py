"""Which metrics apply to which audio, and values that are no numbers."""

from __future__ import annotations

import pytest

from eval.metrics import NOT_FINITE, VIDEO_METRICS, measure
from eval.metrics.metric import NO_MOUTH, ORIGINAL_MOUTH, TRUE_MOUTH, Metric, Miss


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
