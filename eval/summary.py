"""From the scores of clips to the blocks of a report."""

from __future__ import annotations

from typing import Any

from eval import gate, intervals, ordering, report
from eval.plan import Task
from eval.records import ClipScore
from mytalk.command import UserError


def build(
    belongs: dict[str, Any],
    tasks: list[Task],
    scores: dict[str, ClipScore],
    environment: dict[str, str],
    refused: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The report of all `tasks`, whose `scores` are held by key. `refused`: metric -> why it is in no row.

    Raises UserError where every clip is a miss.
    """
    ordered = [scores[task.key] for task in tasks]
    scored = [score for score in ordered if score.reason is None]
    misses = [score for score in ordered if score.reason is not None]
    if not scored:
        raise UserError(f"no clip could be scored; the first, {misses[0].key}: {misses[0].message}")
    total, refused = len({task.person for task in tasks}), refused or {}
    methods = {
        name: {
            metric: intervals.over_people([(s.person, s.methods[name][metric]) for s in scored], total)
            for metric in belongs["protocol"]["metrics"]
            if metric not in refused
        }
        for name in belongs["protocol"]["methods"]
    }
    judged = ordering.judge(methods)
    return {
        "format": report.FORMAT,
        "methods": methods,
        "gate": gate.judge(methods),
        **({"ordering": judged} if judged else {}),
        **({"refused": refused} if refused else {}),
        "coverage": {
            "people": {"scored": len({score.person for score in scored}), "total": total},
            "clips": {"scored": len(scored), "total": len(tasks)},
            "misses": [{"key": s.key, "person": s.person, "reason": s.reason, "message": s.message} for s in misses],
        },
        **belongs,
        "environment": environment,
    }
