"""The voices of the drawn people: text to speech and phoneme times by espeak-ng, in process.

espeak-ng is GPL, so it is an extra ([demo]) that is only loaded when a drawn corpus is made.
"""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mytalk.command import UserError

PAUSE = "_"
FADE_S = 0.02

# Constants of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 0x0001, 0x8000
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_UTF8 = 1
_LIST_END, _WORD, _PHONEME = 0, 1, 7

_SEED = 1  # of its random numbers


class _Event(ctypes.Structure):
    """`espeak_EVENT`; the union `id` is read as the phoneme's name."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Voice:
    """How one person sounds: espeak-ng's voice name, words per minute, pitch and its range (0 to 100)."""

    name: str
    words_per_min: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Phoneme:
    """One sound: espeak-ng's mnemonic without stress marks (`_` is silence) and its times."""

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """What was said: text, samples (S,) int16 mono, their rate, and phonemes in order without gaps."""

    text: str
    samples_S: np.ndarray
    sample_hz: int
    phonemes: tuple[Phoneme, ...]


def speak(text: str, voice: Voice, seconds: float, lead_s: float = 0.2) -> Speech:
    """Speak as many whole words of `text` as fit, in exactly `seconds`, after `lead_s` of silence.

    The result depends on the arguments alone. Raises UserError when espeak-ng is unusable or lacks the voice.
    """
    samples_S, sample_hz, events = _synthesize(text, voice)
    words = [(lead_s + at_s, position) for kind, at_s, position, _ in events if kind == _WORD]
    sounds = [(lead_s + at_s, _plain(name)) for kind, at_s, _, name in events if kind == _PHONEME]
    stop_s = lead_s + len(samples_S) / sample_hz
    if stop_s > seconds:
        # A word's event stands before its first phoneme, and the words after it are not begun.
        stop_s, position = [word for word in words if word[0] <= seconds][-1]
        text = text[: position - 1].rstrip(" ,")
    spoken_S = np.zeros(round(seconds * sample_hz), np.int16)
    lead = round(lead_s * sample_hz)
    kept_S = _faded(samples_S[: round(stop_s * sample_hz) - lead], sample_hz)
    spoken_S[lead : lead + len(kept_S)] = kept_S[: len(spoken_S) - lead]
    return Speech(text, spoken_S, sample_hz, tuple(_segments(sounds, stop_s, seconds)))


def _segments(sounds: list[tuple[float, str]], stop_s: float, end_s: float) -> list[Phoneme]:
    """Phonemes from their start times, without gaps from 0 to `end_s`; pauses in a row are one."""
    starts = [(0.0, PAUSE), *[sound for sound in sounds if sound[0] < stop_s], (stop_s, PAUSE)]
    lasting = [a for a, b in zip(starts, [*starts[1:], (end_s, PAUSE)]) if b[0] > a[0]]
    merged = [lasting[0]]
    for sound in lasting[1:]:
        if not sound[1] == merged[-1][1] == PAUSE:
            merged.append(sound)
    ends_s = [start_s for start_s, _ in merged[1:]] + [end_s]
    return [Phoneme(name, round(start_s, 4), round(stop, 4)) for (start_s, name), stop in zip(merged, ends_s)]


def _plain(name: str) -> str:
    """A mnemonic without its stress marks; every kind of pause is `_`."""
    plain = name.strip("',%=")
    return PAUSE if plain.startswith("_") or not plain else plain


def _faded(samples_S: np.ndarray, sample_hz: int) -> np.ndarray:
    """The samples with their last FADE_S faded out, so that a cut does not click."""
    fade = min(round(FADE_S * sample_hz), len(samples_S))
    gain_S = np.ones(len(samples_S), np.float32)
    gain_S[len(samples_S) - fade :] = np.linspace(1, 0, fade, dtype=np.float32)
    return (samples_S * gain_S).astype(np.int16)


def _synthesize(text: str, voice: Voice) -> tuple[np.ndarray, int, list[tuple[int, float, int, str]]]:
    """Samples, rate, and events (kind, time in s, text position, phoneme) of one utterance."""
    pieces: list[bytes] = []
    events: list[tuple[int, float, int, str]] = []

    def receive(samples, count, event) -> int:
        if samples and count:
            pieces.append(ctypes.string_at(samples, count * 2))
        at = 0
        while event[at].type != _LIST_END:
            one = event[at]
            name = one.name.decode("utf-8", "replace") if one.type == _PHONEME else ""
            events.append((one.type, one.audio_position / 1000, one.text_position, name))
            at += 1
        return 0

    callback = _CALLBACK(receive)  # kept in a name: espeak-ng holds only its address
    with _fresh_library() as (library, sample_hz):
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise UserError(f"espeak-ng has no voice '{voice.name}'; install espeakng-loader as constrained")
        library.espeak_SetParameter(_RATE, voice.words_per_min, 0)
        library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        library.espeak_SetParameter(_PITCH_RANGE, voice.pitch_range, 0)
        data = text.encode()
        if library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None) != 0:
            raise UserError("espeak-ng refused to speak; reinstall espeakng-loader")
        library.espeak_Synchronize()
    return np.frombuffer(b"".join(pieces), np.int16), sample_hz, events


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """Load espeak-ng for one utterance and unload it again.

    Its flutter and noise continue from utterance to utterance in static variables, and even the phonemes'
    times follow them. Unloading is what resets these, so that a clip does not depend on the one before. Its
    random numbers would start from the clock.
    """
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    try:
        data = espeakng_loader.get_data_path().encode()
        sample_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _DO_NOT_EXIT)
        if sample_hz <= 0:
            raise UserError("espeak-ng does not start; reinstall espeakng-loader")
        library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
        yield library, sample_hz
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
