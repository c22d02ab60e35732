"""The layout `drawn`: a corpus of `data_pipeline demo`, whose truth.jsonl says what is spoken when.

VIDEOS/PERSON/*.mp4. Fact `bilabials`: when p, b and m are spoken, the sounds on which lips close, as `0.41-0.50
1.22-1.30` in seconds of the video; empty where there are none. Scoring reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from data_pipeline.extract.corpora import folder
from data_pipeline.extract.corpora.layouts import Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

TRUTH = "truth.jsonl"
BILABIALS = frozenset("pbm")  # the first character of espeak-ng's mnemonics


def videos(tree: Tree) -> Iterator[Video]:
    """Every video; one that the truth does not name has no times. Raises UserError without a truth."""
    spoken = _spoken(tree)
    for path in tree.paths:
        yield Video(path, folder.person(path, None), facts={"bilabials": spoken.get(path, "")})


def _spoken(tree: Tree) -> dict[str, str]:
    """Video -> the times of its bilabials. Raises UserError for a file that is missing or no truth."""
    path = f"{tree}/{TRUTH}"
    if not tree.has(TRUTH):
        raise UserError(f"{path} is missing; name a folder that `data_pipeline demo` wrote, or another --layout")
    try:
        rows = [json.loads(line) for line in tree.text(TRUTH).splitlines()]
        return {row["path"]: _times(row.get("phonemes", [])) for row in rows}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no truth of drawn people; draw them again into another folder") from None


def _times(phonemes: list[tuple[str, float, float]]) -> str:
    pairs = [(start_s, stop_s) for symbol, start_s, stop_s in phonemes if symbol[:1] in BILABIALS]
    return " ".join(f"{start_s:.3f}-{stop_s:.3f}" for start_s, stop_s in pairs)
