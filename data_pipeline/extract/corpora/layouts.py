"""The list of layouts that `extract --layout` offers, and what a layout yields.

A layout is a module with a function `videos(tree)`. A Tree (data_pipeline/extract/listing/tree.py) names the files
below the corpus's folder, as text, and reads the labels among them. The function yields a Video for each one to
extract; it may name a file that is missing, which is counted. Raises UserError for labels that cannot be read, and for
another layout.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_pipeline.extract.listing.tree import Tree

# The word typed after --layout -> its module.
LAYOUTS = {
    "folder": "data_pipeline.extract.corpora.folder",
    "table": "data_pipeline.extract.corpora.table",
    "hdtf": "data_pipeline.extract.corpora.hdtf",
    "voxceleb2": "data_pipeline.extract.corpora.voxceleb2",
    "lrs3": "data_pipeline.extract.corpora.lrs3",
    "mead": "data_pipeline.extract.corpora.mead",
    "avspeech": "data_pipeline.extract.corpora.avspeech",
    "celebvhq": "data_pipeline.extract.corpora.celebvhq",
    "talkinghead1kh": "data_pipeline.extract.corpora.talkinghead1kh",
    "talkvid": "data_pipeline.extract.corpora.talkvid",
    "drawn": "data_pipeline.extract.corpora.drawn",
}
Fact = str | bool | int | float
# Facts that several corpora have go by these names, so that one `where` filters all of them.
LANGUAGE, EMOTION, GENDER, AGE, ETHNICITY = "language", "emotion", "gender", "age_group", "ethnicity"
LICENCE = "licence"  # as the corpus's own page states it, or --licence
OFFICIAL_SPLIT = "official_split"  # train, val or test, where the corpus has one


@dataclass(frozen=True)
class FaceBox:
    """Where a corpus says that the face is, from `start` to `stop` (None: to the end), in the unit of the ranges.

    `x`, `y` are its centre; `width` and `height` its sides, 0 where only the centre is known. `unit`: "share" of the
    picture's width and height, or "px" of a picture that is `picture_height_px` tall (0: as tall as the video is).
    """

    x: float
    y: float
    width: float = 0.0
    height: float = 0.0
    unit: str = "share"
    picture_height_px: int = 0
    start: float = 0.0
    stop: float | None = None


CENTRE = FaceBox(0.5, 0.5)  # of a corpus whose pictures are cut round the person


@dataclass(frozen=True)
class Video:
    """A video of a corpus: its path below the corpus's folder, with /, or a URL, and the person it shows.

    `ranges_s`: (start, stop) in seconds of the parts to use; `ranges_frames`: the same in frames of the video's own
    rate; neither: all of it. `facts` become facts of its clips and columns of the manifest; one name has one type in
    all videos. `audio`: path of its sound, where that is another file. `faces`: which face of the picture is the
    person's; none: nobody says.
    """

    path: str
    person: str
    ranges_s: tuple[tuple[float, float], ...] = ()
    facts: dict[str, Fact] = field(default_factory=dict)
    ranges_frames: tuple[tuple[int, int], ...] = ()
    audio: str = ""
    faces: tuple[FaceBox, ...] = ()


def licence(name: str) -> str:
    """The licence of a layout's corpus, as far as it knows one."""
    return str(getattr(importlib.import_module(LAYOUTS[name]), "LICENCE", ""))


def load(name: str) -> Callable[[Tree], Iterator[Video]]:
    """The function `videos` of a layout in the list."""
    return importlib.import_module(LAYOUTS[name]).videos
