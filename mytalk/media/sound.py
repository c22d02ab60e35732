"""Sound by time: one channel, or all of them, sample 0 at the first picture, silence where nothing was recorded.

Shape suffixes: S audio samples, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ
from mytalk.media.downmix import Downmix, Kept
from mytalk.media.notes import MediaError, Notes
from mytalk.media.opening import audio_stream, machine_error, opened, packets, second_wav
from mytalk.media.pictures import picture_span_s

JITTER_S = 0.01  # audio time stamps are rounded (Matroska: to 1 ms); a smaller step is no gap
MOST_CHANNELS = 8  # more are read from a damaged stream
LEAST_HZ, MOST_HZ = 4000, 768_000  # of sound in a file: at 1 Hz a few bytes would be hours
AFTER_S = 1  # sound is kept for so long after the last picture
MOST_SILENCE_S = 600  # silence in gaps, beyond as much as there is sound


def read_audio(
    path: str | os.PathLike,
    rate: int = SAMPLE_HZ,
    notes: Notes | None = None,
    whole: bool = False,
    on_packet: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The default audio stream as float32 (S,) mono in [-1, 1] at `rate` Hz.

    Sample 0 is time zero of the video (of the audio, where a file has no video): what comes before is cut, what is
    missing there and in gaps of the time stamps is silence. It ends at most AFTER_S after the last picture; `whole`
    takes what follows as well. Channels are mixed so that speech survives (mytalk/media/downmix.py); samples that are
    no numbers become 0, packets that cannot be decoded silence. Memory is about one copy of the result, silence in
    gaps at most as long as what is decoded and MOST_SILENCE_S. `on_packet` is called at each packet of the file, a sign
    of life.

    A file that breaks off gives what decodes if `notes` are there to tell, else raises MediaError: truncated, corrupt,
    timestamps. Raises MediaError at once where nothing decodes: unreadable, no_audio. OSError for the machine's errors.
    """
    seen = Notes() if notes is None else notes
    span_s = picture_span_s(path, on_packet)
    mix = Downmix({})
    (samples_S,) = _read(path, rate, span_s, whole, mix, seen, on_packet)
    if take := mix.better():
        (samples_S,) = _read(path, rate, span_s, whole, Downmix(take), seen, on_packet)
        seen.say("its channels cancel each other when mixed: the louder one is taken")
    if seen.sound_cut is not None:
        seen.cut_at(len(samples_S) / rate)
        if notes is None:
            raise seen.sound_cut
    return samples_S


def read_channels(path: str | os.PathLike, rate: int, notes: Notes) -> tuple[np.ndarray, str]:
    """All of the default audio stream, as `read_audio` with `whole`, with its channels: float32 (C, S), and the layout.

    Layouts that AAC does not have, as "quad", are mixed to mono. Raises as `read_audio` with notes does.
    """
    kept = Kept()
    samples_CS = _read(path, rate, picture_span_s(path), True, kept, notes, lambda: None)
    if len(samples_CS) == 1:  # mixed, perhaps, and what is lost then is looked at there
        return read_audio(path, rate, notes, whole=True)[None], kept.layout
    return samples_CS, kept.layout


def _read(path, rate, span_s, whole: bool, mix: Downmix, seen: Notes, on_packet: Callable[[], None]) -> np.ndarray:
    """The sound by a mix: (C, S)."""
    with opened(path) as container:
        stream = audio_stream(container, path)
        _say_track(container, stream, seen)
        axis = None
        resampler, expected_s, heard = None, 0.0, None
        for frame in _decoded(container, stream, path, seen, on_packet):
            if not LEAST_HZ <= frame.sample_rate <= MOST_HZ:
                raise MediaError("unreadable", f"{path}: {frame.sample_rate} Hz is no sample rate of speech")
            mixed = mix.mixed_frame(frame)
            at_s = float(frame.pts * (frame.time_base or stream.time_base)) if frame.pts is not None else expected_s
            if axis is None:
                begin_s, end_s = (at_s, None) if span_s is None else (float(span_s[0]), float(span_s[1]))
                axis = _Axis(rate, mix.channels, begin_s, None if whole or end_s is None else end_s + AFTER_S)
            if resampler is None or abs(at_s - expected_s) > JITTER_S or heard != frame.sample_rate:
                axis.add(_resampled(resampler, None))
                resampler, heard = av.AudioResampler(format="flt", layout=mix.layout, rate=rate), frame.sample_rate
                expected_s = at_s
                if not axis.go_to(at_s):
                    seen.sound_cut = MediaError(
                        "timestamps", f"{path}: the time stamps of the sound leave gaps of hours"
                    )
                    resampler = None
                    break
            axis.add(_resampled(resampler, mixed))
            expected_s += frame.samples / frame.sample_rate
        if axis is None:
            raise seen.sound_cut or MediaError("no_audio", f"{path}: the audio stream holds no samples")
        axis.add(_resampled(resampler, None))
    if mix.not_numbers:
        seen.say(f"{mix.not_numbers} samples of its sound are no numbers: they are silenced")
    return axis.samples()


