"""What to look at first: the largest losses, then what is unusual, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data_pipeline.stats.clips import SPEAKS, UNKNOWN
from data_pipeline.stats.extraction import Extraction, RuleYield
from data_pipeline.stats.survey import Survey

MOST_NAMES = 5
MOST_UNUSUAL = 6  # facts with clips that stand apart
LARGE_SHARE = 0.5  # of a corpus that is one person's


class Finding(NamedTuple):
    """A heading of two or three words, and a sentence."""

    tag: str
    text: str


def findings(survey: Survey) -> list[Finding]:
    """What a person should look at, the most important first."""
    found = survey.extraction
    return [*(_losses(found) if found else ()), *_speech(survey), *_people(survey), *_unusual(survey)]


def _losses(found: Extraction) -> Iterator[Finding]:
    for rule, of_rule in list(found.rules().items())[:1]:
        share = of_rule.hours / found.hours if found.hours else 0.0
        yield Finding(
            "Largest loss",
            f"{rule} takes {duration(of_rule.hours)} of the {duration(found.hours)} in which a face was found, "
            f"{share:.0%}{_against(of_rule)}",
        )
    if found.failed:
        count, listed = found.failed.total(), some(f"{reason} {n}" for reason, n in found.failed.most_common())
        yield Finding("Without a clip", f"{count} of {found.sources or count} sources gave no clip: {listed}")
    unread = {reason: n for reason, n in found.skipped.items() if reason in ("not_readable", "unfinished", "missing")}
    if unread:
        listed = ", ".join(f"{reason} {n}" for reason, n in sorted(unread.items()))
        yield Finding("Files not read", f"{sum(unread.values())} files that may be videos were skipped: {listed}")


def _against(of_rule: RuleYield) -> str:
    if len(of_rule.limits) != 1 or not of_rule.values.count:
        return ""
    (median,), (limit,) = of_rule.values.quantiles([0.5]), of_rule.limits
    return f"; half of what it rejects measures up to {number(median)}, its limit is {number(limit)}"


def _speech(survey: Survey) -> Iterator[Finding]:
    silent = {label: n for label, n in survey.labels.items() if label not in (SPEAKS, UNKNOWN)}
    if silent:
        listed = ", ".join(f"{label} {n}" for label, n in sorted(silent.items(), key=lambda item: -item[1]))
        count = sum(silent.values())
        yield Finding(
            "No speech", f"{count} of {survey.whole.clips} clips are left out by motion and syncnet: {listed}"
        )


def _people(survey: Survey) -> Iterator[Finding]:
    people, whole = survey.people, survey.whole
    if len(people) > 1 and (largest := next(people.largest(1))).seconds / 3600 > LARGE_SHARE * whole.hours:
        yield Finding("One person", f"{largest.name} has {largest.seconds / 36 / whole.hours:.0f} % of the hours")
    if alone := people.with_one_clip():
        yield Finding(
            "One clip",
            f"{len(alone)} of {whole.people} people have a single clip: {some(alone)}; no second clip of "
            "them can serve as reference",
        )


def _unusual(survey: Survey) -> Iterator[Finding]:
    apart = [spread for spread in survey.spreads if spread.apart]
    for spread in sorted(apart, key=lambda spread: spread.apart[0].order)[:MOST_UNUSUAL]:
        named = [f"{survey.manifest.at(clip.row, 'key')} {number(clip.value)}" for clip in spread.apart]
        yield Finding(f"Unusual {spread.name}", f"median {number(spread.median or 0.0)}, but {some(named)}")


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def number(value: float) -> str:
    """A measured value, to four digits, without a power of ten where it can be avoided."""
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        return digits.replace("-", "\N{MINUS SIGN}")
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def duration(hours: float) -> str:
    """Hours, or minutes or seconds where they are few."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"
