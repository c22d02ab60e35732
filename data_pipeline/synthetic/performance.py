"""One clip of the drawn corpus: who speaks, what is said, how mouth and head move, as pictures and as truth.

Everything in it is a function of (seed, identity, clip) and of length, rate and size alone. T frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_pipeline.synthetic.film import mp4
from data_pipeline.synthetic.movement import Pose, poses
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
    times_T = np.arange(frames) / fps
    shapes_TP = articulate(neutral_track(speech.phonemes), who.articulation, times_T)
    moves = poses(np.random.default_rng([_MOVES, seed, identity, clip]), times_T)
    return Performance(who, speech, times_T, shapes_TP, moves)


def pictures(seed: int, identity: int, performance: Performance, size: int) -> Iterator[np.ndarray]:
    """The frames, each (size, size, 3) uint8, blue green red."""
    face = _face(seed, identity, size)
    for shape, pose in zip(performance.shapes_TP, performance.poses_T):
        yield face.frame(shape, pose)


def truth(performance: Performance, size: int) -> dict[str, Any]:
    """What the clip says and shows, as JSON: the record that a measurement on the video is held against."""
    who, speech = performance.who, performance.speech
    opening_T, width_T, rounding_T = performance.shapes_TP.T
    return {
        "text": speech.text,
        "voice": asdict(who.voice),
        "articulation": asdict(who.articulation),
        "phonemes": [(p.symbol, p.start_s, p.end_s) for p in speech.phonemes],
        "opening": _listed(opening_T),
        "width": _listed(width_T),
        "rounding": _listed(rounding_T),
        "opening_1_px": round(mouth.gap(who, 1.0) * size / 512, 3),
    }


@lru_cache(maxsize=2)
def _face(seed: int, identity: int, size: int) -> Face:
    """Painting the static layers costs as much as a second of video: kept for a person's next clip."""
    who = person(seed, identity)
    return Face(who, portrait(who, size))


def _listed(values_T: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values_T]


def film(seed: int, identity: int, performance: Performance, size: int, audible: bool = True) -> bytes:
    """The clip as an mp4 file."""
    fps = round(1 / (performance.times_T[1] - performance.times_T[0]))
    samples_S = performance.speech.samples_S if audible else None
    return mp4(pictures(seed, identity, performance, size), size, fps, samples_S, performance.speech.sample_hz)
