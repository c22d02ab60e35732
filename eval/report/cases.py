"""Tables of single people and clips of the main row, the worst first, and the histogram of sync offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from eval.metrics.metric import REAL, badness
from eval.report import plots, text
from eval.report.heading import FIRST, main_row
from eval.score_file import FLOOR, ClipScore

OFFSET = "sync_offset_frames"
COLUMNS = (
    *("opening_correlation", "opening_error_px", "lmd_px", "sync_confidence", OFFSET, "psnr_mouth_db"),
    *("identity_cosine", "mouth_leak", "detected_share"),
)
MOST_CLIPS = 50  # the page stays small; clips.jsonl has all


@dataclass(frozen=True)
class Case:
    """A line of a table: a clip and its person, or a person and how many clips, and a value of each column."""

    name: str
    detail: str
    values: list[float | None]


@dataclass(frozen=True)
class Cases:
    """Tables of the main row: columns (metric and unit), people and clips, both the worst first by `by`."""

    row: str
    by: str
    columns: list[tuple[str, str]]
    people: list[Case]
    clips: list[Case]
    all_clips: int
    offsets: Markup | None


def cases(report: dict[str, Any], scores: list[ClipScore]) -> Cases | None:
    """What single people and clips got; None where none of the tables' metrics was measured."""
    row, measured = main_row(report), text.measured(report)
    names = [name for name in COLUMNS if name in report["methods"][row]]
    by = next((name for name in (*FIRST, *names) if name in names), None)
    if by is None:
        return None
    better = measured[by]["better"]
    if better == REAL:
        return None
    scored = [score for score in scores if score.reason is None]
    clips = [Case(score.key, score.person, [score.methods[row].get(name) for name in names]) for score in scored]
    people = []
    for person in dict.fromkeys(score.person for score in scored):
        own = [case for case in clips if case.detail == person]
        means = [_mean(case.values[column] for case in own) for column in range(len(names))]
        people.append(Case(person, str(len(own)), means))
    place = names.index(by)

    def worst_first(case: Case) -> tuple[bool, float]:
        value = case.values[place]
        return (value is None, 0.0 if value is None else -badness(better, value))

    units = [(name, measured[name]["unit"]) for name in names]
    shown = sorted(clips, key=worst_first)[:MOST_CLIPS]
    return Cases(
        row,
        by,
        units,
        sorted(people, key=worst_first),
        shown,
        len(clips),
        _offsets(scored, row) if OFFSET in names else None,
    )


def _offsets(scored: list[ClipScore], row: str) -> Markup:
    """How many clips have which offset, of the main row and of the real video."""
    values = {
        name: [round(score.methods[name][OFFSET]) for score in scored if OFFSET in score.methods.get(name, {})]
        for name in (row, FLOOR)
    }
    return Markup(plots.histogram("Clips by the size of their sync offset in frames", values))


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
