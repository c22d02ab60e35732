"""The videos of pictured clips: every row's file in OUT/videos/KEY."""

from __future__ import annotations

import hashlib
import shutil
import urllib.parse
from pathlib import Path

from mytalk import atomic

VIDEOS, SOURCE = "videos", "source"
LONGEST_NAME = 120  # of a clip's folder, in ASCII characters


def name_of(key: str) -> str:
    """The folder of a clip's videos: its key, or what stands for one that is no name of a folder of its own."""
    name = urllib.parse.quote(key, safe="")
    if len(name) <= LONGEST_NAME and name.strip("."):
        return name
    return f"{name[: LONGEST_NAME // 2].strip('.')}%{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def save(rows: Path, out: Path, key: str) -> None:
    """Put the files of a clip's rows into OUT/videos/KEY, whole.

    What a killed run left there without a score is replaced.
    """
    folder = out / VIDEOS / name_of(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    copy = folder.parent / f"{atomic.TEMPORARY}{folder.name}"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()  # not the temporary folder itself: nobody else may read that
    for path in rows.iterdir():
        shutil.copyfile(path, copy / path.name)
    atomic.rename_folder(copy, folder)
