"""From the scores of clips to the honesty table: which measure finds which cheat worse, and who responds in order.

A cell is the difference between a row and what it is compared with, clip by clip, a mean over each person's clips, then
over people, with Student's interval over people. Differences are turned so that above 0 is worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from eval.cheats.plan import EXPECTED, LADDERS, REAL, Expectation
from eval.metrics.metric import ORIGINAL_MOUTH, Metric, badness
from eval.metrics.metric import REAL as AS_REAL
from eval.score_file import ClipScore
from mytalk import intervals

WORSE, BETTER, SAME, UNKNOWN = "worse", "better", "not apart", "no interval"
IN_ORDER, OUT_OF_ORDER, INSENSITIVE, REWARDED = "in order", "out of order", "INSENSITIVE", "REWARDED"


def build(
    scores: Iterable[ClipScore], rows: Iterable[str], metrics: Mapping[str, Metric], refused: Mapping[str, str]
) -> dict[str, Any]:
    """The table of all scored clips: `cells`, `means`, `cheats` with what catches them, `ladders`, `lost` rows."""
    scored, rows = [score for score in scores if score.reason is None], list(rows)
    judged = {name: metric for name, metric in metrics.items() if name not in refused}
    cells = {
        row: {name: cell(scored, name, metric, row, REAL) for name, metric in judged.items()}
        for row in rows
        if row != REAL
    }
    means = {row: {name: _mean(scored, row, name) for name in judged} for row in rows}
    cheats = {
        cheat: _caught(scored, cheat, expected, judged, refused)
        for cheat, expected in EXPECTED.items()
        if cheat in rows
    }
    ladders = {
        ladder: {name: rung_by_rung(scored, name, metric, (REAL, *rungs)) for name, metric in judged.items()}
        for ladder, rungs in LADDERS.items()
        if set(rungs) <= set(rows)
    }
    lost = {row: sum(row not in score.methods for score in scored) for row in rows}
    return {
        "cells": cells,
        "means": means,
        "cheats": cheats,
        "ladders": ladders,
        "lost": {row: count for row, count in lost.items() if count},
    }


def cell(scored: list[ClipScore], name: str, metric: Metric, row: str, than: str, leak: bool = False) -> dict[str, Any]:
    """How much worse a row is than another by one measure: `difference` and its `verdict`.

    A `leak` is turned round: the better the row seems, the more it has copied. A measure whose best value is that of
    the real video finds any difference worse.
    """
    difference = _difference(scored, name, metric, row, than)
    if difference is None:
        return {"difference": None, "verdict": UNKNOWN}
    if leak:
        ci95 = difference["ci95"]
        difference |= {"mean": -difference["mean"], "ci95": None if ci95 is None else [-ci95[1], -ci95[0]]}
    verdict = _verdict(difference["ci95"])
    return {"difference": difference, "verdict": WORSE if verdict == BETTER and metric.better == AS_REAL else verdict}


def rung_by_rung(scored: list[ClipScore], name: str, metric: Metric, rungs: tuple[str, ...]) -> dict[str, Any]:
    """Whether a measure gets worse rung by rung: its `means`, and the `verdict`.

    INSENSITIVE where the last rung's interval against the first does not leave 0, REWARDED where it finds the worst
    better than the truth, out of order where some rung's mean is better than the one before.
    """
    whole = _difference(scored, name, metric, rungs[-1], rungs[0])
    steps = [_difference(scored, name, metric, worse, rung) for rung, worse in pairwise(rungs)]
    verdict = cell(scored, name, metric, rungs[-1], rungs[0])["verdict"]
    if verdict == WORSE and whole is not None:
        side = -1 if whole["mean"] < 0 else 1  # below 0 only for a measure that is best as the real video's
        ordered = all(step is not None and side * step["mean"] >= 0 for step in steps)
        verdict = IN_ORDER if ordered else OUT_OF_ORDER
    named = {BETTER: REWARDED, SAME: INSENSITIVE}
    return {"means": [_mean(scored, rung, name) for rung in rungs], "verdict": named.get(verdict, verdict)}


def _difference(scored: list[ClipScore], name: str, metric: Metric, row: str, than: str) -> dict[str, Any] | None:
    """A row minus another, turned so that above 0 is worse, as an entry of a report; None without a clip of both."""
    pairs = []
    for score in scored:
        value, other = (score.methods.get(side, {}).get(name) for side in (row, than))
        if value is not None and other is not None:
            pairs.append((score.person, _badness(metric, value) - _badness(metric, other)))
    return intervals.over_people(pairs, len({score.person for score in scored})) if pairs else None


def _caught(
    scored: list[ClipScore],
    cheat: str,
    expected: Expectation,
    judged: Mapping[str, Metric],
    refused: Mapping[str, str],
) -> dict[str, Any]:
    """What of a cheat's measures catch it, which do not, and which are missing and why. `caught`: None without any."""
    meant = [name for name in expected.measures if name in judged]
    turned = {n: expected.leak and judged[n].mouth != ORIGINAL_MOUTH for n in meant}
    cells = {n: cell(scored, n, judged[n], cheat, expected.than, turned[n]) for n in meant}
    return {
        "against": expected.than,
        "leak": expected.leak,
        "meant": cells,
        "missing": {n: refused.get(n, "no such measure here yet") for n in expected.measures if n not in judged},
        "caught": any(one["verdict"] == WORSE for one in cells.values()) if cells else None,
    }


def _mean(scored: list[ClipScore], row: str, name: str) -> float | None:
    """Mean over people of one measure of one row."""
    return intervals.mean_over_people(
        (score.person, score.methods[row][name]) for score in scored if name in score.methods.get(row, {})
    )


def _verdict(ci95: list[float] | None) -> str:
    if ci95 is None:
        return UNKNOWN
    return WORSE if ci95[0] > 0 else BETTER if ci95[1] < 0 else SAME


def _badness(metric: Metric, value: float) -> float:
    """A measure's value turned so that more is worse; as it is where the real video's is best."""
    return value if metric.better == AS_REAL else badness(metric.better, value)
