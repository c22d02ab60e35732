"""The layout `mead`: MEAD, actors who speak with eight emotions, filmed from seven sides, with their sound beside.

VIDEOS/M003/video/front/neutral/level_1/001.mp4, its sound at M003/audio/neutral/level_1/001.m4a, the same for all
views. The person is the actor. Facts: `emotion`, `emotion_level` (1 to 3), `view`, `gender` (of the first letter, M or
W). Source: wywu.github.io/projects/MEAD/MEAD.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_pipeline.extract.corpora.layouts import EMOTION, GENDER, LANGUAGE, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "MEAD terms: research only"
VIDEO = re.compile(r"((?:.*/)?([MW]\d+)/)video/([^/]+)/(([^/]+)/level_(\d)/([^/]+))\.[^./]+")
SOUNDS = (".m4a", ".wav")
GENDERS = {"M": "male", "W": "female"}


def videos(tree: Tree) -> Iterator[Video]:
    """Every video. Raises UserError where there is none."""
    matched = False
    for path in tree.paths:
        found = VIDEO.fullmatch(path)
        if found is None:
            continue
        matched = True
        actor, person, view, clip, emotion, level, _ = found.groups()
        sounds = (f"{actor}audio/{clip}{suffix}" for suffix in SOUNDS)
        facts = {EMOTION: emotion, "emotion_level": int(level), "view": view}
        facts |= {GENDER: GENDERS[person[0]], LANGUAGE: "English"}
        yield Video(path, person, facts=facts, audio=next(filter(tree.has, sounds), ""))
    if not matched:
        raise UserError(f"no ACTOR/video/VIEW/EMOTION/level_N/*.mp4 in {tree}; name the folder that holds the actors")
