"""The ledgers of an extraction: files, sources and spans. Each ends in one state, and all three add up.

A file below the corpus's folder is a source or skipped; a source is extracted or rejected; a span is kept or rejected.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.schema import FORMAT, HEADER, SCHEMA
from data_pipeline.storage.store import Store
from mytalk import atomic
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ

FILE = "ledger.jsonl"
EXTRACTED, REJECTED = "extracted", "rejected"  # states of a source
PLACE = ("track", "start_frame")  # facts that say, with the source and the length, which span a clip is
KEPT = "kept"  # the state of a span that became a clip; other states are the rules that rejected it


class LedgerError(AssertionError):
    """The counts do not add up: something was lost or counted twice."""


@dataclass
class ExtractionCounts:
    """Counts of a whole extraction. `skipped` and `rejected` are by reason, `spans` by state, frames at 25 fps."""

    skipped: Counter[str] = field(default_factory=Counter)
    sources: int = 0
    extracted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    clips: int = 0
    kept_frames: int = 0

    @property
    def hours(self) -> float:
        """Hours of the kept clips."""
        return self.kept_frames / FRAME_HZ / 3600


def balance(
    listed: Iterable[str],
    parts: Iterable[dict[str, Any]],
    files: Iterable[str] = (),
    skipped: Mapping[str, str] | None = None,
) -> ExtractionCounts:
    """The counts of all parts, checked against the list of sources, and that against the `files` to try.

    `skipped`: the reason of every path that is no source. Raises LedgerError unless each of the files is listed or
    skipped and nothing is both, every listed source ends in exactly one state with a reason where rejected,
    the sources that have a kept span are the extracted ones, kept spans and clips correspond one to one,
    and no two clips share a key.
    """
    listed, skipped = list(listed), skipped or {}
    counts = ExtractionCounts(Counter(skipped.values()), len(listed))
    if both := skipped.keys() & set(listed):
        raise LedgerError(f"{min(both)} is a source and skipped")
    if lost := set(files) - skipped.keys() - set(listed):
        raise LedgerError(f"{min(lost)} is neither a source nor skipped")
    seen: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    for part in parts:
        clips = Counter((c["facts"]["source"], *(c["facts"][n] for n in PLACE), c["frames"]) for c in part["clips"])
        keys.update(clip["key"] for clip in part["clips"])
        kept: Counter[tuple[str, int, int, int]] = Counter()
        for row in part["sources"]:
            seen[row["source"]] += 1
            for span in row["spans"]:
                counts.spans[span["state"]] += 1
                if span["state"] == KEPT:
                    frames = span["stop"] - span["start"]
                    kept[row["source"], span["track"], span["start"], frames] += 1
                    counts.kept_frames += frames
            has_clip = any(span["state"] == KEPT for span in row["spans"])
            if row["state"] == EXTRACTED and has_clip:
                counts.extracted += 1
            elif row["state"] == REJECTED and not has_clip and row.get("reason"):
                counts.rejected[row["reason"]] += 1
            else:
                raise LedgerError(f"source {row['source']} is in no proper state: {row['state']}")
        if clips != kept:
            raise LedgerError(f"shard {part['shard']}: {kept.total()} kept spans, {clips.total()} clips")
        counts.clips += len(part["clips"])
    missing = [path for path in listed if path not in seen]
    if missing:
        raise LedgerError(f"{len(missing)} sources without a state, the first is {missing[0]}")
    if seen.total() != counts.sources or counts.sources != counts.extracted + counts.rejected.total():
        raise LedgerError(f"{counts.sources} sources listed, {seen.total()} in the ledger")
    if counts.clips != counts.spans[KEPT]:
        raise LedgerError(f"{counts.spans[KEPT]} spans kept, {counts.clips} clips")
    if len(keys) != counts.clips:
        raise LedgerError(f"{keys.most_common(1)[0][0]} is the key of more than one clip")
    return counts


def write(out: Path, parts: Iterable[dict[str, Any]], skipped: Mapping[str, str] | None = None) -> None:
    """Write OUT/ledger.jsonl: a line per source (state, reason, message) and its spans; then the skipped paths."""
    with atomic.file(out / FILE, "w") as handle:
        for part in parts:
            for row in part["sources"]:
                line = {"shard": part["shard"], **{k: v for k, v in row.items() if k != "spans"}}
                handle.write(json.dumps(line, sort_keys=True) + "\n")
                for span in row["spans"]:
                    handle.write(json.dumps({"span_of": row["source"], **span}, sort_keys=True) + "\n")
        for path, reason in sorted((skipped or {}).items()):
            handle.write(json.dumps({"skipped": path, "reason": reason}, sort_keys=True) + "\n")


def read(store: Store) -> Iterator[dict[str, Any]]:
    """The lines of a folder's ledger in order; none where there is no ledger. Raises UserError where it is damaged."""
    if not store.exists(FILE):
        return
    lines = open(Path(store.root) / FILE, "rb") if store.local else io.BytesIO(store.whole(FILE))  # noqa: SIM115
    with lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                raise UserError(
                    f"{store.shown}/{FILE} is damaged in line {number}; type the extract command again"
                ) from None
            yield row


def manifest_of(folder: str, store: Store) -> Manifest:
    """The manifest of a folder; an empty one where an extraction that gave no clip left a ledger alone.

    Raises UserError, OSError.
    """
    if not store.exists(HEADER) and store.exists(FILE):
        return Manifest(folder, {"format": FORMAT}, SCHEMA.empty_table(), store=store)
    return Manifest.load(folder, store)


def table(counts: ExtractionCounts) -> str:
    """The closing lines: files, sources and spans by state, clips and hours."""
    skipped = "".join(f", {n} {reason}" for reason, n in sorted(counts.skipped.items()))
    reasons = "".join(f", {n} {reason}" for reason, n in sorted(counts.rejected.items()))
    states = "".join(f", {n} {state}" for state, n in sorted(counts.spans.items()) if state != KEPT)
    return (
        f"files    {counts.sources + counts.skipped.total()} = {counts.sources} sources + {counts.skipped.total()} "
        f"skipped{_in_brackets(skipped)}\n"
        f"sources  {counts.sources} = {counts.extracted} extracted + {counts.rejected.total()} rejected"
        f"{_in_brackets(reasons)}\n"
        f"spans    {counts.spans.total()} = {counts.spans[KEPT]} kept + "
        f"{counts.spans.total() - counts.spans[KEPT]} rejected{_in_brackets(states)}\n"
        f"clips    {counts.clips}, {counts.hours:.3g} hours"
    )


def _in_brackets(listed: str) -> str:
    return f" ({listed[2:]})" if listed else ""
