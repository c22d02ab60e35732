"""The tables of `stats` on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_pipeline.stats.clips import SPEAKS
from data_pipeline.stats.extraction import Extraction, RuleYield
from data_pipeline.stats.findings import duration, findings, number
from data_pipeline.stats.survey import Survey


def lines(survey: Survey) -> Iterator[str]:
    """The whole survey as text, line by line."""
    rows = [(t.corpus, duration(t.hours), t.people, t.sources, t.clips) for t in survey.totals]
    yield from table(("corpus", "length", "people", "sources", "clips"), rows)
    if survey.labels:
        listed = sorted(survey.labels.items(), key=lambda item: (item[0] != SPEAKS, -item[1]))
        yield f"speech   {', '.join(f'{n} {label}' for label, n in listed)}"
    yield ""
    if survey.extraction is None or not survey.extraction.sources:
        yield "no ledger of spans lies here: what was rejected is known where extract wrote"
    if survey.throughput is not None:
        yield f"frames   {survey.throughput}\n"
    if survey.extraction is not None:
        yield from _extraction(survey.extraction)
    looked = findings(survey)
    yield from ["", "look at first"] if looked else []
    yield from (f"  {finding.tag}: {finding.text}" for finding in looked)


def _extraction(found: Extraction) -> Iterator[str]:
    if found.spans:
        states = dict(sorted(found.yields.items(), key=lambda item: (item[0] != "kept", -item[1].frames)))
        rows = [(state, n.spans, duration(n.hours), share(n, found), *measured(n)) for state, n in states.items()]
        yield from table(("spans", "count", "length", "share", "median value", "limit"), rows)
    for name, counted in (("sources without a clip", found.failed), ("files skipped", found.skipped)):
        if counted:
            yield ""
            yield from table((name, "count"), counted.most_common())


def share(of_state: RuleYield, found: Extraction) -> str:
    """The share of the length of all spans."""
    return f"{of_state.hours / found.hours:.1%}" if found.hours else ""


def measured(of_state: RuleYield) -> tuple[str, str]:
    """The median of the values that a rule rejected, and its limits; empty where unknown."""
    median = number(of_state.values.quantiles([0.5])[0]) if of_state.values.count else ""
    return median, limits(of_state)


def limits(of_state: RuleYield) -> str:
    """The limits of a rule; it has several where it compares several facts."""
    return " or ".join(number(limit) for limit in sorted(of_state.limits))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lines of columns, the first to the left and numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))
        yield "  ".join([row[0].ljust(widths[0]), *rest]).rstrip()
