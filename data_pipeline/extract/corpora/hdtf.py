"""The layout `hdtf`: HDTF, whole videos named as in its lists, of which annotated time ranges are used, or its clips.

VIDEOS/HDTF_dataset/{RD,WDA,WRA}_annotion_time.txt (the spelling is HDTF's) hold lines `name mm:ss-mm:ss ...`, in some
revisions with bars between the fields. The videos lie anywhere below VIDEOS as NAME.mp4, some downloaders write
RD_NAME.mp4; where there is none, the clips NAME_0.mp4, NAME_1.mp4 that were cut from it. Where they are there,
*_crop_wh.txt (`name_clip left width top height`) and *_resolution.txt (`name height`) say which face is meant, in px.
HDTF names no people: each video counts as one. Source: github.com/MRzzm/HDTF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_pipeline.extract.corpora.layouts import FaceBox, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "CC-BY-4.0"
TIMES, CROPS, HEIGHTS = "_annotion_time.txt", "_crop_wh.txt", "_resolution.txt"


def videos(tree: Tree) -> Iterator[Video]:
    """A video for each line of the lists. Raises UserError without lists, and for a line without a time range."""
    path_of = {PurePosixPath(path).stem: path for path in tree.paths}
    clips_of = _clips(path_of)
    lists = tree.named(f"*{TIMES}")
    if not lists:
        raise UserError(f"no *{TIMES} below {tree}; bring the lists of HDTF_dataset there")
    for labels in lists:
        subset = PurePosixPath(labels).name.partition("_")[0]
        crops, heights = _numbers(tree, labels, CROPS), _numbers(tree, labels, HEIGHTS)
        for line in filter(None, map(str.strip, tree.text(labels).splitlines())):
            name, *fields = re.split(r"[\s|]+", line)
            ranges_s = tuple(_range_s(text, labels) for text in fields if text)
            if not ranges_s:
                raise UserError(f"{labels}: no time range in '{line}'; expected: name mm:ss-mm:ss ...")
            name = PurePosixPath(name).stem
            facts: dict[str, Fact] = {"subset": subset}
            path = path_of.get(name) or path_of.get(f"{subset}_{name}")
            clips = clips_of.get(name) or clips_of.get(f"{subset}_{name}")
            if path is None and clips:
                yield from (Video(clip, name, facts=facts) for clip in clips)
                continue
            height_px = int(next(iter(heights.get(name, [])), 0))
            boxes = (_box(crops.get(f"{name}_{n}"), height_px, *range_s) for n, range_s in enumerate(ranges_s))
            yield Video(path or f"{name}.mp4", name, ranges_s, facts, faces=tuple(box for box in boxes if box))


def _clips(path_of: dict[str, str]) -> dict[str, list[str]]:
    """The clips that were cut from a video, by its name, in order."""
    clips: dict[str, list[tuple[int, str]]] = {}
    for stem, path in path_of.items():
        if found := re.fullmatch(r"(.+)_(\d+)", stem):
            clips.setdefault(found[1], []).append((int(found[2]), path))
    return {name: [path for _, path in sorted(numbered)] for name, numbered in clips.items()}


def _numbers(tree: Tree, labels: str, suffix: str) -> dict[str, list[float]]:
    """Name -> numbers, of the list beside `labels`; none where it is not there, or a line is cut off."""
    path = labels.removesuffix(TIMES) + suffix
    lines = tree.text(path).splitlines() if tree.has(path) else []
    found: dict[str, list[float]] = {}
    for line in lines:
        name, *fields = re.split(r"[\s|]+", line.strip())
        if all(re.fullmatch(r"\d+(\.\d+)?", field) for field in fields):
            found[PurePosixPath(name).stem] = [float(field) for field in fields]
    return found


def _box(crop: list[float] | None, height_px: int, start_s: float, stop_s: float) -> FaceBox | None:
    if crop is None or len(crop) != 4:
        return None
    left, width, top, height = crop
    return FaceBox(left + width / 2, top + height / 2, width, height, "px", height_px, start_s, stop_s)


def _range_s(text: str, labels: str) -> tuple[float, float]:
    found = re.fullmatch(r"(\d+):(\d+)-(\d+):(\d+)", text)
    if found is None:
        raise UserError(f"{labels}: '{text}' is no time range; expected mm:ss-mm:ss")
    start_min, start_s, stop_min, stop_s = map(int, found.groups())
    return 60.0 * start_min + start_s, 60.0 * stop_min + stop_s
