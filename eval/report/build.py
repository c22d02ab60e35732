"""From the scores of clips to the blocks of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.report import check, verdicts
from eval.score_file import ClipScore
from eval.tasks import Task
from mytalk import intervals
from mytalk.command import UserError


def build(
    provenance: dict[str, Any],
    tasks: Sequence[Task],
    scores: dict[str, ClipScore],
    environment: dict[str, str],
    refused: dict[str, str] | None = None,
    ridge_facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of all `tasks` from their `scores` by key. `refused`: omitted metric -> the reason.

    `ridge_facts`: of the fit behind the row `ridge`, where there is that row.

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
            for metric in provenance["protocol"]["metrics"]
            if metric not in refused
        }
        for name in provenance["protocol"]["methods"]
    }
    gate, ordering = verdicts.gate(methods), verdicts.ordering(methods)
    notes = Counter(note for score in scored for note in score.notes)
    return {
        "format": check.FORMAT,
        "methods": methods,
        **({"gate": gate} if gate else {}),
        **({"ordering": ordering} if ordering else {}),
        **(_ridge(scored, total, ridge_facts) if verdicts.RIDGE in methods else {}),
        **({"refused": refused} if refused else {}),
        "coverage": {
            "people": {"scored": len({score.person for score in scored}), "total": total},
            "clips": {"scored": len(scored), "total": len(tasks)},
            "misses": [{"key": s.key, "person": s.person, "reason": s.reason, "message": s.message} for s in misses],
            **({"notes": dict(sorted(notes.items()))} if notes else {}),
        },
        **provenance,
        "environment": environment,
    }


def _ridge(scored: list[ClipScore], total: int, facts: dict[str, Any] | None) -> dict[str, Any]:
    """The facts of the ridge regression, and how far the model is from it on the same clips."""
    differences = {}
    for metric in verdicts.COMPARED:
        pairs = [(s.person, s.methods[verdicts.MODEL][metric] - s.methods[verdicts.RIDGE][metric]) for s in scored]
        differences[metric] = intervals.over_people(pairs, total)
    return {"ridge": facts or {}, "against_ridge": verdicts.against_ridge(differences)}
