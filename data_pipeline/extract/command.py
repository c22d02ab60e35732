"""Videos to clips in shards, with ledgers and a manifest."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.extract import pool, process, sources
from data_pipeline.extract.corpora import folder, layouts
from data_pipeline.extract.corpora.layouts import Video
from data_pipeline.extract.process import ShardTask
from data_pipeline.extract.survey import Limits
from data_pipeline.shards import layout, manifest_update
from data_pipeline.shards import ledger as ledgers
from mytalk import atomic, command, media
from mytalk.face import crop, detector
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ
from mytalk.machine import cores, sole_user
from mytalk.progress import Progress


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline extract",
        "Turn videos into clips: find the face, crop, cut into spans, write shards of two columns, and a\n"
        "manifest. The person in a video is named by its folder, or as --layout says. Every video and every span\n"
        "ends in one named state (ledger.jsonl). Stopped at any moment, the same command continues; videos\n"
        "added later get shards of their own.",
        "python -m data_pipeline extract videos/hdtf data/hdtf --corpus hdtf",
    )
    parser.add_argument("videos", type=Path, help="folder of videos: VIDEOS/PERSON/*.mp4, or flat")
    parser.add_argument("out", type=Path, help="folder of the shards")
    parser.add_argument("--corpus", help="name of the corpus (default: the name of VIDEOS)")
    parser.add_argument(
        "--layout",
        choices=sorted(layouts.LAYOUTS),
        default="folder",
        help="how VIDEOS lies on disk; hdtf and lrs3 read people, time ranges and facts from the corpus's own files "
        "(default: a folder for each person)",
    )
    parser.add_argument(
        "--identity",
        choices=("first", "parent"),
        help="which folder names the person, where videos lie deeper than one: the first below VIDEOS "
        "(VoxCeleb2, MEAD) or the one that holds the video (LRS3)",
    )
    parser.add_argument("--sources-per-shard", type=int, default=8, metavar="K")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: one per core)")
    limits = Limits()
    parser.add_argument("--min-seconds", type=float, default=limits.min_seconds, help="shortest clip")
    parser.add_argument("--max-seconds", type=float, default=limits.max_seconds, help="longest clip")
    parser.add_argument("--min-face-px", type=float, default=limits.min_face_px, help="smallest face, px in the source")
    detector.add_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    limits = _limits(args)
    out: Path = args.out
    corpus = args.corpus or args.videos.resolve().name
    if not args.videos.is_dir():
        raise command.UserError(f"no folder {args.videos}; name a folder of videos")
    files = sources.walk(args.videos, skip=out.resolve())
    if not files and not (out / sources.FILE).exists():
        suffixes = " ".join(sorted(sources.SUFFIXES))
        raise command.UserError(f"no videos in {args.videos}; it needs files that end in {suffixes}")
    out.mkdir(parents=True, exist_ok=True)
    with sole_user(out, "extract"):
        atomic.sweep(out)
        atomic.sweep(out / "parts")
        listed = sources.listed(args.videos, out, _settings(args, corpus, limits), _videos(args, files), dict(files))
        frames = _extract(args, listed, corpus, limits)
        return _close(out, listed, frames, started, max(args.workers, 1))


def _videos(args: argparse.Namespace, files: list[tuple[str, int]]) -> Iterator[Video]:
    """The videos of the corpus by its layout."""
    paths = [path for path, _ in files]
    if args.layout == "folder":
        return folder.videos(args.videos, paths, args.identity)
    return layouts.load(args.layout)(args.videos, paths)


def _settings(args: argparse.Namespace, corpus: str, limits: Limits) -> dict[str, Any]:
    """What must stay the same in every run into one folder."""
    names = {"corpus": corpus, "sources_per_shard": args.sources_per_shard, "identity": args.identity}
    return {**dataclasses.asdict(limits), "crop_px": CROP_PX, **names, "layout": args.layout}


def make_shard(task: ShardTask, tick) -> dict[str, Any]:
    """The work of a worker process: one shard, with one thread and one detector for its whole life."""
    return process.write_shard(task, _detector(task.detector), tick)


@functools.cache
def _detector(name: str) -> detector.Detector:
    import cv2

    cv2.setNumThreads(1)
    return detector.load(name)


def _extract(args, listed: list[sources.Source], corpus: str, limits: Limits) -> int:
    """Make the shards that are not committed; returns the number of frames that were read."""
    members: dict[int, list[sources.Source]] = {}
    for source in listed:
        members.setdefault(source.shard, []).append(source)
    pending = [shard for shard in sorted(members) if _unfinished(args.out, shard)]
    if not pending:
        return 0
    _pin_protocol(args.out, args.detector)
    tasks = [
        ShardTask(args.videos, args.out, shard, tuple(members[shard]), corpus, limits, args.detector)
        for shard in pending
    ]
    todo = sum(len(task.sources) for task in tasks)
    progress = Progress("extract", len(listed), "sources", done=len(listed) - todo)
    begun: set[tuple[int, int]] = set()
    started, ticked, frames = time.monotonic(), 0, 0

    def on_tick(task: ShardTask, item: int, n: int) -> None:
        nonlocal ticked
        ticked += n
        before = len(begun)
        begun.update((task.shard, i) for i in range(item))  # the items before this one are finished
        progress.step(len(begun) - before, f"{ticked / max(time.monotonic() - started, 1e-9):.0f} frames/s")

    def on_done(task: ShardTask, part: dict[str, Any]) -> None:
        nonlocal frames
        frames += sum(row.get("frames", 0) for row in part["sources"])
        on_tick(task, len(task.sources), 0)

    pool.run(tasks, make_shard, args.workers, _condemned, on_tick, on_done)
    progress.finish()
    return frames


def _unfinished(out: Path, shard: int) -> bool:
    return manifest_update.finished_part(out, layout.part_path(out, shard), shard) is None


def _condemned(task: ShardTask, item: int) -> ShardTask:
    return dataclasses.replace(task, condemned=task.condemned | {item})


def _close(out: Path, listed: list[sources.Source], frames: int, started: float, workers: int) -> int:
    """Balance the ledgers, write them and the manifest, print the sums."""
    parts = [json.loads(layout.part_path(out, n).read_text()) for n in sorted({source.shard for source in listed})]
    counts = ledgers.balance((source.path for source in listed), parts)
    if counts.clips:
        table, header = manifest_update.from_parts(parts, json.loads((out / "protocol.json").read_text()))
        manifest_update.commit(out, table, header)
    ledgers.write(out, parts)
    print(ledgers.table(counts))
    if frames:
        seconds = time.monotonic() - started
        print(
            f"frames   {frames} in {seconds:.0f} s: {frames / seconds:.1f} a second, "
            f"{frames / seconds / workers:.1f} a second and core"
        )
    if not counts.clips:
        print(f"nothing was extracted; the reasons are in {out / ledgers.FILE}", file=sys.stderr)
        return command.EXIT_NOT_DONE
    return command.EXIT_DONE


def _pin_protocol(out: Path, detector_name: str) -> None:
    """Write OUT/protocol.json, or refuse to go on with other tools than those that made the first shards."""
    detector_module = detector.module_of(detector_name)
    protocol = {
        "crop_px": CROP_PX,
        "crop_margin": crop.MARGIN,
        "frame_hz": FRAME_HZ,
        "sample_hz": SAMPLE_HZ,
        "detector": detector_module.NAME,
        "detector_version": detector_module.version(),
        "video_codec": {"name": "libx264", **media.CLIP_CODEC},
        "media_version": media.VERSION,
    }
    path = out / "protocol.json"
    try:
        before = json.loads(path.read_text())
    except FileNotFoundError:
        atomic.write_json(path, protocol)
        return
    for name, value in protocol.items():
        if before.get(name) != value:
            raise command.UserError(
                f"{out} was begun with {name} = {before.get(name)}, here it is {value}; install that or name "
                "another folder"
            )


def _limits(args: argparse.Namespace) -> Limits:
    if not 0 < args.min_seconds <= args.max_seconds:
        raise command.UserError("--min-seconds must be above 0 and not above --max-seconds")
    if args.sources_per_shard < 1 or args.workers < 0:
        raise command.UserError("--sources-per-shard must be at least 1 and --workers at least 0")
    if args.identity and args.layout != "folder":
        raise command.UserError(f"--layout {args.layout} names the people itself; leave --identity out")
    return Limits(args.min_seconds, args.max_seconds, args.min_face_px)
