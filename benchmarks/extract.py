"""Extraction against its floor: decoding, detecting, the mesh and encoding, each alone on the same frames.

`python -m benchmarks.extract VIDEO...` on one core. The floor's four parts and the whole pass take turns; the share of
the floor says how much of the time is theirs (1: nothing else costs anything). Then frames a second with one, two and
four faces in pictures of one size, and the peak memory of a worker at one and at five minutes of one video.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np

from benchmarks import harness
from benchmarks.harness import Row
from data_pipeline.extract.listing.sources import Source
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.thumbnails import Thumbnails
from data_pipeline.extract.video import Pass
from data_pipeline.extract.work.tasks import tools
from mytalk import command, media
from mytalk.face import detector
from mytalk.face.detector import Region, region_of
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ
from mytalk.face.track import LOOK_EVERY

AT_ONCE = 50  # decoded pictures in memory
PART_S = 16  # of a video that is made longer by repeating its packets: whole packets of sound, of 64 ms
SIZE_PX = (1280, 720)  # of the pictures with one, two and four faces
FACES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}  # columns and rows


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser("python -m benchmarks.extract", __doc__ or "", "python -m benchmarks.extract videos/*.mp4")
    parser.add_argument(
        "videos", type=Path, nargs="+", metavar="VIDEO", help="videos of people; the first one is tiled"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5], help="lengths whose memory is compared")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    rows = [_share_of_the_floor(args.videos, args.rounds), *_by_faces(args.videos[0], args.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        rows += _memory(args.videos[0], args.minutes, Path(folder))
    return harness.report(f"{len(args.videos)} videos, one core of {os.cpu_count()}", rows, args.out)


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


# The floor


def _share_of_the_floor(videos: list[Path], rounds: int) -> Row:
    _passed(videos[:1])  # what is loaded at first use
    shares, rates = [], []
    for _ in range(rounds):
        costs: dict[str, float] = {}
        for turn in harness.turns("floor and pass", 2, 1):
            if turn == 0:
                costs |= _floor(videos)
            else:
                frames = 0

                def whole() -> None:
                    nonlocal frames
                    frames = _passed(videos)

                costs["pass"] = _timed(whole)
        floor = sum(cost for name, cost in costs.items() if name != "pass")
        shares.append(floor / costs["pass"])
        rates.append(frames / costs["pass"])
        parts = ", ".join(f"{name} {1000 * cost / frames:.1f}" for name, cost in costs.items())
        print(f"CPU ms a frame: {parts}")
    hours = float(np.median(rates)) / FRAME_HZ * 24
    return Row(
        "share of the floor", f"{np.median(rates):.0f} frames/s, {hours:.1f} hours a core-day", "", shares, "0.8"
    )


def _floor(videos: list[Path]) -> dict[str, float]:
    """CPU seconds of decoding, detecting, the mesh of one face, and encoding, each alone."""
    costs = dict.fromkeys(("decode", "detect", "mesh", "encode"), 0.0)
    finder = detector.load()
    for video in videos:
        frames = media.read_frames(video, FRAME_HZ, notes=media.Notes())
        region: Region | None = None
        while True:
            began = time.process_time()
            held = list(itertools.islice(frames, AT_ONCE))
            costs["decode"] += time.process_time() - began
            if not held:
                break
            costs["detect"] += _timed(partial(_found, finder, held[::LOOK_EVERY]))
            region = region or next(iter(finder.find(held[0])), None)
            if region is None:
                continue
            began = time.process_time()
            region = _meshed(finder, held, region)
            costs["mesh"] += time.process_time() - began
            crops = [_square(frame) for frame in held]
            costs["encode"] += _timed(partial(media.encode_frames, crops))
    return costs


def _found(finder: detector.Detector, frames: list[np.ndarray]) -> None:
    for frame in frames:
        finder.find(frame)


def _meshed(finder: detector.Detector, frames: list[np.ndarray], region: Region) -> Region | None:
    for frame in frames:
        points_N3 = finder.landmarks(frame, region)
        if points_N3 is None:
            return None
        region = region_of(points_N3)
    return region


def _square(frame_HW3: np.ndarray) -> np.ndarray:
    import cv2

    side = min(frame_HW3.shape[:2])
    return np.asarray(cv2.resize(frame_HW3[:side, :side], (CROP_PX, CROP_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _passed(videos: list[Path]) -> int:
    """Extract all without writing shards; frames that were read."""
    frames = 0
    for video in videos:
        with tempfile.TemporaryDirectory() as folder:
            source = Source(video.name, 0, "c/p", 0)
            done = Pass(source, "c", Rules(), tools(detector.DEFAULT), Path(folder), Thumbnails()).run(video)
            frames += done.frames
            for _ in done.clips():
                pass
    return frames


# More faces


def _by_faces(video: Path, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        files = [_tiled(video, Path(folder) / f"{count}.mp4", *grid) for count, grid in FACES.items()]
        rates: list[list[float]] = [[] for _ in files]
        for turn in harness.turns("faces", len(files), rounds):
            frames = 0
            began = time.process_time()
            frames = _passed([files[turn]])
            rates[turn].append(frames / (time.process_time() - began))
    for count, rate in zip(FACES, rates):
        ratios = [one / alone for one, alone in zip(rate, rates[0])]
        yield Row(f"{count} faces", f"{np.median(rate):.0f} frames/s", "one face", ratios)


def _tiled(video: Path, out: Path, columns: int, rows: int) -> Path:
    """Ten seconds of a video several times in one picture of SIZE_PX."""
    import cv2

    width, height = SIZE_PX[0] // columns, SIZE_PX[1] // rows

    def pictures() -> Iterator[np.ndarray]:
        for frame in media.read_frames(video, FRAME_HZ, stop=10 * FRAME_HZ, notes=media.Notes()):
            scale = min(width / frame.shape[1], height / frame.shape[0])
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            tile = np.zeros((height, width, 3), np.uint8)
            tile[: small.shape[0], : small.shape[1]] = small
            yield np.tile(tile, (rows, columns, 1))

    media.write_video(out, pictures(), FRAME_HZ)
    return out


# Memory


def _memory(video: Path, minutes: list[float], folder: Path) -> Iterator[Row]:
    peaks = [peak_mib(looped(video, folder / f"{length:g}.mp4", 60 * length)) for length in minutes]
    for length, mib in zip(minutes, peaks):
        yield Row(f"peak memory, {length:g} minutes", f"{mib:.0f} MiB", f"{minutes[0]:g} minutes", [mib / peaks[0]])


def looped(video: Path, out: Path, seconds: float) -> Path:
    """The first AT_ONCE frames of a video again and again, with noise, as a video of so many seconds.

    PART_S of it are encoded; their packets are repeated.
    """
    part = out.with_name(f"part-{out.name}")
    noise_S = np.random.default_rng(0).normal(0, 0.05, PART_S * SAMPLE_HZ).astype(np.float32)
    frames = list(media.read_frames(video, FRAME_HZ, stop=AT_ONCE, notes=media.Notes()))
    media.write_video(part, itertools.islice(itertools.cycle(frames), PART_S * FRAME_HZ), FRAME_HZ, noise_S)
    with av.open(str(part)) as once, av.open(str(out), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in once.streams}
        packets = [packet for packet in once.demux() if packet.size and packet.pts >= 0]
        stamps = [(packet.stream.index, packet.time_base, packet.pts, packet.dts) for packet in packets]
        for turn in range(int(np.ceil(seconds / PART_S))):
            for packet, (index, tick_s, pts, dts) in zip(packets, stamps):
                later = round(turn * PART_S / tick_s)
                if pts * tick_s < PART_S and (pts + later) * tick_s < seconds:
                    packet.stream, packet.time_base = streams[index], tick_s
                    packet.pts, packet.dts = pts + later, dts + later
                    target.mux(packet)
    part.unlink()
    return out


def peak_mib(video: Path) -> float:
    """The largest resident size of a process that extracts a video."""
    code = f"from benchmarks import extract; extract.peak({str(video)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak(video: str) -> None:
    """Extract a video in this process and print its largest resident size in MiB.

    By Linux's VmHWM: getrusage counts from before the exec as well, that is the size of the process that started this.
    """
    _passed([Path(video)])
    (peak_kib,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(int(peak_kib) / 1024)


if __name__ == "__main__":
    harness.end("python -m benchmarks.extract", lambda: run(arguments().parse_args()))
