"""The layout `table`: VIDEOS/videos.csv has a line for each part of each video. For any corpus, and for URLs.

Columns: `path` (below VIDEOS, or a URL) and `person`. Where they are needed: `start_s`, `stop_s`; `audio`; `face_x`,
`face_y` (the centre, 0 to 1) and `face_width`, `face_height`. Every other column is a fact of its clips, as text. Lines
of one path differ in their time ranges and faces alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_pipeline.extract.corpora.layouts import FaceBox, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

FILE = "videos.csv"
TIMES, FACE = ("start_s", "stop_s"), ("face_x", "face_y", "face_width", "face_height")
OWN = {"path", "person", "audio", *TIMES, *FACE}


def videos(tree: Tree) -> Iterator[Video]:
    """A video for each path in the table. Raises UserError without a table, and for a line that cannot be read."""
    if not tree.has(FILE):
        raise UserError(f"no {FILE} in {tree}; write one with the columns path and person, or take another --layout")
    lines: dict[str, list[dict[str, str]]] = {}
    for number, row in enumerate(tree.rows(FILE), 2):
        if not row.get("path") or not row.get("person"):
            raise UserError(f"{tree}/{FILE}: line {number} has no path or no person; both columns are needed")
        lines.setdefault(row["path"], []).append(row)
    for path, rows in lines.items():
        if len({(row["person"], row.get("audio", "")) for row in rows}) > 1:
            raise UserError(f"{tree}/{FILE}: {path} has two persons or sounds; give one to each video")
        facts: dict[str, Fact] = {name: value for name, value in rows[0].items() if name not in OWN}
        parts = [_numbers(row, path) for row in rows]
        ranges_s = tuple((part["start_s"], part["stop_s"]) for part in parts if "stop_s" in part)
        faces = tuple(_face(part) for part in parts if "face_x" in part and "face_y" in part)
        whole = () if len(ranges_s) < len(parts) else ranges_s  # a line without a range means all of it
        yield Video(path, rows[0]["person"], whole, facts, audio=rows[0].get("audio", ""), faces=faces)


def _face(part: dict[str, float]) -> FaceBox:
    x, y, width, height = (part.get(name, 0.0) for name in FACE)
    return FaceBox(x, y, width, height, start=part.get("start_s", 0.0), stop=part.get("stop_s"))


def _numbers(row: dict[str, str], path: str) -> dict[str, float]:
    try:
        numbers = {name: float(row[name]) for name in (*TIMES, *FACE) if row.get(name)}
    except ValueError:
        raise UserError(f"{FILE}: {path} has a time or a face that is no number; correct its line") from None
    return {"start_s": 0.0, **numbers} if "stop_s" in numbers else numbers
