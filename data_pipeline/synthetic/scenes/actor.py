"""What one person does in a scene: mouth, head and place in every frame, and what is heard of it.

Shape suffixes: T frames, P parameters of a mouth (speech/articulation.py), S samples at 16 kHz.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from data_pipeline.synthetic.movement import Pose, poses
from data_pipeline.synthetic.person import Person, person
from data_pipeline.synthetic.speech import sentences
from data_pipeline.synthetic.speech.articulation import articulate, neutral_track
from data_pipeline.synthetic.speech.voice import PAUSE, Speech, speak
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME

SPEAKS = "speaks"
MOUTHS = "mouths"  # moves the lips as in speech, and nothing is heard
NODS = "nods"
CHEWS = "chews"
RESTS = "rests"
PHOTOGRAPH = "photograph"  # a still picture of a face that hangs in the scene

PAUSE_S = 0.3  # a pause of speech that is shorter belongs to it
VOICE_RMS = 0.07  # of a voice while it speaks: -23 dB of full scale


@dataclass(frozen=True)
class Role:
    """What a person does in a shot. It speaks (or chews) from `begins_s` to `ends_s` of the shot.

    `way` has moments of the shot in s and where the middle of the person is then, as a share of the picture's width.
    `sheet_px` is the side of the square in which the person is drawn, of which a face takes 0.45; the square's lower
    edge lies `raised_px` above the picture's.
    """

    identity: int
    does: str = SPEAKS
    way: tuple[tuple[float, float], ...] = ((0.0, 0.5),)
    sheet_px: int = 320
    raised_px: int = 0
    begins_s: float = 0.0
    ends_s: float = math.inf
    yaw: float = 0.0  # degrees, added to the head's own turns


@dataclass(frozen=True)
class Actor:
    """A role played over the T frames of a shot."""

    role: Role
    who: Person
    shapes_TP: np.ndarray
    poses_T: list[Pose]
    middle_T: np.ndarray  # px from the picture's left edge
    voice_S: np.ndarray  # zeros where nothing is heard of it
    speaking_T: np.ndarray  # bool: its voice is heard


def play(role: Role, seed: int, random: np.random.Generator, frames: int, width_px: int) -> Actor:
    """The role played over `frames` frames by one of the seed's people."""
    who = person(seed, role.identity)
    times_T = np.arange(frames) / FRAME_HZ
    ends_s = min(role.ends_s, frames / FRAME_HZ)
    poses_T = [
        replace(pose, yaw=pose.yaw + role.yaw, x=0.5 * pose.x) for pose in poses(random, times_T, who.liveliness)
    ]
    shapes_TP = np.zeros((frames, 3))
    voice_S, speaking_T = np.zeros(frames * SAMPLES_PER_FRAME, np.float32), np.zeros(frames, bool)
    if role.does in (SPEAKS, MOUTHS):
        speech = said(who, random, ends_s - role.begins_s)
        shapes_TP = articulate(neutral_track(speech.phonemes), who.articulation, times_T - role.begins_s)
        if role.does == SPEAKS:
            voice_S, speaking_T = heard(speech, role.begins_s, frames)
    elif role.does == NODS:
        nods_T = 9 * np.sin(2 * np.pi * (random.uniform(0.8, 1.6) * times_T + random.random()))
        poses_T = [replace(pose, pitch=0.3 * pose.pitch + nod) for pose, nod in zip(poses_T, nods_T)]
    elif role.does == CHEWS:
        shapes_TP = _chewing(random, times_T) * ((times_T >= role.begins_s) & (times_T < ends_s))[:, None]
    elif role.does == PHOTOGRAPH:
        poses_T = [replace(poses_T[0], lids=0.0)] * frames
        shapes_TP = np.repeat([[random.uniform(0, 0.3), 0.1, 0.0]], frames, axis=0)
    at_s, at = zip(*role.way)
    return Actor(role, who, shapes_TP, poses_T, np.interp(times_T, at_s, at) * width_px, voice_S, speaking_T)


def said(who: Person, random: np.random.Generator, seconds: float) -> Speech:
    """New sentences in the person's voice that fill `seconds`."""
    text = sentences.compose(random, int(seconds / 2) + 2)
    return speak(text, who.voice, seconds, lead_s=float(random.uniform(0.1, 0.4)))


def heard(speech: Speech, begins_s: float, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The speech from `begins_s` on as float samples (S,) at 16 kHz, and whether it is heard in each frame (T,)."""
    from scipy.signal import resample_poly

    common = math.gcd(SAMPLE_HZ, speech.sample_hz)
    spoken_S = resample_poly(speech.samples_S / 32_768, SAMPLE_HZ // common, speech.sample_hz // common)
    loud_S = np.abs(spoken_S) > 0.02
    spoken_S *= VOICE_RMS / np.sqrt(np.mean(np.square(spoken_S[loud_S])))
    voice_S = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    begin = round(begins_s * SAMPLE_HZ)
    voice_S[begin : begin + len(spoken_S)] = spoken_S[: len(voice_S) - begin]
    middles_T = (np.arange(frames) + 0.5) / FRAME_HZ - begins_s
    speaking_T = np.zeros(frames, bool)
    for phoneme in speech.phonemes:
        short = phoneme.start_s > 0 and phoneme.end_s - phoneme.start_s < PAUSE_S
        if phoneme.symbol != PAUSE or short:
            speaking_T |= (middles_T >= phoneme.start_s) & (middles_T < phoneme.end_s)
    return voice_S, speaking_T


def _chewing(random: np.random.Generator, times_T: np.ndarray) -> np.ndarray:
    """Mouth shapes (T, P): the jaw goes up and down about 1.4 times a second, with pauses to swallow."""
    hz = random.uniform(1.1, 1.7)
    turns_T = hz * times_T + 0.15 * np.sin(2 * np.pi * 0.3 * times_T + random.random())
    bites_T = np.maximum(0, np.sin(2 * np.pi * turns_T)) ** 1.5
    awake_T = np.clip(1.5 * np.sin(2 * np.pi * (0.17 * times_T + random.random())) + 1.4, 0, 1)
    opening_T = random.uniform(0.2, 0.4) * bites_T * awake_T
    width_T = 0.08 * np.sin(2 * np.pi * 0.5 * turns_T)
    return np.stack([opening_T, width_T, 0.25 * bites_T * awake_T], axis=-1)
