"""The gate and the ordering, from intervals typed by hand."""

from __future__ import annotations

import pytest

from eval.report import verdicts


@pytest.mark.parametrize(
    ("model", "shuffled", "passed"),
    [([0.5, 0.7], [0.1, 0.4], True), ([0.5, 0.7], [0.1, 0.5], False), (None, [0.1, 0.4], False)],
    ids=["apart", "touching", "one person"],
)
def test_the_gate_passes_only_where_intervals_lie_apart(model, shuffled, passed) -> None:
    ends = {"mytalk": model, "shuffled_audio": shuffled, "frozen_mouth": [0.0, 0.0]}
    methods = {name: {verdicts.GATE_METRIC: {"mean": 0.5, "ci95": ci95}} for name, ci95 in ends.items()}
    block = verdicts.gate(methods)
    assert block is not None
    assert block["passed"] is passed
    assert verdicts.gate({"mytalk": methods["mytalk"]}) is None, "no gate without its baselines"
    assert ("PASS" if passed else "FAIL") in verdicts.gate_in_words(methods)


def rows(**ends: list[float] | None) -> dict:
    """Rows with these intervals of sync confidence."""
    entries = {name: {"mean": sum(ci95) / 2 if ci95 else 0.5, "ci95": ci95} for name, ci95 in ends.items()}
    return {name: {verdicts.ORDERING_METRIC: entry} for name, entry in entries.items()}


@pytest.mark.parametrize(
    ("ends", "pairs", "holds", "words"),
    [
        (([5, 6], [3, 4], [1, 2]), ("above", "above"), True, "as expected, every interval apart"),
        (([5, 6], [3, 5.5], [1, 2]), ("overlaps", "above"), False, "means as expected, but not every interval"),
        (([3, 4], [5, 6], [1, 2]), ("below", "above"), False, "not as expected: mytalk > ground_truth >"),
        ((None, None, None), ("no_interval", "no_interval"), False, "no interval"),
    ],
    ids=["holds", "overlapping", "exaggerating", "one person"],
)
def test_the_ordering_is_reported_whichever_way_it_falls(ends, pairs, holds, words) -> None:
    methods = rows(**dict(zip(verdicts.EXPECTED, ends)))
    block = verdicts.ordering(methods)
    assert block is not None
    assert tuple(block["pairs"].values()) == pairs
    assert block["holds"] is holds
    assert words in verdicts.ordering_in_words(methods)


@pytest.mark.parametrize(
    ("correlation", "distance", "found"),
    [
        ([0.1, 0.2], [-0.5, -0.1], ["better", "better"]),
        ([-0.2, -0.1], [0.1, 0.5], ["worse", "worse"]),
        ([-0.1, 0.2], [0.0, 0.5], ["not apart", "not apart"]),
        (None, None, ["no interval", "no interval"]),
    ],
)
def test_the_model_is_better_than_ridge_where_its_difference_lies_on_the_better_side(
    correlation, distance, found
) -> None:
    entries = {name: {"mean": 0.0, "ci95": ci95} for name, ci95 in zip(verdicts.COMPARED, (correlation, distance))}
    block = verdicts.against("ridge", entries)
    assert [metric["found"] for metric in block["metrics"].values()] == found
    assert all(f": {word}" in verdicts.against_in_words("ridge", block) for word in found)
