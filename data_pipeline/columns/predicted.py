"""The column `predicted`: landmarks whose lower face a motion model wrote from the clip's speech.

What painting sees when it is used, where true landmarks are better than any model's. The source is another clip of the
person, the next one in the manifest; of a person with one clip it is the clip's own beginning, so that there the model
sees a part of the truth. Shape suffixes: T frames, N landmarks (478), 3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline.columns.column import Values
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME, without_mouth

if TYPE_CHECKING:
    from mytalk.networks.motion import MotionModel

WIDTH = COUNT * 3
OF = ""  # of the pictures' frames: the speech that it was written from is already in time
SOURCE_FRAMES = 75
STEPS = 5  # of the sampler, as in validation


def made_by(model: str) -> dict[str, Any]:
    """What writes the column: the model's digest, and how it is asked. Raises UserError where there is no model."""
    from mytalk.networks import weights

    weights.describe(model, "motion")
    return {"model": weights.digest(model), "steps": STEPS, "source_frames": SOURCE_FRAMES}


def values_by(model: str) -> Values:
    """What gives a clip's values with the motion model of a folder; it pickles. Raises UserError."""
    from mytalk.networks import motion

    motion.refuse_columns(_loaded(model))
    return functools.partial(values, model)


def values(model: str, manifest: Manifest, row: int) -> np.ndarray:
    """A clip's landmarks with the lower face that a model writes: (T, 478 * 3) px. Raises ClipError."""
    from mytalk.dub import long_form
    from mytalk.networks import motion

    landmarks_TN3 = without_mouth(reader.read_landmarks(manifest, row))
    source = motion.SourceStretch(*_source(manifest, _next_clips(manifest)[row]))
    seed = int.from_bytes(hashlib.sha256(str(manifest.at(row, "key")).encode()).digest()[:4], "big")
    audio_S = reader.read_audio(manifest, row)
    made_TN3 = long_form.generate(_loaded(model), landmarks_TN3, source, audio_S, seed, STEPS)
    return made_TN3.reshape(len(landmarks_TN3), -1)


@functools.lru_cache(maxsize=1)
def _loaded(model: str) -> MotionModel:
    from mytalk.networks import motion

    return motion.load_model(model)


@functools.lru_cache(maxsize=1)
def _next_clips(manifest: Manifest) -> dict[int, int]:
    """The next clip of the same person, of the last one the first, by row."""
    person_n, _ = manifest.codes("identity")
    order_n = np.argsort(person_n, kind="stable")
    following = np.roll(order_n, -1)
    last = np.flatnonzero(np.diff(person_n[order_n], append=-1))
    following[last] = order_n[np.concatenate([[0], last[:-1] + 1])]
    return dict(zip(order_n.tolist(), following.tolist()))


def _source(manifest: Manifest, row: int) -> tuple[np.ndarray, np.ndarray]:
    stop = min(SOURCE_FRAMES, int(manifest.at(row, "frames")))
    audio_S = reader.read_audio(manifest, row, 0, stop)
    assert len(audio_S) == stop * SAMPLES_PER_FRAME
    return reader.read_landmarks(manifest, row, 0, stop), audio_S
