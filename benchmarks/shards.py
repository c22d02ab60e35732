"""What the shard format costs: codings of the frames, of the audio, and sums over blocks of a shard.

One run, on clips that it draws itself: clean, and with the noise of a camera and a microphone. All rivals take
turns, round after round, so that a busy machine slows them alike; times are medians.

Shape suffixes: T frames, S audio samples, H height, W width, 3 = RGB.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image

from data_pipeline.shards import members
from data_pipeline.synthetic import performance
from mytalk import command, media
from mytalk.face import crop
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.face.mediapipe_mesh import FaceDetector
from mytalk.machine import cores
from mytalk.media import mp4
from mytalk.progress import Progress

PEOPLE, SEED, SOURCE_PX = 2, 0, 512
# Options of x264 that differ from the format's: the distance of key pictures, and what else could be asked of it.
H264 = {"H.264 all-intra": {"g": "1"}, **{f"H.264 GOP {gop}": {"g": str(gop)} for gop in (3, 5, 12, 25)}}
H264["GOP 5, preset medium"] = {"g": "5", "preset": "medium"}
H264["GOP 5, CABAC, deblocked"] = {"g": "5", "tune": "psnr"}
QUALITIES = (90, 95)
WINDOW_FRAMES, SCATTERED = 5, 4  # a window of video; an appearance example's target and its 3 references
SOUND_FRAMES = 2 * FRAME_HZ  # a window of the motion model, 2 s
BLOCKS_KIB = (4, 16, 64)

Read = Callable[[int, int], bytes]


@dataclass
class Coding:
    """A coding of one clip as a file, and what reading it took, by (way, shape): ms, and the ranges read."""

    name: str
    data: bytes
    frames_held: int
    psnr_db: float
    places: list[tuple[int, int]] | None = None  # (offset, size) of every frame; None: an mp4
    ms: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    reads: dict[tuple[str, str], list[list[tuple[int, int]]]] = field(default_factory=dict)

    def frames(self, way: str, read: Read, indices: list[int]) -> np.ndarray:
        """Frames `indices`, by the whole member or by byte ranges."""
        if self.places is not None:
            return np.stack([_jpeg_pixels(read(*self.places[index])) for index in indices])
        if way == "whole":
            return media.decode_frames(read(0, len(self.data)), indices)
        head = read(0, min(mp4.HEAD_BYTES, len(self.data)))
        if (needed := mp4.Track.needs(head, len(self.data))) > len(head):  # a long index
            head += read(len(head), needed - len(head))
        track = mp4.Track.parse(head, len(self.data))
        return track.decode([read(*where) for where in track.ranges(indices)], indices)


def arguments() -> argparse.ArgumentParser:
    made = command.parser(
        "python -m benchmarks.shards",
        "Measure the codings of frames and audio and the sums over blocks of a shard, on drawn talkers, and\n"
        "print the tables. One process; a minute or two at 10 s a clip.",
        "python -m benchmarks.shards --seconds 10 --rounds 60",
    )
    made.add_argument("--seconds", type=float, default=10.0, help="length of a clip, 3 to 60 (default: %(default)s)")
    made.add_argument("--rounds", type=int, default=60, help="windows per clip and coding (default: %(default)s)")
    return made


def run(args: argparse.Namespace) -> int:
    if not 3 <= args.seconds <= 60 or args.rounds < 1:
        raise command.UserError("--seconds must be 3 to 60 and --rounds 1 or more")
    random = np.random.default_rng(SEED)
    clips = [drawn(person, args.seconds) for person in range(PEOPLE)]
    print(
        f"{PEOPLE} people, a clip of {args.seconds:g} s each, {args.rounds} rounds, {cores()} cores; "
        f"PyAV {av.__version__}; times are medians in ms\n"
    )
    measured = measured_frames(clips, args.rounds, random)
    scattered = [read for coding in measured["noisy", "H.264 GOP 5"] for read in coding.reads["ranges", "scattered"]]
    tables = frames_table(measured), audio_table(clips, args.rounds, random), sums_table(scattered, args.rounds, random)
    print("\n\n".join("\n".join(lines) for lines in tables))
    return command.EXIT_DONE


def drawn(person: int, seconds: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A drawn talker's crops (T, 256, 256, 3) and speech (S,), each clean and noisy, as extraction cuts them."""
    done = performance.perform(SEED, person, 0, seconds, FRAME_HZ)
    progress = Progress(f"drawing person {person}", len(done.times_T), "frames")
    sources, found, detector = [], [], FaceDetector()
    for picture in performance.pictures(SEED, person, done, SOURCE_PX):
        sources.append(np.ascontiguousarray(picture[..., ::-1]))  # drawn blue green red
        landmarks_N2 = detector.detect(sources[-1]) if len(sources) % 5 == 1 else None
        found += [landmarks_N2] if landmarks_N2 is not None else []
        progress.step()
    progress.finish()
    crop_23, random = crop.canonical(np.stack(found)), np.random.default_rng([SEED, person])
    video = {
        "clean": np.stack([crop.warp(source, crop_23) for source in sources]),
        "noisy": np.stack([crop.warp(as_filmed(source, random), crop_23) for source in sources]),
    }
    hz = done.speech.sample_hz
    speech = done.speech.samples_S.astype(np.float64) / 32768
    at_S = np.arange(round(seconds * SAMPLE_HZ)) * hz / SAMPLE_HZ  # linear: its treble is not what is measured
    speech_S = np.interp(at_S, np.arange(len(speech)), speech)
    return video, {"clean": speech_S, "noisy": speech_S + random.normal(0, 10 ** (-50 / 20), len(speech_S))}


