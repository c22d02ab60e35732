"""The layout `talkinghead1kh`: TalkingHead-1KH, minutes of YouTube videos of which parts are used, or the parts as cut.

VIDEOS/{train,val,small}/1min_clips/NAME.mp4 and lists *_video_tubes.txt, or other texts of lines
`NAME,H,W,S,E,L,T,R,B`: size of the picture in px, first and last frame, and the box of the face in px. Or the parts,
cropped_clips/NAME_S0_E99_L1_T2_R3_B4.mp4, which its tools write without sound: minutes are taken where they are there.
The person is the YouTube video: NAME without its last number. Fact: `official_split`. Source:
github.com/tcwang0509/TalkingHead-1KH.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_pipeline.extract.corpora.layouts import CENTRE, OFFICIAL_SPLIT, FaceBox, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "CC-BY-3.0"
LINE = re.compile(r"\s*([^,\s]+)" + r",\s*(\d+)" * 8 + r"\s*")
CUT = re.compile(r"(.+)_S\d+_E\d+_L\d+_T\d+_R\d+_B\d+")


def videos(tree: Tree) -> Iterator[Video]:
    """A video for each minute in the lists, and each part of one that is not there.

    Raises UserError where there is none.
    """
    path_of = {PurePosixPath(path).stem: path for path in tree.paths}
    minutes: dict[str, list[tuple[int, ...]]] = {}
    for labels in tree.named("*.txt"):
        for line in tree.text(labels).splitlines():
            if found := LINE.fullmatch(line):
                minutes.setdefault(found[1], []).append(tuple(map(int, found.groups()[1:])))
    cut = {stem: found[1] for stem in path_of if (found := CUT.fullmatch(stem))}
    if not minutes and not cut:
        raise UserError(f"no lines NAME,H,W,S,E,L,T,R,B and no NAME_S.._E.._L.._T.._R.._B...mp4 below {tree}")
    for stem, name in cut.items():
        if name not in minutes or name not in path_of:
            yield Video(path_of[stem], _person(name), facts=_facts(path_of[stem]), faces=(CENTRE,))
    for name, parts in minutes.items():
        if name in path_of or name not in cut.values():
            path = path_of.get(name, f"{name}.mp4")
            ranges = tuple((start, last + 1) for _, _, start, last, *_ in parts)
            faces = tuple(_face(*part) for part in parts)
            yield Video(path, _person(name), facts=_facts(path), ranges_frames=ranges, faces=faces)


def _face(height_px, width_px, start, last, left, top, right, bottom) -> FaceBox:
    width, height = (right - left) / width_px, (bottom - top) / height_px
    x, y = (left + right) / 2 / width_px, (top + bottom) / 2 / height_px
    return FaceBox(x, y, width, height, "share", 0, start, last + 1)


def _person(name: str) -> str:
    """The YouTube video of a minute `YTID_0012`; YTID may hold underscores."""
    found = re.fullmatch(r"(.{11,})_\d+", name)
    return found[1] if found else name


def _facts(path: str) -> dict[str, Fact]:
    split = path.partition("/")[0]
    return {OFFICIAL_SPLIT: {"small": "train"}.get(split, split) if split in ("train", "val", "small") else ""}
