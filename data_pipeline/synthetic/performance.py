"""One clip of the drawn corpus: who speaks, what is said, how mouth and head move, as pictures and as truth.

Everything in it is a function of (seed, identity, clip) and of length, rate and size alone. T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_pipeline.synthetic.film import mp4
from data_pipeline.synthetic.movement import FRONTAL, Pose, poses
from data_pipeline.synthetic.paint import mouth
from data_pipeline.synthetic.paint.face import Face
from data_pipeline.synthetic.paint.portrait import portrait
from data_pipeline.synthetic.person import Person, person
from data_pipeline.synthetic.speech import sentences
from data_pipeline.synthetic.speech.articulation import articulate, neutral_track
from data_pipeline.synthetic.speech.voice import Speech, speak

_WORDS, _MOVES = 2, 3  # tags of streams of randomness; person.py has another


@dataclass(frozen=True)
class Performance:
    """A clip before it is drawn: shapes_TP holds opening, width and rounding per frame (see articulation.py)."""

    who: Person
    speech: Speech
    times_T: np.ndarray
    shapes_TP: np.ndarray
    poses_T: list[Pose]


def perform(seed: int, identity: int, clip: int, seconds: float, fps: int) -> Performance:
    """Clip number `clip` of a person: frame i shows the moment i / fps."""
    who = person(seed, identity)
    random = np.random.default_rng([_WORDS, seed, identity, clip])
    # A sentence takes two seconds or more: enough of them that the clip is full.
    text = sentences.compose(random, int(seconds / 2) + 2)
    frames = round(seconds * fps)
    speech = speak(text, who.voice, frames / fps, lead_s=float(random.uniform(0.1, 0.4)))
    return _at(np.arange(frames) / fps, who, speech, (seed, identity, clip))


def retimed(performance: Performance, seed: int, identity: int, clip: int, times_T: np.ndarray) -> Performance:
    """The same clip seen at other moments, which may be uneven."""
    return _at(times_T, performance.who, performance.speech, (seed, identity, clip))


def _at(times_T: np.ndarray, who: Person, speech: Speech, number: tuple[int, int, int]) -> Performance:
    shapes_TP = articulate(neutral_track(speech.phonemes), who.articulation, times_T)
    moves = poses(np.random.default_rng([_MOVES, *number]), times_T, who.liveliness)
    return Performance(who, speech, times_T, shapes_TP, moves)


def pictures(seed: int, identity: int, performance: Performance, size: int) -> Iterator[np.ndarray]:
    """The frames, each (size, size, 3) uint8, blue green red."""
    face = _face(seed, identity, size)
    for shape, pose in zip(performance.shapes_TP, performance.poses_T):
        yield face.frame(shape, pose)


def truth(seed: int, identity: int, performance: Performance, size: int) -> dict[str, Any]:
    """What the clip says and shows, as JSON: the record that a measurement on the video is held against.

    `pose` has the angles, scale and shift of every frame (see paint/projection.py; shift in px of the picture).
    `lips` has the place of every point of mouth.LANDMARKS in the picture, [x, y] px from its top left edge.
    `opening_px` and `width_px` are the gap of the inner lips and the distance of the corners in the picture,
    `frontal_opening_px` and `frontal_width_px` the same in a head of scale 1 that looks straight ahead.
    """
    return truth_of(performance, _face(seed, identity, size))


def truth_of(performance: Performance, face: Face) -> dict[str, Any]:
    """`truth` of a performance as a face draws it."""
    who, speech, size = performance.who, performance.speech, face.size
    opening_T, width_T, rounding_T = performance.shapes_TP.T
    lips_T62 = face.lips(performance.shapes_TP, performance.poses_T)
    frontal_T62 = face.lips(performance.shapes_TP, [FRONTAL] * len(performance.poses_T))
    moved = {"x": size / 512, "y": size / 512}
    return {
        "text": speech.text,
        "voice": asdict(who.voice),
        "articulation": asdict(who.articulation),
        "phonemes": [(p.symbol, p.start_s, p.end_s) for p in speech.phonemes],
        "opening": _listed(opening_T),
        "width": _listed(width_T),
        "rounding": _listed(rounding_T),
        "opening_1_px": round(face.edges(np.array([1.0, 0.0, 0.0])).gap * size / 512, 3),
        "pose": {
            name: _listed([getattr(pose, name) * moved.get(name, 1) for pose in performance.poses_T], 4)
            for name in ("yaw", "pitch", "roll", "scale", "x", "y")
        },
        "lips": {name: np.round(lips_T62[:, i], 2).tolist() for i, name in enumerate(mouth.LANDMARKS)},
        "opening_px": _listed(_distance(lips_T62, "upper_inner", "lower_inner"), 3),
        "width_px": _listed(_distance(lips_T62, "left_corner", "right_corner"), 3),
        "frontal_opening_px": _listed(_distance(frontal_T62, "upper_inner", "lower_inner"), 3),
        "frontal_width_px": _listed(_distance(frontal_T62, "left_corner", "right_corner"), 3),
    }


def _distance(lips_T62: np.ndarray, one: str, other: str) -> np.ndarray:
    """Distance of two points of mouth.LANDMARKS per frame, (T,)."""
    first, second = (lips_T62[:, mouth.LANDMARKS.index(name)] for name in (one, other))
    return np.linalg.norm(first - second, axis=-1)


@lru_cache(maxsize=2)
def _face(seed: int, identity: int, size: int) -> Face:
    """Painting the static layers costs as much as a second of video: kept for a person's next clip."""
    who = person(seed, identity)
    return Face(who, portrait(who, size))


def _listed(values_T: Iterable[float], digits: int = 5) -> list[float]:
    return [round(float(value), digits) for value in values_T]


def film(seed: int, identity: int, performance: Performance, size: int, audible: bool = True) -> bytes:
    """The clip as an mp4 file."""
    fps = round(1 / (performance.times_T[1] - performance.times_T[0]))
    samples_S = performance.speech.samples_S if audible else None
    return mp4(pictures(seed, identity, performance, size), size, fps, samples_S, performance.speech.sample_hz)
