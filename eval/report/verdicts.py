"""The verdicts of a report, computed from its scores alone.

The gate: does the model follow speech better than chance, beyond what other people could have shown? Swapped speech
keeps everything but the words, so what it still reaches comes from the upper face that the model sees. A mouth that
never moves keeps everything but the motion.

The ordering: sync confidence as a plausibility check. Real speech should fit its mouth best, another person's worst.
No pass or fail rests on it: methods trained on a sync network score too high, so a dubbed row above the ground truth
is exaggeration, not quality. It is reported whichever way it falls.

Against ridge: how far the model is from a ridge regression on the same speech; against one step: how far its steps are
from a single one. Both rows are scored on the same clips, so each person's difference is what is averaged. No pass or
fail rests on it either.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from eval.score_file import FLOOR, ONE_STEP, OURS
from mytalk.intervals import shown

GATE_METRIC, MODEL, BASELINES = "opening_correlation", OURS, ("shuffled_audio", "frozen_mouth")
GATE_RULE = f"{GATE_METRIC} of {MODEL}: the low end of its ci95 lies above the high end of each baseline's"
ORDERING_METRIC, EXPECTED = "sync_confidence", (FLOOR, OURS, "shuffled_audio")
ORDERING_RULE = (
    f"{ORDERING_METRIC} of {' > '.join(EXPECTED)}: of each neighbouring pair, whether the first's ci95 lies above, "
    "below or overlaps the second's"
)
RIDGE, COMPARED = "ridge", {"opening_correlation": "higher", "lmd_px": "lower"}  # and which is better
AGAINST = (RIDGE, ONE_STEP)  # rows from which the model's difference is reported, as `against_<row>`
PAIR_WORDS = {"above": "above", "below": "BELOW", "overlaps": "overlap", "no_interval": "no interval"}


def gate(methods: dict[str, Any]) -> dict[str, Any] | None:
    """The gate's block of a report, computed from its `methods`; None where one of its rows is missing.

    Without an interval nothing is apart.
    """
    if any(GATE_METRIC not in methods.get(name, {}) for name in (MODEL, *BASELINES)):
        return None
    above = {name: _apart(methods, GATE_METRIC, MODEL, name) == "above" for name in BASELINES}
    return {"rule": GATE_RULE, "above": above, "passed": all(above.values())}


def gate_in_words(methods: dict[str, Any]) -> str:
    """One line: PASS or FAIL, and the numbers it rests on."""
    block = gate(methods)
    assert block is not None, "asked only where its rows were scored"
    verdict = "PASS" if block["passed"] else "FAIL"
    rows = [f"{name} {shown(methods[name][GATE_METRIC])}" for name in (MODEL, *BASELINES)]
    line = f"gate: {verdict}: {GATE_METRIC} {rows[0]} against {' and '.join(rows[1:])}; intervals must lie apart"
    if methods[MODEL][GATE_METRIC]["ci95"] is None:
        line += "; one person gives no interval"
    return line


def ordering(methods: dict[str, Any]) -> dict[str, Any] | None:
    """The ordering's block of a report, computed from its `methods`; None where the metric was omitted."""
    if any(ORDERING_METRIC not in methods.get(name, {}) for name in EXPECTED):
        return None
    pairs = {f"{a} > {b}": _apart(methods, ORDERING_METRIC, a, b) for a, b in pairwise(EXPECTED)}
    by_mean = sorted(EXPECTED, key=lambda name: -methods[name][ORDERING_METRIC]["mean"])
    holds = all(state == "above" for state in pairs.values())
    return {"rule": ORDERING_RULE, "pairs": pairs, "found": by_mean, "holds": holds}


def ordering_in_words(methods: dict[str, Any]) -> str:
    """One line: whether the order is the expected one, the numbers, and which intervals lie apart."""
    block = ordering(methods)
    assert block is not None, "asked only where sync confidence was measured"
    numbers = ", ".join(f"{name} {shown(methods[name][ORDERING_METRIC])}" for name in EXPECTED)
    if block["holds"]:
        verdict = "as expected, every interval apart"
    elif block["found"] == list(EXPECTED):
        verdict = "means as expected, but not every interval is apart"
    else:
        verdict = f"not as expected: {' > '.join(block['found'])}"
    pairs = "; ".join(f"{pair}: {PAIR_WORDS[state]}" for pair, state in block["pairs"].items())
    return f"ordering: {verdict}: {ORDERING_METRIC} {numbers} ({pairs})"


def against(row: str, differences: dict[str, Any]) -> dict[str, Any]:
    """The block `against_<row>` of a report, from the entry (mean, ci95, ...) of each compared metric's difference."""
    rule = (
        f"{MODEL} minus {row}, clip by clip, mean over people: better or worse where the difference's ci95 lies on one "
        "side of 0"
    )
    metrics = {
        name: {"difference": entry, "found": _side(entry["ci95"], COMPARED[name])}
        for name, entry in differences.items()
    }
    return {"rule": rule, "metrics": metrics}


def against_in_words(row: str, block: dict[str, Any]) -> str:
    """One line: the difference of each compared metric, and whether the model is better."""
    found = [f"{name} {shown(m['difference'])}: {m['found']}" for name, m in block["metrics"].items()]
    return f"{MODEL} against {row}: {'; '.join(found)} (difference, person by person)"


def _side(ci95: list[float] | None, better: str) -> str:
    """Where a difference lies: better, worse, not apart, or no interval."""
    if ci95 is None:
        return "no interval"
    if ci95[0] <= 0 <= ci95[1]:
        return "not apart"
    return "better" if (ci95[0] > 0) == (better == "higher") else "worse"


def _apart(methods: dict[str, Any], metric: str, first: str, second: str) -> str:
    """Where the first row's interval lies: above, below or overlaps the second's, or no_interval."""
    a, b = methods[first][metric]["ci95"], methods[second][metric]["ci95"]
    if a is None or b is None:
        return "no_interval"
    if a[0] > b[1]:
        return "above"
    return "below" if a[1] < b[0] else "overlaps"
