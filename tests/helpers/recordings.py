"""The same clip as other cameras, microphones and programs would have recorded it, with the truth about its timing.

A film is a function of time and a sound: those of a drawn clip, or a test's own. However it is recorded,
whoever reads it must find the picture of every moment beside the sound of that moment.

Shape suffixes: T pictures, H height, W width, 3 = RGB, S samples, C channels.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from data_pipeline.synthetic import performance
from data_pipeline.synthetic.speech.articulation import articulate, neutral_track

NTSC = Fraction(30_000, 1001)
TICK_S = Fraction(1, 90_000)
SOUND_HZ = 48_000
TURNED = (0, 1, -1, 0)  # display matrices (a, b, c, d): (x, y) is shown at (a x + c y, b x + d y)
MIRRORED = (-1, 0, 0, 1)
UPRIGHT = (1, 0, 0, 1)


@dataclass(frozen=True)
class Recording:
    """How a clip is recorded: 25 fps, mono, upright in an mp4, but for what is named.

    `uneven`: no two pictures are as far apart. `channels`: what each channel carries, in units of the sound; more than
    two are 5.1. `starts_s`: the sound is recorded from then on. `late_s`: all of the sound lies so much later than it
    was heard, which a reader cannot know and must keep. `fade_s`: it fades in from black.
    """

    name: str
    rate: Fraction = Fraction(25)
    uneven: bool = False
    channels: tuple[float, ...] = (1.0,)
    starts_s: float = 0.0
    late_s: float = 0.0
    matrix: tuple[int, int, int, int] = UPRIGHT
    crop_px: int = 0  # cut off at the right and below
    fade_s: float = 0.0
    container: str = "mp4"
    fragments: bool = False


RECORDINGS = (
    Recording("plain"),
    Recording("ntsc", rate=NTSC),
    Recording("ntsc_matroska", rate=NTSC, container="matroska"),
    Recording("film_rate", rate=Fraction(24_000, 1001)),
    Recording("slow", rate=Fraction(12)),
    Recording("fast", rate=Fraction(60)),
    Recording("variable", rate=NTSC, uneven=True),
    Recording("stereo", channels=(1.0, 0.8)),
    Recording("one_channel", channels=(0.0, 1.0)),
    Recording("opposite_phase", channels=(1.0, -1.0)),
    Recording("centre", channels=(0.0, 0.0, 1.0, 0.0, 0.0, 0.0)),
    Recording("late_sound", starts_s=0.7),
    Recording("shifted_late", late_s=0.2),
    Recording("shifted_early", late_s=-0.12),
    Recording("turned", matrix=TURNED),
    Recording("mirrored", matrix=MIRRORED),
    Recording("odd_size", crop_px=3),
    Recording("faded", fade_s=0.4),
    Recording("fragments", rate=NTSC, fragments=True),
    Recording("transport_stream", rate=NTSC, container="mpegts"),
)

PicturesAt = Callable[[np.ndarray], Iterable[np.ndarray]]  # times in s (T,) -> RGB uint8 (H, W, 3) each


def times_of(recording: Recording, seconds: float) -> list[Fraction]:
    """When each picture is taken, to the tick of the file."""
    count = round(seconds * recording.rate)
    at_s = [k / recording.rate for k in range(count)]
    if recording.uneven:
        jitter = np.random.default_rng(count).uniform(-0.4, 0.4, count)
        at_s = [time_s + Fraction(float(j)) / recording.rate for time_s, j in zip(at_s, jitter)]
        at_s[0] = Fraction(0)
    return [round(time_s / TICK_S) * TICK_S for time_s in at_s]


def record(recording: Recording, pictures_at: PicturesAt, sound_S: np.ndarray, sound_hz: int, seconds: float) -> bytes:
    """The file. `sound_S` is float at `sound_hz`, from the moment of the first picture on."""
    target = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"} if recording.fragments else {}
    times = times_of(recording, seconds)
    with av.open(target, "w", format=recording.container, options=options) as container:
        video = container.add_stream("libx264", rate=recording.rate, options={"crf": "16", "preset": "veryfast"})
        video.codec_context.time_base = video.time_base = TICK_S
        video.codec_context.thread_count = 1
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(recording.channels)]
        sound = container.add_stream("aac", rate=SOUND_HZ, layout=layout)
        shown = pictures_at(np.array([float(time_s) for time_s in times]))
        stored = (_stored(recording, picture, float(time_s)) for time_s, picture in zip(times, shown, strict=True))
        first = next(stored)
        video.height, video.width = first.shape[:2]
        video.pix_fmt = "yuv444p" if video.height % 2 or video.width % 2 else "yuv420p"
        for packet in _sound_packets(recording, sound, layout, sound_S, sound_hz):
            container.mux(packet)
        for time_s, picture in zip(times, itertools.chain([first], stored)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = TICK_S, round(time_s / TICK_S)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return _with_matrix(target.getvalue(), recording.matrix)


def _sound_packets(
    recording: Recording, stream, layout: str, sound_S: np.ndarray, sound_hz: int
) -> Iterator[av.Packet]:
    at = np.arange(round(len(sound_S) / sound_hz * SOUND_HZ)) / SOUND_HZ - recording.late_s
    heard_S = np.interp(at, np.arange(len(sound_S)) / sound_hz, sound_S, left=0, right=0)
    begin = round(recording.starts_s * SOUND_HZ)
    channels_CS = np.outer(recording.channels, heard_S[begin:]).astype(np.float32)
    for start in range(0, channels_CS.shape[1], 1024):
        piece = np.ascontiguousarray(channels_CS[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = SOUND_HZ, Fraction(1, SOUND_HZ), begin + start
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _stored(recording: Recording, picture_HW3: np.ndarray, time_s: float) -> np.ndarray:
    """The picture as it lies in the file: faded, cropped, turned the other way."""
    if time_s < recording.fade_s:
        picture_HW3 = (picture_HW3 * (time_s / recording.fade_s)).astype(np.uint8)
    if recording.crop_px:
        picture_HW3 = picture_HW3[: -recording.crop_px, : -recording.crop_px]
    if recording.matrix == TURNED:  # shown a quarter turn clockwise
        picture_HW3 = np.rot90(picture_HW3, 1)
    if recording.matrix == MIRRORED:
        picture_HW3 = picture_HW3[:, ::-1]
    return np.ascontiguousarray(picture_HW3)


def _with_matrix(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The mp4 with a display matrix in the header of its first track."""
    if matrix == UPRIGHT:
        return data
    a, b, c, d = (number * 0x10000 for number in matrix)
    at = data.index(b"tkhd") + 4 + 40  # version, times, ids and volume come before the matrix
    return data[:at] + struct.pack(">8i", a, b, 0, c, d, 0, 0, 0) + data[at + 32 :]


