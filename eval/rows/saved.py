"""The videos of pictured clips, every row's file in OUT/videos/KEY, and beside them the lips that were detected.

Shape suffixes: T frames, N landmarks (478), M points of the lips (40), 2 = (x, y) and 3 = (x, y, z) in px of the crop.
"""

from __future__ import annotations

import hashlib
import shutil
import urllib.parse
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mytalk import atomic
from mytalk.face.landmarks import INNER_LIP, OUTER_LIP

VIDEOS, SOURCE, LIPS = "videos", "source", "lips.npz"
LIP_POINTS = [*OUTER_LIP, *INNER_LIP]  # in order along each contour
LONGEST_NAME = 120  # of a clip's folder, in ASCII characters


def name_of(key: str) -> str:
    """The folder of a clip's videos: its key, or what stands for one that is no name of a folder of its own."""
    name = urllib.parse.quote(key, safe="")
    if len(name) <= LONGEST_NAME and name.strip("."):
        return name
    return f"{name[: LONGEST_NAME // 2].strip('.')}%{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def write_lips(folder: Path, landmarks: Mapping[str, np.ndarray]) -> None:
    """Write the lips of every row's landmarks (T, N, 3) beside the rows' files."""
    np.savez(
        folder / LIPS, **{name: at_TN3[:, LIP_POINTS, :2].astype(np.float16) for name, at_TN3 in landmarks.items()}
    )


def read_lips(folder: Path) -> dict[str, np.ndarray]:
    """The lips of every row, (T, M, 2) in the order of LIP_POINTS; none of a folder written without them.

    Raises ValueError for a file that is none of arrays.
    """
    if not (folder / LIPS).is_file():
        return {}
    try:
        with np.load(folder / LIPS, allow_pickle=False) as arrays:
            return {name: arrays[name].astype(np.float64) for name in arrays.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{LIPS}: {error}") from error


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
