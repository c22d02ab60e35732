"""The column `predicted`: landmarks whose lower face a motion model wrote from the clip's speech.

What painting sees when it is used, where true landmarks are better than any model's. The source is another clip of the
person, the next one in the manifest; of a person with one clip it is the clip's own beginning, so that there the model
sees a part of the truth. Shape suffixes: T frames, N landmarks (478), 3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.columns.column import Made
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import requirements
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME, without_mouth

if TYPE_CHECKING:
    from mytalk.networks.motion.network import MotionModel

OPTIONS = {"model": True}
SOURCE_FRAMES = 75
STEPS = 5  # of the sampler, as in validation


def made(model: str) -> Made:
    """What gives a clip's values with the motion model of a folder. Raises UserError where there is none.

    They are of the pictures' frames: the speech that they are written from is already in time.
    """
    from mytalk.networks import weights

    _loaded(model)  # refused here, not clip by clip
    made_by = {"model": weights.digest(model), "steps": STEPS, "source_frames": SOURCE_FRAMES}
    return Made(functools.partial(values, model), COUNT * 3, made_by=made_by)


def values(folder: str, manifest: Manifest, row: int) -> np.ndarray:
    """A clip's landmarks with the lower face that a model writes: (T, 478 * 3) px. Raises ClipError."""
    from mytalk.dub import long_form
    from mytalk.networks.motion.generation import SourceStretch

    model = _loaded(folder)
    requirements.refuse_other_features(manifest, model.column, model.features_by)
    landmarks_TN3 = without_mouth(reader.read_landmarks(manifest, row))
    source = SourceStretch(*_source(manifest, _next_clips(manifest)[row], model.column))
    seed = int.from_bytes(hashlib.sha256(str(manifest.at(row, "key")).encode()).digest()[:4], "big")
    audio_S = reader.read_audio(manifest, row)
    features_TD = reader.read_features(manifest, model.column, row)
    written_TN3 = long_form.generate(model, landmarks_TN3, source, audio_S, seed, STEPS, features_TD=features_TD)
    return written_TN3.reshape(len(landmarks_TN3), -1)


@functools.lru_cache(maxsize=1)
def _loaded(model: str) -> MotionModel:
    from mytalk.networks.motion.files import load_model

    return load_model(model)


@functools.lru_cache(maxsize=1)
def _next_clips(manifest: Manifest) -> dict[int, int]:
    """The next clip of the same person, of the last one the first, by row."""
    person_n, _ = manifest.codes("identity")
    order_n = np.argsort(person_n, kind="stable")
    following = np.roll(order_n, -1)
    last = np.flatnonzero(np.diff(person_n[order_n], append=-1))
    following[last] = order_n[np.concatenate([[0], last[:-1] + 1])]
    return dict(zip(order_n.tolist(), following.tolist()))


def _source(manifest: Manifest, row: int, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    stop = min(SOURCE_FRAMES, int(manifest.at(row, "frames")))
    audio_S = reader.read_audio(manifest, row, 0, stop)
    assert len(audio_S) == stop * SAMPLES_PER_FRAME
    return (
        reader.read_landmarks(manifest, row, 0, stop),
        audio_S,
        reader.read_features(manifest, column, row, 0, stop),
    )
