"""Everything that `stats` knows of a folder of shards: gathered once, for the terminal and for the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.extract.listing import sources
from data_pipeline.shards import ledger, throughput
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.schema import HEADER, INDEXED
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
    manifest = ledger.manifest_of(folder, store)
    stores = list(_stores(store, manifest.header))
    found = extraction.read(*stores)
    yields = found.yields if found else {}
    seen = {rule: min(of_rule.limits) for rule, of_rule in yields.items() if of_rule.limits}
    limits = thresholds(_rules(stores), seen)
    spreads, near = spread.spreads(manifest, found, limits)
    people = People.of(manifest)
    return Survey(
        manifest, clips.totals(manifest), clips.labels(manifest), people, found, spreads, near, throughput.total(stores)
    )


def _stores(store: Store, header: dict[str, Any]) -> Iterator[Store]:
    """The folder, and those of which it is an index, where they are still there; each has a ledger of its own."""
    yield store
    shards = header.get(INDEXED, {}).get("shards", [])
    for name in dict.fromkeys(row["folder"] for row in shards if "folder" in row):
        one = Store(Path(store.root) / name) if store.local else Store(f"{store.root}/{name}")
        if one.exists(HEADER):
            yield from _stores(one, json.loads(one.whole(HEADER)))


def _rules(stores: list[Store]) -> dict[str, Any]:
    """The limits by which the folders were extracted, by name, as far as all have them alike."""
    said = [json.loads(store.whole(sources.FILE)).get("settings", {}) for store in stores if store.exists(sources.FILE)]
    return {name: value for name, value in (said or [{}])[0].items() if all(one.get(name) == value for one in said)}
