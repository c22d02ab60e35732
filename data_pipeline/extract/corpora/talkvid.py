"""The layout `talkvid`: TalkVid, parts of YouTube videos, with their sound in a file beside each.

VIDEOS/**/YTID/YTID_001_10.500_25.300.mp4 and .m4a (number, start and stop in seconds), with a list of rows
`{start-time, end-time, info: {Person ID, Language, Ethnicity, Age Group, Gender, Video Link}}` in a *.json below
VIDEOS. The person is its Person ID, of a video that the list lacks its YTID. Facts: `language`, `ethnicity`,
`age_group`, `gender`. Source: github.com/FreedomIntelligence/TalkVid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from data_pipeline.extract.corpora.layouts import AGE, ETHNICITY, GENDER, LANGUAGE, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "CC-BY-NC-4.0"
VIDEO = re.compile(r"(.+)_\d+_(\d+\.\d+)_(\d+\.\d+)")
LABELS = {LANGUAGE: "Language", ETHNICITY: "Ethnicity", AGE: "Age Group", GENDER: "Gender"}
NEAR_S = 0.01  # times in names have milliseconds, those of the list more


def videos(tree: Tree) -> Iterator[Video]:
    """Every video, and each row of the list without one. Raises UserError without a list of the kind."""
    rows = _rows(tree)
    if not rows:
        raise UserError(f"no *.json with rows of start-time, end-time and info below {tree}; bring the list there")
    seen: set[int] = set()
    for path in tree.paths:
        found = VIDEO.fullmatch(PurePosixPath(path).stem)
        if found is None:
            continue
        start_s, stop_s = float(found[2]), float(found[3])
        near = (
            row
            for row in rows.get(found[1], [])
            if abs(row["start-time"] - start_s) + abs(row["end-time"] - stop_s) < NEAR_S
        )
        row = next(near, None)
        seen.add(id(row))
        sound = str(PurePosixPath(path).with_suffix(".m4a"))
        yield _video(path, found[1], row, sound if tree.has(sound) else "")
    for ytid, listed in rows.items():
        for row in listed:
            if id(row) not in seen:
                name = f"{ytid}_{row['start-time']:.3f}_{row['end-time']:.3f}.mp4"
                yield _video(f"{ytid}/{name}", ytid, row, "")


def _video(path: str, ytid: str, row: dict[str, Any] | None, sound: str) -> Video:
    info = {} if row is None else row["info"]
    facts: dict[str, Fact] = {name: str(info.get(label, "")) for name, label in LABELS.items()}
    facts[GENDER] = str(facts[GENDER]).lower()
    return Video(path, f"person{info['Person ID']}" if info.get("Person ID") else ytid, facts=facts, audio=sound)


def _rows(tree: Tree) -> dict[str, list[dict[str, Any]]]:
    """The rows of all lists, by YTID."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in tree.named("*.json"):
        listed = tree.json(path)
        for row in listed if isinstance(listed, list) else []:
            if isinstance(row, dict) and {"start-time", "end-time", "info"} <= row.keys():
                try:
                    ytid = re.split(r"v=|youtu\.be/|/shorts/", str(row["info"].get("Video Link", "")))[-1]
                    times = {name: float(row[name]) for name in ("start-time", "end-time")}
                except (AttributeError, TypeError, ValueError) as error:
                    raise UserError(f"{path}: a row is none of this layout ({error}); fetch the list again") from None
                rows.setdefault(re.split("[?&]", ytid)[0], []).append({**row, **times})
    return rows
