"""`python -m data_pipeline demo`: a corpus of drawn people who really speak, with the truth about every frame.

Files: `<identity>/<clip>.mp4`; `broken/*.mp4`, which no training of motion may use; `truth.jsonl`, a line per file;
`corpus.json`, the arguments and what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline import pool
from mytalk import atomic, command
from mytalk.machine import cores
from mytalk.progress import Progress

FPS = 25
OTHER_FPS = 30  # of one usable clip: what reads it must go by time
VERSION = 2  # raised when the same arguments give other pictures or other truth; 2: heads turn in space
NAME = f"drawn-v{VERSION}"  # also the demo's folder of videos, and so the corpus that every table of it names

# What is wrong with a file. Extraction keeps no_audio, for those who need no sound, and refuses the others.
BROKEN = ("truncated", "no_audio", "no_face", "not_a_video")


@dataclass(frozen=True)
class DrawnClip:
    """One file to write: its path in the corpus, whom it shows, and what is wrong with it."""

    path: str
    identity: int
    number: int
    fps: int = FPS
    fault: str | None = None


@dataclass(frozen=True)
class Corpus:
    """What a corpus is a function of."""

    identities: int
    clips_per_identity: int
    seed: int
    seconds: float
    size: int
    broken: bool
    version: int = VERSION

    def clips(self) -> list[DrawnClip]:
        """Every file of the corpus in the order of truth.jsonl."""
        planned = [
            DrawnClip(f"p{identity:03d}/c{number:02d}.mp4", identity, number)
            for identity in range(self.identities)
            for number in range(self.clips_per_identity)
        ]
        if self.broken:
            planned.append(DrawnClip(f"p000/c_{OTHER_FPS}fps.mp4", 0, self.clips_per_identity, OTHER_FPS))
            # Shown by people who appear nowhere else, so that a broken file never leaks a usable identity.
            planned += [
                DrawnClip(f"broken/{fault}.mp4", self.identities + i, 0, FPS, fault) for i, fault in enumerate(BROKEN)
            ]
        return planned


@dataclass(frozen=True)
class DrawnTruth:
    """What a worker reports of one clip: its truth and what drawing and encoding took (0 frames: not drawn)."""

    clip: DrawnClip
    truth: dict[str, Any]
    frames: int
    wall_s: float
    cpu_s: float


def arguments() -> argparse.ArgumentParser:
    """The command line of `demo`."""
    parser = command.parser(
        "python -m data_pipeline demo",
        "Write a corpus of drawn people who really speak. The same command continues an unfinished one.",
        "python -m data_pipeline demo corpora/demo --identities 12 --clips-per-identity 8 --seed 0",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the corpus")
    parser.add_argument("--identities", type=int, required=True, metavar="N", help="people")
    parser.add_argument("--clips-per-identity", type=int, required=True, metavar="N", help="clips of each")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="another seed, other people")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a clip (default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="side of the picture, px (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, metavar="K", help="processes (default: one per core)")
    parser.add_argument(
        "--broken",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add broken files, one without sound, and one at 30 fps that extraction must take (default: yes)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw what is missing, write the truth, measure, and say what was measured."""
    corpus = _corpus(args)
    workers = args.workers or cores()
    out: Path = args.out
    described = _described(out, corpus)
    clips = corpus.clips()
    for folder in {out, *((out / clip.path).parent for clip in clips)}:
        atomic.sweep(folder)
    missing = [clip for clip in clips if not (out / clip.path).is_file()]
    known = (out / "truth.jsonl").is_file()
    todo = missing if known else clips
    if todo:
        drawn = _draw(out, corpus, todo, workers)
        if not known:
            _write_truth(out, corpus, drawn)
        described = _record_rate(out, described, drawn)
    if "faces" not in described:
        described = _record_faces(out, described, [clip for clip in clips if clip.fault is None], workers)
    print(f"{out}: {corpus.identities} people, {len(clips)} files, {NAME}, truth in truth.jsonl")
    for line in report(described):
        print(line)
    return command.EXIT_DONE


def report(described: dict[str, Any]) -> Iterator[str]:
    """What was measured, in lines."""
    if "drawing" in described:
        of = described["drawing"]
        yield (
            f"drawing and encoding: {of['frames_per_cpu_s']:.1f} frames/s per core (CPU time), "
            f"{of['frames_per_wall_s']:.1f} frames/s per worker (wall time), over {of['frames']} frames"
        )
    if "faces" in described:
        of = described["faces"]
        yield f"face mesh found a face in {100 * of['found'] / of['frames']:.2f} % of {of['frames']} sampled frames"


def _corpus(args: argparse.Namespace) -> Corpus:
    """The corpus asked for; raises UserError for arguments that make none."""
    checks = [
        ("--identities", args.identities >= 1, "1 or more"),
        ("--clips-per-identity", args.clips_per_identity >= 1, "1 or more"),
        ("--seed", 0 <= args.seed < 1 << 32, "from 0 to 4294967295"),
        ("--seconds", 1 <= args.seconds <= 600, "from 1 to 600"),
        ("--size", args.size % 2 == 0 and 128 <= args.size <= 2048, "even, from 128 to 2048"),
        ("--workers", args.workers is None or args.workers >= 1, "1 or more"),
    ]
    for option, right, allowed in checks:
        if not right:
            given = getattr(args, option[2:].replace("-", "_"))
            raise command.UserError(f"{option} {given} is out of range; it must be {allowed}")
    named = ("identities", "clips_per_identity", "seed", "seconds", "size", "broken")
    return Corpus(**{name: getattr(args, name) for name in named})


