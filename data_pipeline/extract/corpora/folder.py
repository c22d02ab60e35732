"""The layout `folder`: a folder for each person (VIDEOS/PERSON/*.mp4), or one file for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.extract.corpora.layouts import Video
from mytalk.command import UserError


def videos(folder: Path, paths: list[str], level: str | None = None) -> Iterator[Video]:
    """Every video file; `level` is what `person` needs. Raises UserError as `person` does."""
    for path in paths:
        yield Video(path, person(path, level))


def person(path: str, level: str | None) -> str:
    """The person in a video: the name of the folder that holds it, or its own stem at the top.

    Where videos lie deeper than one folder, the person may be the `first` folder (VoxCeleb2, MEAD) or the `parent`: a
    wrong guess would put one person into two splits, so `level` must say which. Raises UserError without it.
    """
    parts = path.split("/")
    if len(parts) == 1:
        return Path(path).stem
    if len(parts) > 2 and level is None:
        raise UserError(
            f"'{path}' lies deeper than one folder; add --identity first or --identity parent to say which "
            "folder names the person"
        )
    return parts[0] if level == "first" else parts[-2]