def as_filmed(picture_HW3: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The picture with a sensor's noise: of the light (its variance grows with it) and of reading."""
    light = picture_HW3.astype(np.float32)
    noise = random.standard_normal(light.shape, dtype=np.float32) * np.sqrt(2 + 0.06 * light)
    return np.clip(np.rint(light + noise), 0, 255).astype(np.uint8)


# Frames ----------------------------------------------------------------------------------------------


def codings(video_THW3: np.ndarray) -> list[Coding]:
    """The clip in every coding."""
    made, frames = [], len(video_THW3)
    for name, options in H264.items():
        data = media.encode_frames(video_THW3, codec={**media.CLIP_CODEC, **options})
        decoded = media.decode_frames(data, range(frames))
        made.append(Coding(name, data, frames, psnr(video_THW3, decoded)))
    for quality in QUALITIES:
        files = [_jpeg(picture, quality) for picture in video_THW3]
        offsets = np.cumsum([0, *map(len, files)]).tolist()
        places = [(offset, len(file)) for offset, file in zip(offsets, files)]
        decoded = np.stack([_jpeg_pixels(file) for file in files])
        made.append(Coding(f"JPEG q{quality}", b"".join(files), frames, psnr(video_THW3, decoded), places))
    return made


def measured_frames(clips: list, rounds: int, random: np.random.Generator) -> dict[tuple[str, str], list[Coding]]:
    """The codings of all clips by (video, coding), read in rounds: a window, and scattered frames."""
    kinds = list(clips[0][0])
    progress = Progress("frames", len(clips) * len(kinds), "videos")
    measured: dict[tuple[str, str], list[Coding]] = {}
    frames = len(clips[0][0]["clean"])
    with tempfile.TemporaryDirectory() as folder:
        for videos, _ in clips:
            for kind in kinds:
                made = codings(videos[kind])
                for coding in made:
                    measured.setdefault((kind, coding.name), []).append(coding)
                for _ in range(rounds + 1):
                    start = int(random.integers(0, frames - WINDOW_FRAMES + 1))
                    window = list(range(start, start + WINDOW_FRAMES))
                    scattered = sorted(random.choice(frames, SCATTERED, replace=False).tolist())
                    for coding in made:
                        for shape, indices in (("window", window), ("scattered", scattered)):
                            read_timed(coding, shape, indices, Path(folder))
                progress.step()
    progress.finish()
    return measured


def frames_table(measured: dict[tuple[str, str], list[Coding]]) -> list[str]:
    """Rows per video and coding: bytes, PSNR, ms and bytes read of a window and of scattered frames."""
    lines = [
        f"| video | coding | bytes a frame | PSNR, dB | {WINDOW_FRAMES}-frame window, ms: whole / ranges "
        f"| {SCATTERED} scattered, ms: whole / ranges | kB read: whole / window / scattered |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, name), of in measured.items():
        cells = [f"{np.mean([len(coding.data) / coding.frames_held for coding in of]):.0f}"]
        cells.append(f"{np.mean([coding.psnr_db for coding in of]):.1f}")
        for shape in ("window", "scattered"):
            cells.append(" / ".join(_median(of, way, shape) for way in ("whole", "ranges")))
        read = [np.mean([len(coding.data) for coding in of])]
        for shape in ("window", "scattered"):
            taken = [ranges for coding in of for ranges in coding.reads["ranges", shape]]
            read.append(np.mean([sum(size for _, size in ranges) for ranges in taken]))
        lines.append(f"| {kind} | {name} | {' | '.join(cells)} | {' / '.join(f'{n / 1000:.0f}' for n in read)} |")
    return lines


def read_timed(coding: Coding, shape: str, indices: list[int], folder: Path) -> None:
    """Read `indices` in every way from a file, and note ms and bytes; the ways must agree."""
    path = folder / f"{coding.name}-{len(coding.data)}"
    if not path.exists():
        path.write_bytes(coding.data)
    descriptor, seen = os.open(path, os.O_RDONLY), []
    for way in ("ranges",) if coding.places is not None else ("whole", "ranges"):
        ranges: list[tuple[int, int]] = []

        def read(offset: int, size: int, ranges: list[tuple[int, int]] = ranges) -> bytes:
            ranges.append((offset, size))
            return os.pread(descriptor, size, offset)

        began = time.perf_counter()
        seen.append(coding.frames(way, read, indices))
        coding.ms.setdefault((way, shape), []).append(1e3 * (time.perf_counter() - began))
        coding.reads.setdefault((way, shape), []).append(ranges)
    os.close(descriptor)
    assert all(np.array_equal(seen[0], other) for other in seen)


def psnr(right: np.ndarray, got: np.ndarray) -> float:
    """Mean over the frames of their peak signal to noise ratio, dB."""
    return float(np.mean([10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)) for a, b in zip(right, got)]))


