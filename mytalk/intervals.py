"""From scores of clips to a mean over people with a 95 % interval, and whether that lies above chance.

Clips of one person resemble each other, so people are what is counted: a person with a hundred clips weighs
as much as a person with one, and the interval says what another draw of people could have given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

CONFIDENCE = 0.95
METHOD = (  # part of every report's protocol
    "mean over each person's clips, then over people; ci95 is Student's t over the people's means; null with "
    "one person, who says nothing about others"
)


def person_means(scores: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of each person's clips from (person, score of a clip)."""
    values: dict[str, list[float]] = {}
    for person, score in scores:
        values.setdefault(person, []).append(score)
    return {person: float(np.mean(person_values)) for person, person_values in values.items()}


def mean_over_people(scores: Iterable[tuple[str, float]]) -> float | None:
    """Mean over people of each person's mean, from (person, score of a clip); None without any."""
    means = person_means(scores)
    return float(np.mean(list(means.values()))) if means else None


def mean_and_ci95(values: list[float]) -> tuple[float, list[float] | None]:
    """Mean of people's values and its interval: mean -+ t(0.975, n - 1) s / sqrt(n). None where n is 1."""
    from scipy.special import stdtrit

    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return mean, None
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, [mean - half, mean + half]


def over_people(scores: list[tuple[str, float]], total: int) -> dict[str, Any]:
    """A report's entry for (person, score of a clip), of `total` people: mean, ci95, n, total, clips."""
    means = person_means(scores)
    mean, ci95 = mean_and_ci95(list(means.values()))
    return {"mean": mean, "ci95": ci95, "n": len(means), "total": total, "clips": len(scores)}


def shown(score: dict[str, Any]) -> str:
    """A report's entry as text: `0.753 [0.690, 0.816]`."""
    return f"{score['mean']:.3f} " + (
        "[no interval]" if score["ci95"] is None else "[{:.3f}, {:.3f}]".format(*score["ci95"])
    )


def against_chance(values: list[float], chance: float, required: float | None = None) -> dict[str, Any]:
    """People's values as a model's facts: mean, ci95 (None: one person), people, chance, the required mean."""
    mean, ci95 = mean_and_ci95(values)
    requirement = {} if required is None else {"required": required}
    return {"mean": mean, "ci95": ci95, "people": len(values), "chance": chance, **requirement}


def proven(facts: Any) -> tuple[bool, str]:
    """Whether an evaluator may be used by a loss or a score, by its `against_chance` facts, and that in words.

    The interval must lie above chance, and the mean must reach what is required, where that is stated. Facts may come
    from a file: what is not of that form was not measured.
    """
    try:
        mean, people, chance = float(facts["mean"]), int(facts["people"]), float(facts["chance"])
        required = float(facts.get("required", 0))
        low, high = (None, None) if facts["ci95"] is None else (float(end) for end in facts["ci95"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return False, "NOT MEASURED: nothing says that it is above chance; do not score with it"
    interval = "no interval" if low is None else f"[{low:.2f}, {high:.2f}]"
    measured = f"{mean:.2f} {interval} over {people} {'person' if people == 1 else 'people'}, chance is {chance:.2f}"
    if low is None:
        return False, f"NOT SHOWN TO BE ABOVE CHANCE: {measured}; do not score with it"
    if low <= chance:
        return False, f"AT CHANCE: {measured}; do not score with it"
    if mean < required:
        return False, f"BELOW WHAT IT MUST REACH ({required:.2f}): {measured}; do not score with it"
    return True, f"above chance: {measured}"
