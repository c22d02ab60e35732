"""One clip of a held-out corpus: a function of (seed, identity, clip), its axes, length and size alone. T frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from data_pipeline.synthetic.film import QUALITY, mp4
from data_pipeline.synthetic.film import SOUND_BPS as PLAIN_BPS
from data_pipeline.synthetic.heldout import recording, renderer
from data_pipeline.synthetic.heldout.axes import Axes, cast, heard_as, turned
from data_pipeline.synthetic.movement import poses
from data_pipeline.synthetic.paint.face import Face
from data_pipeline.synthetic.paint.portrait import portrait
from data_pipeline.synthetic.performance import Performance, truth_of
from data_pipeline.synthetic.speech import sentences
from data_pipeline.synthetic.speech.articulation import articulate, neutral_track
from data_pipeline.synthetic.speech.voice import speak

FPS = 25
_WORDS, _MOVES, _TURN, _ROOM, _GRAIN = 12, 13, 14, 15, 16  # tags of streams of randomness


def perform(seed: int, identity: int, clip: int, seconds: float, axes: Axes) -> Performance:
    """What is said and how mouth and head move; another axis changes nothing of the others."""
    who, number = cast(seed, identity, axes), (seed, identity, clip)
    random = np.random.default_rng([_WORDS, *number])
    text = sentences.compose(random, int(seconds / 2) + 3)
    frames = round(seconds * FPS)
    speech = speak(text, who.voice, frames / FPS, lead_s=float(random.uniform(0.1, 0.4)))
    times_T = np.arange(frames) / FPS
    shapes_TP = articulate(neutral_track(heard_as(speech.phonemes)), who.articulation, times_T)
    moves = poses(np.random.default_rng([_MOVES, *number]), times_T, who.liveliness)
    if axes.pose:
        moves = turned(moves, np.random.default_rng([_TURN, *number]))
    if axes.recording:
        heard_S = recording.in_a_room(speech.samples_S, speech.sample_hz, np.random.default_rng([_ROOM, *number]))
        speech = replace(speech, samples_S=heard_S)
    return Performance(who, speech, times_T, shapes_TP, moves)


@lru_cache(maxsize=2)
def face(seed: int, identity: int, size: int, axes: Axes) -> Face:
    """Who draws a person."""
    who = cast(seed, identity, axes)
    if not axes.renderer:
        return Face(who, portrait(who, size))
    who = renderer.proportioned(who)
    return renderer.LitFace(who, renderer.portrait(who, size))


def pictures(number: tuple[int, int, int], performance: Performance, size: int, axes: Axes) -> Iterator[np.ndarray]:
    """The frames, each (size, size, 3) uint8, blue green red."""
    seed, identity, _ = number
    drawn_by, random = face(seed, identity, size, axes), np.random.default_rng([_GRAIN, *number])
    for shape, pose in zip(performance.shapes_TP, performance.poses_T):
        picture = drawn_by.frame(shape, pose)
        yield recording.filmed_poorly(picture, random) if axes.recording else picture


def film(number: tuple[int, int, int], performance: Performance, size: int, axes: Axes) -> bytes:
    """The clip as an mp4 file."""
    crf, bps = (recording.CRF, recording.SOUND_BPS) if axes.recording else (QUALITY, PLAIN_BPS)
    speech = performance.speech
    return mp4(pictures(number, performance, size, axes), size, FPS, speech.samples_S, speech.sample_hz, crf, bps)


def truth(number: tuple[int, int, int], performance: Performance, size: int, axes: Axes) -> dict[str, Any]:
    """The clip's record in truth.jsonl, as `performance.truth` has it."""
    seed, identity, _ = number
    return truth_of(performance, face(seed, identity, size, axes))