def _decoded(container, stream, path, seen: Notes, on_packet: Callable[[], None]) -> Iterator[Any]:
    """Decoded audio frames; what cannot be decoded is left out."""
    decoder = stream.codec_context
    failed = 0

    def broken(error: MediaError) -> None:
        seen.sound_cut = error

    if (byte := second_wav(path)) is not None:
        seen.say(f"another WAV begins in it at byte {byte} and is not heard; join them into one WAV")
    for packet in packets(container, stream, path, broken, on_packet):
        try:
            frames = decoder.decode(packet)
            many = [frame for frame in frames if frame.layout.nb_channels > MOST_CHANNELS]
            failed += len(many)
            yield from (frame for frame in frames if frame not in many)
        except av.error.EOFError:
            pass
        except av.error.FFmpegError as error:
            if machine := machine_error(error, path):
                raise machine from error
            failed += 1
    try:
        yield from decoder.decode(None)
    except av.error.FFmpegError:
        failed += 1
    if failed > 1:  # the first packet of a cut mp3 often fails
        seen.say(f"{failed} packets of its sound cannot be decoded: they are silent")


def _say_track(container, stream, seen: Notes) -> None:
    tracks = container.streams.audio
    if len(tracks) > 1:
        number = 1 + [track.index for track in tracks].index(stream.index)
        seen.say(f"it has {len(tracks)} sound tracks: number {number} is taken, as players do")


def _resampled(resampler, frame) -> list[np.ndarray]:
    """The samples that a frame completes, channels in turn; frame None: the rest."""
    if resampler is None:
        return []
    return [resampled.to_ndarray().reshape(-1) for resampled in resampler.resample(frame)]


class _Axis:
    """Samples laid on one axis from `begin_s` to `end_s` (None: open); what comes later in the file wins."""

    def __init__(self, rate: int, channels: int, begin_s: float, end_s: float | None):
        self.rate, self.channels, self.begin_s = rate, channels, begin_s
        self.most = None if end_s is None else max(round((end_s - begin_s) * rate), 0)
        self.laid = bytearray()  # float32; grows in place, where a list of arrays would be copied to be joined
        self.at = 0
        self.decoded = self.silent = 0

    @property
    def sample_bytes(self) -> int:
        """Of one sample with all of its channels."""
        return 4 * self.channels

    def go_to(self, at_s: float) -> bool:
        """Where the next samples belong. False: too far away from all there is."""
        self.at = round((at_s - self.begin_s) * self.rate)
        gap = self.at - len(self.laid) // self.sample_bytes
        beyond = self.most is not None and self.at >= self.most  # nothing is laid there
        return beyond or self.silent + gap <= self.decoded + MOST_SILENCE_S * self.rate

    def add(self, pieces: list[np.ndarray]) -> None:
        size = self.sample_bytes
        for samples in (piece.reshape(-1, self.channels) for piece in pieces):
            begin, end = self.at, self.at + len(samples)
            self.at, self.decoded = end, self.decoded + len(samples)
            if self.most is not None:
                end = min(end, self.most)
            kept = samples[max(-begin, 0) : max(end - begin, 0)].astype(np.float32)
            if not len(kept):
                continue
            begin = max(begin, 0)
            gap = begin - len(self.laid) // size
            if gap > 0:
                self.silent += gap
                self.laid.extend(bytes(size * gap))
            self.laid[size * begin : size * (begin + len(kept))] = kept.tobytes()

    def samples(self) -> np.ndarray:
        """All that was laid: (C, S), a view of what is kept."""
        laid_SC = np.frombuffer(self.laid, np.float32).reshape(-1, self.channels)
        return np.clip(laid_SC, -1, 1, out=laid_SC).T
