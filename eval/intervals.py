"""From scores of clips to a mean over people with a 95 % interval.

Clips of one person resemble each other, so people are what is counted: a person with a hundred clips weighs
as much as a person with one, and the interval says what another draw of people could have given.
"""

from __future__ import annotations

from typing import Any

from mytalk.intervals import mean_and_ci95, person_means

METHOD = (
    "mean over each person's clips, then over people; ci95 is Student's t over the people's means; null with "
    "one person, who says nothing about others"
)


def over_people(scores: list[tuple[str, float]], total: int) -> dict[str, Any]:
    """The entry of a report for (person, score of a clip), of `total` people: mean, ci95, n, total, clips."""
    means = person_means(scores)
    mean, ci95 = mean_and_ci95(list(means.values()))
    return {"mean": mean, "ci95": ci95, "n": len(means), "total": total, "clips": len(scores)}


def shown(score: dict[str, Any]) -> str:
    """An entry of a report as text: `0.753 [0.690, 0.816]`."""
    return f"{score['mean']:.3f} " + (
        "[no interval]" if score["ci95"] is None else "[{:.3f}, {:.3f}]".format(*score["ci95"])
    )
