"""The videos of pictured clips: every row's file in OUT/videos/KEY."""

from __future__ import annotations

import shutil
from pathlib import Path

from mytalk import atomic

VIDEOS, SOURCE = "videos", "source"


def save(rows: Path, out: Path, key: str) -> None:
    """Put the files of a clip's rows into OUT/videos/KEY, whole.

    What a killed run left there without a score is replaced.
    """
    folder = out / VIDEOS / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    copy = folder.parent / f"{atomic.TEMPORARY}{key}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()  # not the temporary folder itself: nobody else may read that
    for path in rows.iterdir():
        shutil.copyfile(path, copy / path.name)
    atomic.rename_folder(copy, folder)
