"""Where the shots of a source begin: as in any film (mytalk/media/cuts.py), and behind a gap between time ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from data_pipeline.extract.pictures import Picture
from mytalk.media import cuts


def with_cuts(pictures: Iterable[Picture], least_frames: int = cuts.LONGEST_PART + 1) -> Iterator[tuple[Picture, bool]]:
    """Each picture in order, and whether it begins another shot than the one before, as `cuts.with_cuts`.

    Parts of a fade or dissolve are shorter than the shortest clip, `least_frames`, and a gap between time ranges is a
    cut. Raises ModuleNotFoundError without scenedetect.
    """
    stop = None
    for picture, cut in cuts.with_cuts(pictures, _frame, _count, min(cuts.LONGEST_PART, least_frames - 1)):
        yield picture, cut or (stop is not None and picture.first != stop)
        stop = picture.stop


def _frame(picture: Picture) -> np.ndarray:
    return picture.frame_HW3


def _count(picture: Picture) -> int:
    return picture.count