def _median(of: list[Coding], way: str, shape: str) -> str:
    times = [ms for coding in of for ms in coding.ms.get((way, shape), [])[1:]]  # the first one warms up
    return f"{np.median(times):.2f}" if times else "-"


def _jpeg(picture_HW3: np.ndarray, quality: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture_HW3).save(target, "JPEG", quality=quality)
    return target.getvalue()


def _jpeg_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# Audio -----------------------------------------------------------------------------------------------


@dataclass
class Flac:
    """Speech as FLAC: the stream's parameters, and its blocks, which can be decoded from any one on."""

    parameters: bytes
    blocks: list[bytes]
    block_samples: int

    @classmethod
    def of(cls, samples_S: np.ndarray) -> Flac:
        encoder = av.CodecContext.create("flac", "w")
        encoder.sample_rate, encoder.format, encoder.layout = SAMPLE_HZ, "s16", "mono"
        encoder.open()
        blocks, size = [], encoder.frame_size
        for begin in range(0, len(samples_S), size):
            frame = av.AudioFrame.from_ndarray(samples_S[None, begin : begin + size], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_HZ, begin
            blocks += [bytes(packet) for packet in encoder.encode(frame)]
        blocks += [bytes(packet) for packet in encoder.encode(None)]
        return cls(bytes(encoder.extradata or b""), [block for block in blocks if block], size)

    def window(self, start: int, stop: int) -> np.ndarray:
        """Samples [start, stop) as float32 in [-1, 1]."""
        decoder = av.CodecContext.create("flac", "r")
        decoder.extradata = self.parameters
        first, past = start // self.block_samples, -(-stop // self.block_samples)
        packets = [av.Packet(block) for block in self.blocks[first:past]]
        decoded = [frame.to_ndarray()[0] for packet in [*packets, None] for frame in decoder.decode(packet)]
        begin = first * self.block_samples
        return np.concatenate(decoded)[start - begin : stop - begin].astype(np.float32) / 32768


def audio_table(clips: list, rounds: int, random: np.random.Generator) -> list[str]:
    """Rows per speech and coding: bytes a second, ms of a window of 2 s."""
    lines = ["| speech | coding | kB a second | 2 s window, ms |", "|---|---|---|---|"]
    for kind in clips[0][1]:
        rates: dict[str, list[float]] = {"PCM": [], "FLAC": []}
        times: dict[str, list[float]] = {"PCM": [], "FLAC": []}
        for _, speech in clips:
            wav, flac = members.audio_wav(speech[kind]), Flac.of(members.pcm(speech[kind]))
            seconds = len(speech[kind]) / SAMPLE_HZ
            rates["PCM"].append(len(wav) / seconds)
            rates["FLAC"].append(sum(map(len, flac.blocks)) / seconds)
            for _ in range(rounds):
                start = int(random.integers(0, len(speech[kind]) - SOUND_FRAMES * SAMPLES_PER_FRAME + 1))
                stop = start + SOUND_FRAMES * SAMPLES_PER_FRAME
                began = time.perf_counter()
                plain = members.from_pcm(
                    wav[members.WAV_HEADER_BYTES + 2 * start : members.WAV_HEADER_BYTES + 2 * stop]
                )
                between = time.perf_counter()
                packed = flac.window(start, stop)
                times["FLAC"].append(1e3 * (time.perf_counter() - between))
                times["PCM"].append(1e3 * (between - began))
                assert np.array_equal(plain, packed)
        for name in rates:
            lines.append(f"| {kind} | {name} | {np.mean(rates[name]) / 1000:.1f} | {np.median(times[name]):.3f} |")
    return lines


# Sums ------------------------------------------------------------------------------------------------


def sums_table(scattered: list[list[tuple[int, int]]], rounds: int, random: np.random.Generator) -> list[str]:
    """Rows per block size: what is read where ranges are widened to whole blocks, and the time of the sums.

    A motion window of 2 s is two ranges, landmarks and audio. `scattered` are the ranges that scattered frames took;
    a block that two of them touch is read once.
    """
    lines = [
        "| block, KiB | sums of a 1 GB shard, kB | motion window, kB: asked / in blocks | its CRC-32 / BLAKE2b, ms "
        f"| {SCATTERED} scattered frames, kB: asked / in blocks |",
        "|---|---|---|---|---|",
    ]
    file = random.bytes(1 << 24)
    sizes = SOUND_FRAMES * members.FRAME_BYTES, SOUND_FRAMES * SAMPLES_PER_FRAME * 2
    places = [[(int(random.integers(1 << 23)), size) for size in sizes] for _ in range(10 * rounds)]
    starts = [int(random.integers(1 << 20)) for _ in scattered]
    moved = [[(start + offset, size) for offset, size in ranges] for start, ranges in zip(starts, scattered)]
    for kib in BLOCKS_KIB:
        block, crc_ms, blake_ms = kib << 10, [], []
        for ranges in places:
            pieces = [file[number * block : (number + 1) * block] for number in touched(ranges, block)]
            began = time.perf_counter()
            for piece in pieces:
                zlib.crc32(piece)
            between = time.perf_counter()
            for piece in pieces:
                hashlib.blake2b(piece, digest_size=8).digest()
            blake_ms.append(1e3 * (time.perf_counter() - between))
            crc_ms.append(1e3 * (between - began))
        read = [
            " / ".join(f"{n / 1000:.0f}" for n in (np.mean([sum(s for _, s in r) for r in of]), in_blocks(of, block)))
            for of in (places, moved)
        ]
        times = f"{np.median(crc_ms):.3f} / {np.median(blake_ms):.3f}"
        lines.append(f"| {kib} | {4e6 / block:.0f} | {read[0]} | {times} | {read[1]} |")
    return lines


def touched(ranges: list[tuple[int, int]], block: int) -> list[int]:
    """Numbers of the blocks of `block` bytes in which (offset, size) ranges lie."""
    return sorted({number for at, size in ranges for number in range(at // block, -(-(at + size) // block))})


def in_blocks(of: list[list[tuple[int, int]]], block: int) -> float:
    """Mean bytes of the blocks that sets of ranges touch."""
    return float(np.mean([len(touched(ranges, block)) * block for ranges in of]))


if __name__ == "__main__":
    debug = "--debug" in sys.argv
    sys.exit(command.guarded("python -m benchmarks.shards", lambda: run(arguments().parse_args()), debug))
