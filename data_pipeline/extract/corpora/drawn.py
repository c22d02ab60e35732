"""The layout `drawn`: a corpus of `data_pipeline demo`, whose truth.jsonl says what is spoken when.

VIDEOS/PERSON/*.mp4. Fact `bilabials`: when p, b and m are spoken, the sounds on which lips close, as `0.41-0.50
1.22-1.30` in seconds of the video; empty where there are none. Scoring reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.extract.corpora import folder as by_folder
from data_pipeline.extract.corpora.layouts import Video
from mytalk.command import UserError

TRUTH = "truth.jsonl"
BILABIALS = frozenset("pbm")  # the first character of espeak-ng's mnemonics


def videos(folder: Path, paths: list[str]) -> Iterator[Video]:
    """Every video; one that the truth does not name has no times. Raises UserError without a truth."""
    spoken = _spoken(folder / TRUTH)
    for path in paths:
        yield Video(path, by_folder.person(path, None), facts={"bilabials": spoken.get(path, "")})


def _spoken(path: Path) -> dict[str, str]:
    """Video -> the times of its bilabials. Raises UserError for a file that is missing or no truth."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {row["path"]: _times(row.get("phonemes", [])) for row in rows}
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; name a folder that `data_pipeline demo` wrote, or another --layout"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no truth of drawn people; draw them again into another folder") from None


def _times(phonemes: list[tuple[str, float, float]]) -> str:
    pairs = [(start_s, stop_s) for symbol, start_s, stop_s in phonemes if symbol[:1] in BILABIALS]
    return " ".join(f"{start_s:.3f}-{stop_s:.3f}" for start_s, stop_s in pairs)
