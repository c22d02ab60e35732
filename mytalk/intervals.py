"""From scores of clips to a mean over people with a 95 % interval, and whether that lies above chance.

Clips of one person resemble each other, so people are what is counted: a person with a hundred clips weighs
as much as a person with one, and the interval says what another draw of people could have given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

CONFIDENCE = 0.95


def person_means(scores: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of each person's clips from (person, score of a clip)."""
    held: dict[str, list[float]] = {}
    for person, score in scores:
        held.setdefault(person, []).append(score)
    return {person: float(np.mean(values)) for person, values in held.items()}


def mean_and_ci95(values: list[float]) -> tuple[float, list[float] | None]:
    """Mean of people's values and its interval: mean -+ t(0.975, n - 1) s / sqrt(n). None where n is 1."""
    from scipy.special import stdtrit

    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return mean, None
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, [mean - half, mean + half]


def against_chance(values: list[float], chance: float, required: float | None = None) -> dict[str, Any]:
    """People's values as a model's facts: mean, ci95 (None: one person), people, chance, the required mean."""
    mean, ci95 = mean_and_ci95(values)
    stated = {} if required is None else {"required": required}
    return {"mean": mean, "ci95": ci95, "people": len(values), "chance": chance, **stated}


def proven(facts: Any) -> tuple[bool, str]:
    """Whether an expert may be used by a loss or a score, by its `against_chance` facts, and that in words.

    The interval must lie above chance, and the mean must reach what is required, where that is stated. Facts may come
    from a file: what is not of that form was not measured.
    """
    try:
        mean, people, chance = float(facts["mean"]), int(facts["people"]), float(facts["chance"])
        required = float(facts.get("required", 0))
        low, high = (None, None) if facts["ci95"] is None else (float(end) for end in facts["ci95"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return False, "NOT MEASURED: nothing says that it is above chance; do not score with it"
    shown = "no interval" if low is None else f"[{low:.2f}, {high:.2f}]"
    found = f"{mean:.2f} {shown} over {people} {'person' if people == 1 else 'people'}, chance is {chance:.2f}"
    if low is None:
        return False, f"NOT SHOWN TO BE ABOVE CHANCE: {found}; do not score with it"
    if low <= chance:
        return False, f"AT CHANCE: {found}; do not score with it"
    if mean < required:
        return False, f"BELOW WHAT IT MUST REACH ({required:.2f}): {found}; do not score with it"
    return True, f"above chance: {found}"
