"""The layout `avspeech`: AVSpeech, parts of YouTube videos in which one person is seen and heard.

VIDEOS/avspeech_{train,test}.csv hold lines `YTID,start,end,x,y` without a heading: seconds, and the centre of the
speaker's face in shares of the picture. The videos lie anywhere below VIDEOS, cut as YTID_start_end.mp4, or whole as
YTID.mp4. AVSpeech names no people: each YouTube video counts as one. Fact: `official_split`. Source:
looking-to-listen.github.io/avspeech.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_pipeline.extract.corpora.layouts import OFFICIAL_SPLIT, FaceBox, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "CC-BY-4.0 (labels); videos belong to their makers"
FIELDS = ["ytid", "start_s", "stop_s", "x", "y"]
CUT = re.compile(r"(.+)_(\d+(?:\.\d+)?)[_-](\d+(?:\.\d+)?)")


def videos(tree: Tree) -> Iterator[Video]:
    """A video for each line of the lists. Raises UserError without lists, and for a line that is none."""
    lists = tree.named("*avspeech*.csv")
    if not lists:
        raise UserError(f"no avspeech_train.csv or avspeech_test.csv below {tree}; bring the lists there")
    cut, whole = _there(tree)
    for labels in lists:
        split = "test" if "test" in PurePosixPath(labels).name else "train"
        parts: dict[str, list[tuple[float, float, float, float]]] = {}
        for row in tree.rows(labels, FIELDS):
            try:
                parts.setdefault(row["ytid"], []).append(tuple(float(row[name]) for name in FIELDS[1:]))  # type: ignore
            except ValueError:
                raise UserError(f"{labels}: '{','.join(row.values())}' is no line of YTID,start,end,x,y") from None
        for ytid, rows in parts.items():
            yield from _of_video(ytid, rows, split, cut, whole)


def _of_video(ytid, rows, split: str, cut, whole: dict[str, str]) -> Iterator[Video]:
    """The videos of one YouTube video: each part that was cut out; the others from the whole one, if that is there."""
    facts: dict[str, Fact] = {OFFICIAL_SPLIT: split}
    left = []
    for start_s, stop_s, x, y in rows:
        path = cut.get((ytid, round(start_s, 2), round(stop_s, 2)))
        if path is None:
            left.append((start_s, stop_s, x, y))
        else:
            yield Video(path, ytid, facts=dict(facts), faces=(FaceBox(x, y),))
    if ytid in whole and left:
        faces = tuple(FaceBox(x, y, start=start_s, stop=stop_s) for start_s, stop_s, x, y in left)
        yield Video(whole[ytid], ytid, tuple((start_s, stop_s) for start_s, stop_s, _, _ in left), facts, faces=faces)
    elif left:
        yield from (Video(f"{ytid}_{start:.6f}_{stop:.6f}.mp4", ytid, facts=dict(facts)) for start, stop, *_ in left)


def _there(tree: Tree) -> tuple[dict[tuple[str, float, float], str], dict[str, str]]:
    """The videos that are there: those that were cut, by YTID, start and stop; and by their whole name."""
    cut, whole = {}, {}
    for path in tree.paths:
        stem = PurePosixPath(path).stem
        whole[stem] = path
        if found := CUT.fullmatch(stem):
            cut[found[1], round(float(found[2]), 2), round(float(found[3]), 2)] = path
    return cut, whole