@dataclass(frozen=True)
class DrawnFilm:
    """A drawn clip as a function of time."""

    seed: int
    identity: int
    clip: int
    seconds: float
    size: int

    def performance(self, times_T: np.ndarray | None = None) -> performance.Performance:
        """The clip at 25 fps, or at other times."""
        done = performance.perform(self.seed, self.identity, self.clip, self.seconds, 25)
        return done if times_T is None else performance.retimed(done, self.seed, self.identity, self.clip, times_T)

    def pictures_at(self, times_T: np.ndarray) -> Iterator[np.ndarray]:
        """RGB pictures of those moments."""
        done = self.performance(times_T)
        for picture in performance.pictures(self.seed, self.identity, done, self.size):
            yield np.ascontiguousarray(picture[..., ::-1])

    def opening_at(self, times_T: np.ndarray) -> np.ndarray:
        """The drawn mouth's opening at any times (T,), as truth.jsonl has it."""
        done = self.performance()
        track = neutral_track(done.speech.phonemes)
        return np.asarray(articulate(track, done.who.articulation, times_T))[:, 0]

    def sound(self) -> tuple[np.ndarray, int]:
        """The speech as float samples (S,) and their rate."""
        speech = self.performance().speech
        return speech.samples_S / 32_768, speech.sample_hz


def record_drawn(recording: Recording, film: DrawnFilm) -> bytes:
    """A drawn clip as a file."""
    sound_S, sound_hz = film.sound()
    return record(recording, film.pictures_at, sound_S, sound_hz, film.seconds)
