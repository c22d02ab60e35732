"""Sync confidence as a plausibility check: real speech should fit its mouth best, somebody else's worst.

No verdict rests on it: methods trained on a sync network score too high, so a dubbed row above the ground truth
is exaggeration, not quality. It is reported whichever way it falls.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from eval.intervals import shown

METRIC = "sync_confidence"
EXPECTED = ("ground_truth", "mytalk", "shuffled_audio")
RULE = (
    f"{METRIC} of {' > '.join(EXPECTED)}: of each neighbouring pair, whether the first's ci95 lies above, below or "
    "overlaps the second's"
)


def judge(methods: dict[str, Any]) -> dict[str, Any] | None:
    """The ordering's block of a report, computed from its `methods`; None where the metric was refused."""
    if any(METRIC not in methods.get(name, {}) for name in EXPECTED):
        return None
    pairs = {
        f"{a} > {b}": _apart(methods[a][METRIC]["ci95"], methods[b][METRIC]["ci95"]) for a, b in pairwise(EXPECTED)
    }
    found = sorted(EXPECTED, key=lambda name: -methods[name][METRIC]["mean"])
    return {"rule": RULE, "pairs": pairs, "found": found, "holds": all(said == "above" for said in pairs.values())}


def in_words(methods: dict[str, Any]) -> str:
    """One line: whether the order is the expected one, the numbers, and which intervals lie apart."""
    made = judge(methods)
    assert made is not None, "asked only where sync confidence was measured"
    numbers = ", ".join(f"{name} {shown(methods[name][METRIC])}" for name in EXPECTED)
    if made["holds"]:
        said = "as expected, every interval apart"
    elif made["found"] == list(EXPECTED):
        said = "means as expected, but not every interval is apart"
    else:
        said = f"not as expected: {' > '.join(made['found'])}"
    words = {"above": "above", "below": "BELOW", "overlaps": "overlap", "no_interval": "no interval"}
    pairs = "; ".join(f"{pair}: {words[state]}" for pair, state in made["pairs"].items())
    return f"ordering: {said}: {METRIC} {numbers} ({pairs})"


def _apart(first: list[float] | None, second: list[float] | None) -> str:
    if first is None or second is None:
        return "no_interval"
    if first[0] > second[1]:
        return "above"
    return "below" if first[1] < second[0] else "overlaps"
