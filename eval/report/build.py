"""From the scores of clips to the blocks of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.metrics import PEOPLE_METRICS, sync
from eval.metrics.metric import Miss
from eval.metrics.people import TRUTH, PersonClip
from eval.report import check, verdicts
from eval.score_file import ALL_ROWS, FLOOR, ClipScore
from eval.tasks import Task
from mytalk import intervals
from mytalk.command import UserError

NO_ROW, NOT_STATED = "no_row", "not_stated"


def build(
    provenance: dict[str, Any],
    tasks: Sequence[Task],
    scores: dict[str, ClipScore],
    environment: dict[str, str],
    refused: dict[str, str] | None = None,
    ridge_facts: dict[str, Any] | None = None,
    sets: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The report of all `tasks` from their `scores` by key. `refused`: omitted metric -> the reason.

    `ridge_facts`: of the fit behind the row `ridge`, where there is that row. `sets`: of all clips
    together (eval/rows/features.py).

    Raises UserError where every clip is a miss.
    """
    ordered = [scores[task.key] for task in tasks]
    scored = [score for score in ordered if score.reason is None]
    misses = [score for score in ordered if score.reason is not None]
    if not scored:
        raise UserError(f"no clip could be scored; the first, {misses[0].key}: {misses[0].message}")
    total = len({task.person for task in tasks})
    real = [(score.person, score.methods.get(FLOOR, {})) for score in scored]
    refused = sync.unknown(real) | (refused or {})
    methods, unmeasured, refused = _methods(provenance["protocol"], ordered, total, refused)
    gate, ordering = verdicts.gate(methods), verdicts.ordering(methods)
    notes = Counter(note for score in scored for note in score.notes)
    return {
        "format": check.FORMAT,
        "methods": methods,
        **({"gate": gate} if gate else {}),
        **({"ordering": ordering} if ordering else {}),
        **({"ridge": ridge_facts or {}} if verdicts.RIDGE in methods else {}),
        **{f"against_{row}": _against(row, scored, total) for row in verdicts.AGAINST if row in methods},
        **({"sets": sets} if sets else {}),
        **({"refused": refused} if refused else {}),
        "coverage": {
            "people": {"scored": len({score.person for score in scored}), "total": total},
            "clips": {"scored": len(scored), "total": len(tasks)},
            "misses": [{"key": s.key, "person": s.person, "reason": s.reason, "message": s.message} for s in misses],
            **({"notes": dict(sorted(notes.items()))} if notes else {}),
            **({"unmeasured": unmeasured} if unmeasured else {}),
        },
        **provenance,
        "environment": environment,
    }


def _methods(
    protocol: dict[str, Any], ordered: list[ClipScore], total: int, refused: dict[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, int]], dict[str, str]]:
    """The entries of every row and metric; per metric, for which reasons how many scored clips have no value; and the
    metrics without any entry, those already `refused` among them, with the reason.
    """
    methods: dict[str, dict[str, Any]] = {name: {} for name in protocol["methods"]}
    unmeasured, refused = dict[str, dict[str, int]](), dict(refused)
    for metric, stated in protocol["metrics"].items():
        if metric in refused:
            continue
        try:
            rows = [name for name in stated.get("rows", methods) if name in methods]
            if stated.get("over") == "people":
                entries = {name: PEOPLE_METRICS[metric].compute(clips_of(name, ordered), total) for name in rows}
            else:
                entries, reasons = _over_clips(metric, rows, ordered, total)
                unmeasured.update({metric: reasons} if reasons and entries else {})
        except Miss as miss:
            refused[metric] = str(miss)
            continue
        for name, entry in entries.items():
            methods[name][metric] = entry
    return methods, unmeasured, refused


def _over_clips(
    metric: str, rows: list[str], ordered: list[ClipScore], total: int
) -> tuple[dict[str, Any], dict[str, int]]:
    """A metric's entries over the clips on which every row has it, and why other scored clips do not. Raises Miss."""
    if not rows:
        raise Miss(NO_ROW, "no row of this report is made for it")
    scored = [score for score in ordered if score.reason is None]
    measured = [score for score in scored if all(metric in score.methods[name] for name in rows)]
    left_out = [score.omitted.get(metric, [NOT_STATED, ""]) for score in scored if score not in measured]
    if not measured:
        raise Miss(left_out[0][0], f"no clip has a value; the first: {left_out[0][1] or left_out[0][0]}")
    entries = {
        name: intervals.over_people([(s.person, s.methods[name][metric]) for s in measured], total) for name in rows
    }
    return entries, dict(sorted(Counter(reason for reason, _ in left_out).items()))


def clips_of(row: str, ordered: list[ClipScore]) -> list[PersonClip]:
    """What metrics over people get of a row: every clip, those that could not be scored too."""
    clips = []
    for score in ordered:
        clips.append(
            PersonClip(score.person, score.traits.get(TRUTH, {}), score.traits.get(row, {}), _usable(row, score))
        )
    return clips


def _usable(row: str, score: ClipScore) -> bool | None:
    """Whether a row gave a usable result on a clip; None where it was not tried to its end."""
    if row in score.failed:
        return False
    if score.reason is None or row in score.usable:
        return True
    return False if ALL_ROWS in score.failed else None


def _against(row: str, scored: list[ClipScore], total: int) -> dict[str, Any]:
    """How far the model is from another row on the same clips."""
    differences = {}
    for metric in verdicts.COMPARED:
        pairs = [(s.person, s.methods[verdicts.MODEL][metric] - s.methods[row][metric]) for s in scored]
        differences[metric] = intervals.over_people(pairs, total)
    return verdicts.against(row, differences)
