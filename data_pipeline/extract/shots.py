"""Where the shots of a source begin: as in any film (mytalk/media/cuts.py), and behind a gap between time ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_pipeline.extract.pictures import Picture
from mytalk.media import cuts


def with_cuts(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, bool]]:
    """Each picture in order, and whether it begins another shot than the one before, as `cuts.with_cuts`.

    A gap between time ranges is a cut. Raises ModuleNotFoundError without scenedetect.
    """
    stop = None
    for picture, cut in cuts.with_cuts(pictures, lambda picture: picture.frame_HW3):
        yield picture, cut or (stop is not None and picture.first != stop)
        stop = picture.stop
