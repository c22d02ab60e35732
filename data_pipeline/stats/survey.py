"""Everything that `stats` knows of a folder of shards: gathered once, for the terminal and for the page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from data_pipeline.extract.listing import sources
from data_pipeline.shards import ledger, throughput
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.throughput import Throughput
from data_pipeline.stats import clips, extraction, spread
from data_pipeline.stats.clips import People, Totals
from data_pipeline.stats.extraction import Extraction
from data_pipeline.stats.spread import NearMisses, Spread
from data_pipeline.stats.thresholds import thresholds
from data_pipeline.storage.store import Store


@dataclass(frozen=True)
class Survey:
    """A folder's clips by its manifest, and what its ledger tells (None: it has none)."""

    manifest: Manifest
    totals: list[Totals]
    labels: Counter[str]
    people: People
    extraction: Extraction | None
    spreads: list[Spread]
    near: list[NearMisses]
    throughput: Throughput | None = None  # of the extraction, where it is known

    @property
    def whole(self) -> Totals:
        """The totals of all corpora."""
        return self.totals[-1]


def survey(folder: str) -> Survey:
    """Read a folder, or URL, of shards. Raises UserError where it has neither manifest nor ledger, OSError."""
    store = Store(folder)
    manifest, found = ledger.manifest_of(folder, store), extraction.read(store)
    yields = found.yields if found else {}
    seen = {rule: min(of_rule.limits) for rule, of_rule in yields.items() if of_rule.limits}
    limits = thresholds(_rules(store), seen)
    spreads, near = spread.spreads(manifest, found, limits)
    people = People.of(manifest)
    return Survey(
        manifest, clips.totals(manifest), clips.labels(manifest), people, found, spreads, near, throughput.total(store)
    )


def _rules(store: Store) -> dict[str, Any]:
    """The limits by which the folder was extracted, by name; empty where it does not say."""
    if not store.exists(sources.FILE):
        return {}
    return json.loads(store.whole(sources.FILE)).get("settings", {})
