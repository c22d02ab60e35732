"""From the clips of several reports to groups of people, and how far each group is from the people seen.

Groups are different people, so their difference is unpaired: Welch's t interval over people's means,
d +- t(0.975, f) sqrt(s1^2 / n1 + s2^2 / n2), with Welch and Satterthwaite's degrees of freedom f.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from eval.metrics import PEOPLE_METRICS
from eval.metrics.metric import Miss
from eval.report import build
from eval.score_file import ClipScore
from mytalk import intervals
from mytalk.command import UserError

# A slope over a group's people, who are scored clips: without a gap. Success is of all clips, and not among them.
OVER_PEOPLE = [name for name, metric in PEOPLE_METRICS.items() if metric.group == "people"]
SEEN, UNSEEN, OTHER = "seen people", "unseen people", "unseen corpus"
METHOD = (
    "each group: mean over a person's clips, then over people, with Student's interval; a gap: group minus reference, "
    "Welch's 95 % t interval over people, who are others in every group; what is a slope over people has no gap"
)


@dataclass(frozen=True)
class Scored:
    """A report's clips: the split and corpora that its protocol names, and the scores."""

    split: str
    corpora: tuple[str, ...]
    clips: list[ClipScore]


def grouped(reports: Sequence[Scored]) -> dict[str, list[ClipScore]]:
    """The scored clips of each group, seen people first.

    A corpus counts as unseen where no person of it is in the split `train` of any of the reports; without a report of
    `train` nobody can tell, and every corpus is a group of unseen people of its own. A clip's corpus is what stands
    before the `/` of its person, or the only one of its report. Raises UserError where one person is in two groups.
    """
    trained = {corpus for report in reports if report.split == "train" for corpus in _of_clips(report)}
    groups: dict[str, list[ClipScore]] = {}
    for report in sorted(reports, key=lambda report: report.split != "train"):
        for clip in report.clips:
            if clip.reason is None:
                groups.setdefault(_group(report, clip, trained), []).append(clip)
    group_of: dict[str, str] = {}
    for name, clips in groups.items():
        for clip in clips:
            if group_of.setdefault(clip.person, name) != name:
                raise UserError(
                    f"{clip.person} is in '{group_of[clip.person]}' and in '{name}'; name reports of one split"
                )
    return groups


def _group(report: Scored, clip: ClipScore, trained: set[str]) -> str:
    corpus = _corpus(report, clip)
    if report.split == "train":
        return SEEN
    own = {"unseen": UNSEEN, "val": "validation people"}.get(report.split, report.split)
    if corpus in trained:
        return own
    return f"{OTHER} {corpus}" if trained else f"{own} of {corpus}"


def _of_clips(report: Scored) -> set[str]:
    return {_corpus(report, clip) for clip in report.clips}


def _corpus(report: Scored, clip: ClipScore) -> str:
    before, slash, _ = clip.person.partition("/")
    if len(report.corpora) == 1:
        return report.corpora[0]
    return before if slash and before in report.corpora else "unknown corpus"


def entries(groups: Mapping[str, list[ClipScore]], row: str, metric: str) -> dict[str, dict[str, Any]]:
    """Every group's entry of one metric of one row, as a report has them; without groups that lack it."""
    entry_of = {}
    for name, clips in groups.items():
        people = len({clip.person for clip in clips})
        pairs = [(c.person, c.methods[row][metric]) for c in clips if metric in c.methods.get(row, {})]
        if pairs:
            entry_of[name] = intervals.over_people(pairs, people)
        elif metric in OVER_PEOPLE:
            with contextlib.suppress(Miss):  # too few people, or people who do not differ
                entry_of[name] = PEOPLE_METRICS[metric].compute(build.clips_of(row, clips), people)
    return entry_of


def gap(group: list[ClipScore], reference: list[ClipScore], row: str, metric: str) -> dict[str, Any] | None:
    """Group minus reference: `mean`, `ci95` (None where a side has one person); None where a side lacks the metric."""
    sides = [
        list(
            intervals.person_means(
                (c.person, c.methods[row][metric]) for c in s if metric in c.methods.get(row, {})
            ).values()
        )
        for s in (group, reference)
    ]
    if not all(sides):
        return None
    mean = fmean(sides[0]) - fmean(sides[1])
    return {"mean": mean, "ci95": welch(*sides) if min(map(len, sides)) > 1 else None}


def welch(one: list[float], other: list[float]) -> list[float]:
    """The 95 % interval of mean(one) - mean(other), two values or more each."""
    from scipy.special import stdtrit

    mean = fmean(one) - fmean(other)
    shares = [variance(side) / len(side) for side in (one, other)]
    whole = sum(shares)
    if whole == 0:
        return [mean, mean]
    freedom = whole**2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, (one, other)))
    half = float(stdtrit(freedom, (1 + intervals.CONFIDENCE) / 2)) * math.sqrt(whole)
    return [mean - half, mean + half]
