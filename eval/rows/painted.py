"""The painted rows of a clip: dubs of one video that differ in the lower face alone, painted and written together.

Frames are read, cut and encoded by the network once for all rows, and references once for the clip; what is written is
what `dubbing.render` writes row by row. Pictures in memory are a batch a row, whatever the clip's length.

Shape suffixes: F frames of a span, N landmarks (478), S audio samples, 3 = (x, y, z) in px of the span's crop.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk import media
from mytalk.dub import dubbing
from mytalk.dub.first_pass import FirstPass
from mytalk.dub.person import PersonReference
from mytalk.dub.retiming import cut_or_pad
from mytalk.face.landmarks import SAMPLE_HZ

if TYPE_CHECKING:
    from mytalk.dub.dubbing import Models


@dataclass(frozen=True)
class Row:
    """The landmarks of every span, (F, 478, 3) each, and the sound at 16 kHz, (S,)."""

    landmarks: list[np.ndarray]
    speech_S: np.ndarray


def write(faces: FirstPass, rows: Mapping[Path, Row], models: Models, person: PersonReference) -> None:
    """Write the mp4 of each row. Raises MediaError, OSError."""
    from mytalk.dub import compositing
    from mytalk.face import region
    from mytalk.networks.appearance.painter import Painter

    painter = Painter(models.appearance, person.frames_RHW3, person.frame_landmarks_RN3)
    samples, colour = round(faces.frames / faces.fps * SAMPLE_HZ), media.probe(faces.video).colour
    frames = media.read_frames(faces.video, faces.fps, stop=faces.frames)
    with contextlib.ExitStack() as files:
        added = [
            files.enter_context(
                media.writer(path, faces.fps, cut_or_pad(row.speech_S, samples), metadata=dubbing.MARK, colour=colour)
            )
            for path, row in rows.items()
        ]
        position = 0
        for number, span in enumerate(faces.spans):
            for frame in itertools.islice(frames, span.start - position):
                for add in added:
                    add(frame)
            several = [row.landmarks[number] for row in rows.values()]
            regions_FV2 = region.regions(span.landmarks_FN3)
            strength_F = region.strengths(span.landmarks_FN3, float(faces.fps))
            for pictures in compositing.painted_each(frames, span, several, regions_FV2, strength_F, painter):
                for add, picture in zip(added, pictures, strict=True):
                    add(picture)
            position = span.stop
        for frame in frames:
            for add in added:
                add(frame)
