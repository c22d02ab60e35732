"""The gate: does the model follow speech better than chance, beyond what other people could have shown?

Swapped speech keeps everything but the words, so what it still reaches comes from the upper face that the
model sees. A mouth that never moves keeps everything but the motion.
"""

from __future__ import annotations

from typing import Any

from eval.intervals import shown

METRIC = "opening_correlation"
MODEL, BASELINES = "mytalk", ("shuffled_audio", "frozen_mouth")
RULE = f"{METRIC} of {MODEL}: the low end of its ci95 lies above the high end of each baseline's"


def judge(methods: dict[str, Any]) -> dict[str, Any]:
    """The gate's block of a report, computed from its `methods`. Without an interval nothing is apart."""
    low = _end(methods, MODEL, 0)
    above = {}
    for name in BASELINES:
        high = _end(methods, name, 1)
        above[name] = low is not None and high is not None and low > high
    return {"rule": RULE, "above": above, "passed": all(above.values())}


def in_words(methods: dict[str, Any]) -> str:
    """One line: PASS or FAIL, and the numbers it rests on."""
    verdict = "PASS" if judge(methods)["passed"] else "FAIL"
    rows = [f"{name} {shown(methods[name][METRIC])}" for name in (MODEL, *BASELINES)]
    line = f"gate: {verdict}: {METRIC} {rows[0]} against {' and '.join(rows[1:])}; intervals must lie apart"
    if methods[MODEL][METRIC]["ci95"] is None:
        line += "; one person gives no interval"
    return line


def _end(methods: dict[str, Any], name: str, end: int) -> float | None:
    ci95 = methods[name][METRIC]["ci95"]
    return None if ci95 is None else ci95[end]
