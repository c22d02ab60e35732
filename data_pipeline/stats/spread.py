"""How every fact is spread over kept and rejected clips, which kept ones are near a limit, and which stand apart.

The manifest is read twice in batches: for the range of each fact, then to count. Shape suffixes: n clips.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_pipeline.shards.facts import FACTS
from data_pipeline.shards.layout import FRAMES_PX, MEMBERS
from data_pipeline.shards.manifest import Manifest
from data_pipeline.stats import extraction
from data_pipeline.stats.extraction import Extraction
from data_pipeline.stats.histogram import Histogram, Sample, edges
from data_pipeline.stats.thresholds import NEAR, SECONDS, Threshold, by_fact
from mytalk.face.landmarks import FRAME_HZ

MOST_NEAR = 12  # kept clips shown beside a rule
MOST_APART = 3  # clips named for a fact
APART = 5  # interquartile ranges from the median
# Numbers that say where a clip is, and how it is kept.
NO_FACTS = {"frames", "shard", "track", "start_frame", "stop_frame", "crop_px", FRAMES_PX}
UNITS = {fact.name: fact.unit for fact in FACTS} | {SECONDS: "s", "source_fps": "pictures a second"}


class Placed(NamedTuple):
    """A clip by its row, with the value of a fact; the nearest (or the most unusual) comes first."""

    order: float
    row: int
    value: float


@dataclass
class NearMisses:
    """Kept clips within NEAR of a limit: how many, and the nearest of them.

    `beyond`: of a rule that labels, the clips on the other side of its limit, the nearest first, and how many.
    """

    threshold: Threshold
    count: int = 0
    nearest: list[Placed] = field(default_factory=list)
    beyond_count: int = 0
    beyond: list[Placed] = field(default_factory=list)

    def add(self, values_n: np.ndarray, first_row: int) -> None:
        """Look at some more clips."""
        distance_n = self.threshold.distance(values_n)
        near, beyond = np.flatnonzero((distance_n >= 0) & (distance_n <= NEAR)), np.flatnonzero(distance_n < 0)
        self.count += len(near)
        self.nearest = _nearest(self.nearest, near, distance_n, values_n, first_row)
        if self.threshold.rule.labels:
            self.beyond_count += len(beyond)
            self.beyond = _nearest(self.beyond, beyond, -distance_n, values_n, first_row)


def _nearest(
    so_far: list[Placed], places: np.ndarray, distance_n: np.ndarray, values_n: np.ndarray, first_row: int
) -> list[Placed]:
    """The MOST_NEAR clips with the smallest distances: of those so far, and of those at these places."""
    places = places[np.argsort(distance_n[places], kind="stable")[:MOST_NEAR]]
    placed = (Placed(float(distance_n[i]), first_row + int(i), float(values_n[i])) for i in places)
    return heapq.nsmallest(MOST_NEAR, [*so_far, *placed])


@dataclass
class Spread:
    """One fact: its histogram with the limits, the kept clips' median, and the clips that stand apart from it."""

    name: str
    unit: str
    thresholds: list[Threshold]
    histogram: Histogram
    median: float | None = None
    range: float = 0.0  # between the quartiles
    apart: list[Placed] = field(default_factory=list)

    @property
    def varies(self) -> bool:
        """Whether not all values lie in one bin."""
        return bool(np.count_nonzero(self.histogram.kept_B + self.histogram.rejected_B) > 1 or self.histogram.beyond)

    def add(self, values_n: np.ndarray, first_row: int) -> None:
        """Count some more kept clips."""
        self.histogram.add(values_n)
        if self.median is None or self.range <= 0:
            return
        far_n = np.nan_to_num(np.abs(values_n - self.median) / self.range)
        placed = (
            Placed(-float(far_n[i]), first_row + int(i), float(values_n[i])) for i in np.flatnonzero(far_n > APART)
        )
        self.apart = heapq.nsmallest(MOST_APART, [*self.apart, *placed])


def spreads(
    manifest: Manifest, found: Extraction | None, thresholds: list[Threshold]
) -> tuple[list[Spread], list[NearMisses]]:
    """The spread of every numeric fact, and the near misses of every threshold. Raises UserError, OSError."""
    rejected = found.facts if found else {}
    kept: dict[str, Sample] = {}
    for _, values in _batches(manifest):
        for name, values_n in values.items():
            kept.setdefault(name, Sample()).add(values_n)
    limits, by_name = by_fact(thresholds), {}
    for name in dict.fromkeys([*kept, *rejected]):
        samples = kept.get(name, Sample()), rejected.get(name, Sample())
        if any(sample.count for sample in samples):
            by_name[name] = _spread(name, limits.get(name, []), *samples)
    near = [NearMisses(threshold) for threshold in thresholds]
    for first_row, values in _batches(manifest):
        for name in by_name.keys() & values.keys():
            by_name[name].add(values[name], first_row)
        for misses in near:
            if misses.threshold.rule.fact in values:
                misses.add(values[misses.threshold.rule.fact], first_row)
    for name, values_n in extraction.rejected_values(found.stores) if found else ():
        by_name[name].histogram.add(values_n, rejected=True)
    return list(by_name.values()), near


def _spread(name: str, thresholds: list[Threshold], kept: Sample, rejected: Sample) -> Spread:
    places = [place for threshold in thresholds for place in threshold.places()]
    histogram = Histogram(edges(kept, rejected, places))
    if not kept.count:
        return Spread(name, UNITS.get(name, ""), thresholds, histogram)
    low, median, high = kept.quantiles((0.25, 0.5, 0.75))
    return Spread(name, UNITS.get(name, ""), thresholds, histogram, median, high - low)


def _batches(manifest: Manifest) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(first row, numeric facts as float64 (n,), NaN where missing) of some clips at a time."""
    first_row, names = 0, _numeric(manifest)
    for batch in manifest.batches(["frames", *names]) if len(manifest) else ():
        values = {SECONDS: batch["frames"].to_numpy() / FRAME_HZ}
        values |= {name: batch[name].cast(pa.float64()).to_numpy() for name in names}
        yield first_row, values
        first_row += len(batch)


def _numeric(manifest: Manifest) -> list[str]:
    """The columns that are numbers and facts."""
    members = [*MEMBERS, *manifest.header.get("members", {})]
    places = {f"{member}_{what}" for member in members for what in ("offset", "size")}
    return [name for name, kind in manifest.types.items() if name not in NO_FACTS | places and _is_number(kind)]


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
