"""The page of `stats`: what a corpus holds and why, with pictures. It needs no other file and no network.

`page.html.j2` is the page; here is what it shows. Its size is bounded: so many pictures of a rule, so many people, so
many failures, and how many more there are. The template escapes all text.
"""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_pipeline.page.html import data_uri, render
from data_pipeline.shards.ledger import KEPT
from data_pipeline.stats import charts, pictures
from data_pipeline.stats.clips import SPEAKS, Person
from data_pipeline.stats.extraction import Extraction, RejectedSpan, RuleYield
from data_pipeline.stats.findings import duration, findings, number
from data_pipeline.stats.spread import MOST_NEAR, NearMisses, Placed, Spread
from data_pipeline.stats.survey import Survey
from data_pipeline.stats.text import limits, measured, share
from data_pipeline.stats.thresholds import NEAR

TEMPLATE = Path(__file__).with_name("page.html.j2")
MOST_PEOPLE = 60


def html(survey: Survey) -> str:
    """The whole page. Raises OSError, UserError."""
    people = list(survey.people.largest(MOST_PEOPLE))
    rows = [*(person.row for person in people)]
    rows += [clip.row for near in survey.near for clip in (*near.nearest, *near.beyond)]
    varying = [spread for spread in survey.spreads if spread.thresholds or spread.varies]
    clip_pictures, found = pictures.of_clips(survey.manifest, rows), survey.extraction
    return render(
        TEMPLATE,
        folder=str(survey.manifest.folder),
        whole=survey.whole,
        totals=survey.totals,
        duration=duration,
        labels=sorted(survey.labels.items(), key=lambda item: (item[0] != SPEAKS, -item[1])),
        findings=findings(survey),
        found=found,
        throughput=survey.throughput,
        states=_states(found) if found else [],
        near_percent=round(100 * NEAR),
        rules=_rules(survey, clip_pictures),
        spreads=[_spread(spread) for spread in sorted(varying, key=lambda spread: not spread.thresholds)],
        constants=[
            (spread.name, number(spread.median)) for spread in survey.spreads if spread not in varying and spread.median
        ],
        people=[_person(person, clip_pictures) for person in people],
        more_people=len(survey.people) - len(people),
    )


def _states(found: Extraction) -> list[dict[str, Any]]:
    """A row of the table of yields for each state, the kept spans first."""
    names = [*([KEPT] if KEPT in found.yields else []), *found.rules()]
    states = [(name, found.yields[name]) for name in names]
    return [
        {
            "name": name,
            "spans": of_state.spans,
            "hours": of_state.hours,
            "share": share(of_state, found),
            "measured": measured(of_state),
        }
        for name, of_state in states
    ]


def _rules(survey: Survey, clip_pictures: dict[int, bytes]) -> list[dict[str, Any]]:
    """Every rule that rejected spans or has a limit, with the pictures of rejected and nearly rejected clips."""
    rejecting = survey.extraction.rules() if survey.extraction else {}
    near: dict[str, list[NearMisses]] = {}
    for misses in survey.near:
        near.setdefault(misses.threshold.rule.name, []).append(misses)
    shown = {rule: [span for _, span in of_rule.shown] for rule, of_rule in rejecting.items()}
    stores = survey.extraction.stores if survey.extraction else ()
    thumbs = pictures.of_rejected(stores, [span for spans in shown.values() for span in spans])
    rules = []
    for name in dict.fromkeys([*rejecting, *near]):
        of_rule, of_facts = rejecting.get(name), near.get(name, [])
        count = sum(misses.count for misses in of_facts)
        labelled = sum(misses.beyond_count for misses in of_facts)
        spans = sorted((span for span in shown.get(name, ()) if span in thumbs), key=_by_value)
        if not (of_rule or count or labelled):
            continue
        rules.append(
            {
                "name": name,
                "limit": _limit(of_facts, of_rule),
                "spans": of_rule.spans if of_rule else 0,
                "rejected": [_rejected(span, thumbs[span]) for span in spans],
                "near_count": count,
                "near": _nearest(survey, [(near, near.nearest) for near in of_facts], clip_pictures),
                "labelled_count": labelled,
                "labelled": _nearest(survey, [(near, near.beyond) for near in of_facts], clip_pictures),
            }
        )
    return rules


def _by_value(span: RejectedSpan) -> tuple[bool, float, str]:
    return span.value is None, span.value or 0.0, span.source


def _rejected(span: RejectedSpan, jpeg: bytes) -> dict[str, Any]:
    track = "" if span.track is None else f", track {span.track}"
    place = f"{span.source}, {span.start_s:.1f} s{track}, {span.seconds:.1f} s long"
    return _tile("" if span.value is None else number(span.value), place, jpeg)


def _limit(of_facts: list[NearMisses], of_rule: RuleYield | None) -> str:
    """The limit of a rule with its facts; without them, as the ledger has it."""
    if not of_facts:
        return f"limit {limits(of_rule)}" if of_rule and of_rule.limits else ""
    read = []
    for rule, limit in (misses.threshold for misses in of_facts):
        read.append(f"{rule.fact} {rule.rejects} {'±' if rule.sides else ''}{number(limit)}")
    return " or ".join(read)


def _nearest(
    survey: Survey, of_facts: list[tuple[NearMisses, list[Placed]]], clip_pictures: dict[int, bytes]
) -> list[dict[str, Any]]:
    """The kept clips nearest to a rule's limit, by whichever of its facts."""
    placed = [(clip.order, near.threshold.rule.fact, clip) for near, clips in of_facts for clip in clips]
    fact_names = {fact: f"{fact} " if len(of_facts) > 1 else "" for _, fact, _ in placed}
    return [
        _tile(
            f"{fact_names[fact]}{number(clip.value)}",
            str(survey.manifest.at(clip.row, "key")),
            clip_pictures.get(clip.row),
        )
        for _, fact, clip in heapq.nsmallest(MOST_NEAR, placed)
    ]


def _person(person: Person, clip_pictures: dict[int, bytes]) -> dict[str, Any]:
    clips = "1 clip" if person.clips == 1 else f"{person.clips} clips"
    return _tile(f"{clips}, {duration(person.seconds / 3600)}", person.name, clip_pictures.get(person.row))


def _tile(value: str, name: str, jpeg: bytes | None) -> dict[str, Any]:
    """A picture with its value and what it is of."""
    return {"value": value, "name": name, "picture": data_uri("image/jpeg", jpeg) if jpeg else None}


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "name": spread.name,
        "unit": spread.unit,
        "median": "" if spread.median is None else number(spread.median),
        "beyond": spread.histogram.beyond,
        "chart": Markup(charts.histogram(spread)),
    }
