"""The layout `hdtf`: HDTF, whole videos named as in its lists, of which annotated time ranges are used.

VIDEOS/HDTF_dataset/{RD,WDA,WRA}_annotion_time.txt (the spelling is HDTF's) hold lines `name mm:ss-mm:ss ...`, in some
revisions with bars between the fields. The videos lie anywhere below VIDEOS as NAME.mp4, some downloaders write
RD_NAME.mp4. HDTF names no people: each video counts as one. Source: github.com/MRzzm/HDTF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.extract.corpora.layouts import Video
from mytalk.command import UserError


def videos(folder: Path, paths: list[str]) -> Iterator[Video]:
    """A video for each line of the lists. Raises UserError without lists, and for a line without a time range."""
    path_of = {Path(path).stem: path for path in paths}
    lists = sorted(folder.rglob("*_annotion_time.txt"))
    if not lists:
        raise UserError(f"no *_annotion_time.txt below {folder}; bring the lists of HDTF_dataset there")
    for labels in lists:
        subset = labels.name.partition("_")[0]
        for line in filter(None, map(str.strip, labels.read_text().splitlines())):
            name, *fields = re.split(r"[\s|]+", line)
            ranges_s = tuple(_range_s(text, labels) for text in fields if text)
            if not ranges_s:
                raise UserError(f"{labels}: no time range in '{line}'; expected: name mm:ss-mm:ss ...")
            name = Path(name).stem
            path = path_of.get(name) or path_of.get(f"{subset}_{name}") or f"{name}.mp4"
            yield Video(path, name, ranges_s, {"subset": subset})


def _range_s(text: str, labels: Path) -> tuple[float, float]:
    found = re.fullmatch(r"(\d+):(\d+)-(\d+):(\d+)", text)
    if found is None:
        raise UserError(f"{labels}: '{text}' is no time range; expected mm:ss-mm:ss")
    start_min, start_s, stop_min, stop_s = map(int, found.groups())
    return 60.0 * start_min + start_s, 60.0 * stop_min + stop_s