def _described(out: Path, corpus: Corpus) -> dict[str, Any]:
    """corpus.json of an existing corpus, or a new one; raises UserError when the folder holds another."""
    path = out / "corpus.json"
    if not path.is_file():
        if out.is_dir() and any(not name.startswith(atomic.TEMPORARY) for name in os.listdir(out)):
            raise command.UserError(f"{out} holds other files and no corpus.json; name a new folder")
        described = {"arguments": vars(corpus)}
        atomic.write_json(path, described)
        return described
    try:
        described = json.loads(path.read_text())
        before = described["arguments"]
    except (ValueError, KeyError, TypeError) as error:
        raise command.UserError(f"{path} is unreadable; remove {out}, or name a new folder") from error
    if before.get("version") != VERSION:
        raise command.UserError(f"{out} was drawn by another version than {NAME}; remove it, or name a new folder")
    changed = [name for name, value in vars(corpus).items() if before.get(name) != value]
    if changed:
        was = ", ".join(f"{name} {before.get(name)}" for name in changed)
        raise command.UserError(f"{out} was made with {was}; repeat that, or name a new folder")
    return described


def _draw(out: Path, corpus: Corpus, clips: list[DrawnClip], workers: int) -> list[DrawnTruth]:
    """Draw the clips whose files are missing, and find the truth of all."""
    frames = sum(round(corpus.seconds * clip.fps) for clip in clips)
    progress = Progress("drawing", frames, "frames")
    drawn = []

    def on_done(clip: DrawnClip, one: DrawnTruth) -> None:
        drawn.append(one)
        progress.step(round(corpus.seconds * clip.fps))

    pool.run(clips, partial(draw, out, corpus), workers, pool.Hooks(on_done))
    progress.finish()
    return drawn


def draw(
    out: Path, corpus: Corpus, clip: DrawnClip, tick: Callable[[int, int], None] = lambda item, n: None
) -> DrawnTruth:
    """Write one file unless it is there, and return its truth."""
    import cv2

    from data_pipeline.synthetic import broken, performance

    tick(0, 0)
    cv2.setNumThreads(1)
    began, began_cpu = time.perf_counter(), time.process_time()
    base: dict[str, Any] = {"path": clip.path, "usable": clip.fault is None, "corpus": NAME}
    path = out / clip.path
    there = path.is_file()
    if clip.fault is not None:
        if not there:
            atomic.write_bytes(
                path, broken.content(clip.fault, corpus.seed, clip.identity, corpus.seconds, corpus.size, clip.fps)
            )
        return DrawnTruth(clip, base | {"reason": clip.fault, "why": broken.WHY[clip.fault]}, 0, 0.0, 0.0)
    done = performance.perform(corpus.seed, clip.identity, clip.number, corpus.seconds, clip.fps)
    base |= {"identity": path.parent.name, "seed": corpus.seed, "fps": clip.fps, "size": corpus.size}
    base |= {"frames": len(done.times_T)} | performance.truth(corpus.seed, clip.identity, done, corpus.size)
    if there:
        return DrawnTruth(clip, base, 0, 0.0, 0.0)
    atomic.write_bytes(path, performance.film(corpus.seed, clip.identity, done, corpus.size))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    return DrawnTruth(clip, base, len(done.times_T), wall_s, cpu_s)


def _write_truth(out: Path, corpus: Corpus, drawn: list[DrawnTruth]) -> None:
    truth = {one.clip: one.truth for one in drawn}
    lines = [json.dumps(truth[clip], allow_nan=False, separators=(",", ":")) for clip in corpus.clips()]
    atomic.write_bytes(out / "truth.jsonl", ("\n".join(lines) + "\n").encode())


def _record_rate(out: Path, described: dict[str, Any], drawn: list[DrawnTruth]) -> dict[str, Any]:
    """Add the drawing rate to corpus.json; one taken over more frames stays."""
    frames = sum(one.frames for one in drawn)
    if frames == 0 or frames < described.get("drawing", {}).get("frames", 0):
        return described
    rate = {
        "frames": frames,
        "frames_per_cpu_s": round(frames / sum(one.cpu_s for one in drawn), 2),
        "frames_per_wall_s": round(frames / sum(one.wall_s for one in drawn), 2),
    }
    return _recorded(out, described, {"drawing": rate})


def _record_faces(out: Path, described: dict[str, Any], clips: list[DrawnClip], workers: int) -> dict[str, Any]:
    """Add the share of frames in which face mesh finds a face to corpus.json; says so where it cannot."""
    from data_pipeline.synthetic import found_faces

    if not found_faces.available():
        print("the share of found faces was not measured: mediapipe is missing (extra [landmarks])")
        return described
    paths = [out / clip.path for clip in clips]
    progress = Progress("looking for faces", len(paths), "clips")
    frames = found = 0

    def on_done(path: Path, counted: tuple[int, int]) -> None:
        nonlocal frames, found
        frames, found = frames + counted[0], found + counted[1]
        progress.step()

    pool.run(paths, found_faces.count, workers, pool.Hooks(on_done))
    progress.finish()
    return _recorded(out, described, {"faces": {"frames": frames, "found": found}})


def _recorded(out: Path, described: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    described = described | measured
    atomic.write_json(out / "corpus.json", described)
    return described
