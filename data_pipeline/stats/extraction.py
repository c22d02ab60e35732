"""What ledgers tell: files, sources and spans by state, rejected spans to show, the spread of their facts.

Read as a stream: what is kept of it is bounded, however long it is.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.shards import ledger
from data_pipeline.shards.ledger import KEPT, REJECTED
from data_pipeline.stats.histogram import Sample
from data_pipeline.stats.thresholds import SECONDS
from data_pipeline.storage.store import Store
from mytalk.face.landmarks import FRAME_HZ

MOST_LISTED = 200  # failures, and skipped files
MOST_SHOWN = 12  # rejected spans of a rule
PIECE = 10_000  # spans whose values are handed on at once


class Failure(NamedTuple):
    """A source without a clip (or a third-party tar, or a sample of one), or a skipped file."""

    name: str
    reason: str
    message: str


class RejectedSpan(NamedTuple):
    """A rejected span that has a picture: member `thumb` of the thumbnails of its shard."""

    source: str
    start_s: float
    seconds: float
    track: int | None
    value: float | None
    shard: int
    thumb: str
    ledger: int = 0  # which of several


@dataclass
class RuleYield:
    """The spans in one state: how many, how long, and for a rule its limits and the values that it rejected.

    A limit to the left side and the values beyond it are told as their mirror images.
    """

    spans: int = 0
    frames: int = 0
    limits: set[float] = field(default_factory=set)
    values: Sample = field(default_factory=Sample)
    shown: list[tuple[int, RejectedSpan]] = field(default_factory=list)  # a heap, the spans with the largest digests

    @property
    def hours(self) -> float:
        return self.frames / FRAME_HZ / 3600

    def show(self, digest: int, span: RejectedSpan) -> None:
        """Show this span, unless MOST_SHOWN with smaller digests are shown: a sample that does not depend on order."""
        heapq.heappush(self.shown, (-digest, span))
        if len(self.shown) > MOST_SHOWN:
            heapq.heappop(self.shown)


@dataclass
class Extraction:
    """The ledger in numbers. `failed` and `skipped` are by reason; failures and skipped files are listed up to a bound.

    `yields`: of each state of spans. `facts`: the spread of each fact over the rejected spans.
    """

    sources: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_files: list[Failure] = field(default_factory=list)
    yields: dict[str, RuleYield] = field(default_factory=dict)
    facts: dict[str, Sample] = field(default_factory=dict)
    stores: tuple[Store, ...] = ()  # of the ledgers

    @property
    def spans(self) -> int:
        return sum(found.spans for found in self.yields.values())

    @property
    def hours(self) -> float:
        """Of all spans, kept or not."""
        return sum(found.hours for found in self.yields.values())

    def rules(self) -> dict[str, RuleYield]:
        """The rules that rejected spans, the one that cost most first."""
        rejecting = [(rule, found) for rule, found in self.yields.items() if rule != KEPT]
        return dict(sorted(rejecting, key=lambda item: (-item[1].frames, item[0])))


def read(*stores: Store) -> Extraction | None:
    """What the ledgers of some folders tell; None where none has one. Raises UserError, OSError."""
    found, shard, empty = Extraction(stores=stores), 0, True
    for number, row in ((number, row) for number, store in enumerate(stores) for row in ledger.read(store)):
        empty = False
        if "span_of" in row:
            _add_span(found, row, shard, number)
        elif "skipped" in row:
            found.skipped[row["reason"]] += 1
            _list(found.skipped_files, row["skipped"], row)
        elif row.get("state") == REJECTED:
            found.sources += "source" in row
            found.failed[row.get("reason", REJECTED)] += 1
            _list(found.failures, row.get("source") or row.get("tar") or row.get("key") or "", row)
        elif "source" in row:
            found.sources += 1
        shard = row.get("shard", shard) if "source" in row else shard
    for name, values_n in rejected_values(stores):
        found.facts.setdefault(name, Sample()).add(values_n)
    return None if empty else found


def rejected_values(stores: Iterable[Store]) -> Iterator[tuple[str, np.ndarray]]:
    """The measured facts of all rejected spans: (name, values (n,)), in pieces. Raises UserError, OSError."""
    values: dict[str, list[float]] = {}
    spans = 0
    for row in (row for store in stores for row in ledger.read(store)):
        if "span_of" not in row or row["state"] == KEPT:
            continue
        values.setdefault(SECONDS, []).append(_seconds(row))
        for name, value in row.get("facts", {}).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                values.setdefault(name, []).append(value)
        spans += 1
        if spans % PIECE == 0:
            yield from ((name, np.array(piece, float)) for name, piece in values.items())
            values = {}
    yield from ((name, np.array(piece, float)) for name, piece in values.items())


def _add_span(found: Extraction, row: dict[str, Any], shard: int, number: int) -> None:
    of_state = found.yields.setdefault(row["state"], RuleYield())
    of_state.spans += 1
    of_state.frames += row["stop"] - row["start"]
    value = row.get("value")
    if value is not None:
        side = -1 if row.get("limit", 0) < 0 else 1
        of_state.values.add(np.array([side * value], float))
        of_state.limits |= {side * row["limit"]} if "limit" in row else set()
    if "thumb" in row:
        place = row["start"] / FRAME_HZ, _seconds(row), row.get("track")
        digest = zlib.crc32(f"{row['span_of']}\0{row['start']}\0{row.get('track')}".encode())
        of_state.show(digest, RejectedSpan(row["span_of"], *place, value, shard, row["thumb"], number))


def _seconds(row: dict[str, Any]) -> float:
    return (row["stop"] - row["start"]) / FRAME_HZ


def _list(failures: list[Failure], name: str, row: dict[str, Any]) -> None:
    if len(failures) < MOST_LISTED:
        failures.append(Failure(name, row.get("reason", ""), row.get("message", "")))
