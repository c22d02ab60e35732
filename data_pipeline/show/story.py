"""What extraction made of one source, from the ledger and the manifest: its spans with their verdicts, its cuts.

Shape suffixes: 23 an affine matrix from px of the source to px of the crop, 3 = (x, y, side).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data_pipeline.shards import ledger
from data_pipeline.shards.ledger import KEPT
from data_pipeline.shards.manifest import Manifest
from data_pipeline.storage.store import Store
from mytalk.command import UserError
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX

MOST_LANES = 8  # of the timeline, where each track has one
GOOD, SILENT, BAD = (70, 210, 110), (255, 205, 60), (255, 90, 80)  # kept; kept but not speaking; rejected
LABELS = {"speaks": "speaks", "why_silent": "{}", "speaking": "speaking {:.2f}"}  # columns -> how they are written


@dataclass(frozen=True)
class DrawnSpan:
    """Frames [start, stop) of a track, the words beside its box, and its colour. `row`: of the clip that it became.

    `box_3` is in px of the source; None where the ledger is of a time that had none.
    """

    start: int
    stop: int
    track: int
    words: str
    colour: tuple[int, int, int]
    box_3: tuple[float, float, float] | None
    row: int | None


@dataclass(frozen=True)
class Story:
    """What the ledger and the manifest say of one source: its spans in order, the frames at which a shot begins."""

    manifest: Manifest
    source: str
    state: str
    frames: int
    cuts: list[int]
    spans: list[DrawnSpan]

    @cached_property
    def lanes(self) -> dict[int, int]:
        """The lane of each track in the timeline; later tracks share the lanes of earlier ones."""
        tracks = sorted({span.track for span in self.spans})
        return {track: place % MOST_LANES for place, track in enumerate(tracks)}


def story(folder: str, source: str) -> Story:
    """What became of a source. Raises UserError, with the nearest names, where the folder knows no such source."""
    manifest = ledger.manifest_of(folder, Store(folder))
    rows, of_source = _clips(manifest, source), None
    spans: list[dict[str, Any]] = []
    known: set[str] = set()
    for line in ledger.read(manifest.store):
        if line.get("span_of") == source:
            spans.append(line)
        elif "source" in line:
            known.add(line["source"])
            of_source = line if line["source"] == source else of_source
    if of_source is None and not rows:
        known |= set(manifest.codes("source")[1]) if manifest.has("source") else set()
        near = difflib.get_close_matches(source, sorted(known), n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"the first is {min(known)}" if known else "it has none"
        )
        raise UserError(f"{manifest.folder} has no source '{source}'; {hint}")
    drawn = [_span(manifest, span, rows) for span in spans] or [_kept(manifest, row) for row in rows.values()]
    of_source = of_source or {}
    frames = max([of_source.get("frames", 0), *(span.stop for span in drawn)])
    state = of_source.get("reason") or of_source.get("state") or ledger.EXTRACTED
    return Story(manifest, source, state, frames, of_source.get("cuts", []), sorted(drawn, key=lambda s: s.start))


# What is known of a span


def _clips(manifest: Manifest, source: str) -> dict[tuple[int, int], int]:
    """Rows of the source's clips by (track, first frame)."""
    if not manifest.has("source") or not manifest.has("start_frame"):
        return {}
    codes_n, values = manifest.codes("source")
    rows = np.flatnonzero(codes_n == values.index(source)) if source in values else np.zeros(0, int)
    return {
        (int(_value(manifest, row, "track") or 0), int(manifest.at(row, "start_frame"))): row for row in rows.tolist()
    }


def _span(manifest: Manifest, line: dict[str, Any], rows: dict[tuple[int, int], int]) -> DrawnSpan:
    track, start = line.get("track", 0), line["start"]
    box_3 = tuple(line["box"]) if "box" in line else None
    if line["state"] == KEPT and (row := rows.get((track, start))) is not None:
        words, colour = _label(manifest, row)
        return DrawnSpan(
            start, line["stop"], track, f"{track}: {words}", colour, box_3 or _crop_box(manifest, row), row
        )
    words = line["state"]
    if "value" in line:
        words += f" {line['value']:.4g}, limit {line['limit']:.4g}"
    return DrawnSpan(start, line["stop"], track, f"{track}: {words}", BAD, box_3, None)


def _kept(manifest: Manifest, row: int) -> DrawnSpan:
    """The span of a clip of which no ledger tells."""
    start, track = int(manifest.at(row, "start_frame")), int(_value(manifest, row, "track") or 0)
    words, colour = _label(manifest, row)
    stop = start + int(manifest.at(row, "frames"))
    return DrawnSpan(start, stop, track, f"{track}: {words}", colour, _crop_box(manifest, row), row)


def _label(manifest: Manifest, row: int) -> tuple[str, tuple[int, int, int]]:
    """Who a clip shows and whether they speak, and its colour."""
    values = {name: _value(manifest, row, name) for name in LABELS}
    if values["speaks"] is not None and not values["speaks"]:
        values["speaks"], colour = None, SILENT
    else:
        colour = GOOD
    said = [form.format(values[name]) for name, form in LABELS.items() if values[name] not in (None, "")]
    return ", ".join([str(manifest.at(row, "identity")), *said]), colour


def _crop_box(manifest: Manifest, row: int) -> tuple[float, float, float]:
    """A clip's face as its crop has it: centre x and y, and side in px of the source."""
    crop_23, side_px = crop_of(manifest, row), float(_value(manifest, row, "crop_px") or CROP_PX)
    (x, y), scale = crop.apply(np.full(2, side_px / 2), crop.invert(crop_23)).tolist(), crop_23[0, 0]
    return x, y, side_px / scale / crop.MARGIN


def crop_of(manifest: Manifest, row: int) -> np.ndarray:
    """A clip's map from px of the source to px of the crop: (2, 3)."""
    return np.array(manifest.at(row, "crop"), float).reshape(2, 3)


def _value(manifest: Manifest, row: int, name: str) -> Any:
    """A column's value; None where the column or the value is missing, or is NaN."""
    value = manifest.at(row, name) if manifest.has(name) else None
    return None if value is None or value != value else value
