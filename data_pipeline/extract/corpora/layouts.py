"""The list of layouts that `extract --layout` offers, and what a layout yields.

A layout is a module with a function `videos(folder, paths)`: `paths` are the video files below the corpus's folder,
relative to it with /, sorted, as text (`to_path` of data_pipeline/extract/listing/names.py gives the path to open; only
names that are not UTF-8, or hold a backslash, differ). It yields a Video for each one to extract; it may read labels
that lie beside them, and may name a file that is missing, which is counted. Raises UserError for labels that cannot be
read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# The word typed after --layout -> its module.
LAYOUTS = {
    "folder": "data_pipeline.extract.corpora.folder",
    "hdtf": "data_pipeline.extract.corpora.hdtf",
    "lrs3": "data_pipeline.extract.corpora.lrs3",
    "drawn": "data_pipeline.extract.corpora.drawn",
}
Fact = str | bool | int | float


@dataclass(frozen=True)
class Video:
    """A video of a corpus: its path below the corpus's folder, with /, and the person it shows.

    `ranges_s`: (start, stop) in seconds of the parts to use; none: all of it. `facts` become facts of its clips and
    columns of the manifest; one name has one type in all videos.
    """

    path: str
    person: str
    ranges_s: tuple[tuple[float, float], ...] = ()
    facts: dict[str, Fact] = field(default_factory=dict)


def load(name: str) -> Callable[[Path, list[str]], Iterator[Video]]:
    """The function `videos` of a layout in the list."""
    return importlib.import_module(LAYOUTS[name]).videos
