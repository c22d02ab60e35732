"""Videos to clips in shards, with ledgers and a manifest."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline import pool
from data_pipeline.extract import hearing, process, transnet
from data_pipeline.extract.corpora import folder, layouts
from data_pipeline.extract.corpora.layouts import Video
from data_pipeline.extract.listing import names, sources, walk
from data_pipeline.extract.listing.tree import Tree
from data_pipeline.extract.process import ShardTask
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.video import Tools
from data_pipeline.pool import Failure
from data_pipeline.shards import layout, manifest_update, throughput
from data_pipeline.shards import ledger as ledgers
from data_pipeline.shards.manifest import FORMAT
from data_pipeline.shards.throughput import Throughput
from mytalk import atomic, command, config, faults, media
from mytalk.face import crop, detector
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ
from mytalk.machine import cores, sole_user
from mytalk.media import cuts
from mytalk.progress import Progress
from mytalk.speech.activity import EnergyRule

PROTOCOL = "protocol.json"  # how the shards of OUT are made
MOST_IN_A_ROW = 10  # videos that the storage fails to give, before it is asked for
SAMPLES = 10  # others, spread over the list


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline extract",
        "Turn videos into clips: find shots and faces, follow each face, cut its track into spans, reject those that\n"
        "break a rule, crop the others, and write shards of two columns and a manifest. The main person of a video is\n"
        "named by its folder, or as --layout says. Every file, video and span ends in one named state (ledger.jsonl),\n"
        "a rejected one with the value that was measured: a video that cannot be used never ends the corpus.\n"
        "Stopped at any moment, the same command continues; videos added later get shards of their own.",
        "python -m data_pipeline extract videos/hdtf data/hdtf --corpus hdtf min_seconds=2 min_face_px=96",
    )
    parser.add_argument("videos", type=Path, help="folder of videos: VIDEOS/PERSON/*.mp4, or flat")
    parser.add_argument("out", type=Path, help="folder of the shards")
    parser.add_argument(
        "rules",
        nargs="*",
        metavar="key=value",
        help="what a clip must hold, such as min_seconds=2 picture.yaw_deg=30 (docs/data.md lists the rules)",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML of rules")
    parser.add_argument("--corpus", help="name of the corpus (default: the name of VIDEOS)")
    parser.add_argument(
        "--layout",
        choices=sorted(layouts.LAYOUTS),
        default="folder",
        help="how VIDEOS lies on disk; all but folder read people, parts, faces and facts from the corpus's own files "
        "(default: a folder for each person)",
    )
    parser.add_argument(
        "--identity",
        choices=("first", "parent"),
        help="which folder names the person, where videos lie deeper than one: the first below VIDEOS "
        "(VoxCeleb2, MEAD) or the one that holds the video (LRS3)",
    )
    parser.add_argument(
        "--pattern",
        metavar="PATTERN",
        help="for --layout folder: where the person's name stands in the path, such as '{person}/{language}/**' "
        "(other words become facts; docs/data.md)",
    )
    parser.add_argument(
        "--audio",
        metavar="PATTERN",
        help="for --layout folder: where a video's sound lies, such as 'sound/{path}.wav' or '{person}/{stem}.m4a'",
    )
    parser.add_argument(
        "--licence", metavar="TEXT", help="the fact `licence` of all clips (default: what the layout knows)"
    )
    parser.add_argument("--sources-per-shard", type=int, default=8, metavar="K")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: one per core)")
    parser.add_argument(
        "--idle-seconds",
        type=float,
        default=600,
        metavar="S",
        help="reject a video (timeout) when nothing of it was decoded for so long (default: %(default)s)",
    )
    parser.add_argument(
        "--source-seconds",
        type=float,
        default=21600,
        metavar="S",
        help="reject a video (timeout) that takes longer in all (default: %(default)s)",
    )
    parser.add_argument(
        "--shots",
        choices=(process.ADAPTIVE, process.TRANSNET),
        default=process.ADAPTIVE,
        help="what finds shots; transnet is a network of the extra [shots], for which each video is decoded once more "
        "(default: %(default)s)",
    )
    detector.add_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    rules = _rules(args)
    out: Path = args.out
    corpus = names.to_text(args.corpus or args.videos.resolve().name)
    if not args.videos.is_dir():
        raise command.UserError(f"no folder {args.videos}; name a folder of videos")
    found = walk.walk(args.videos, output=out.resolve())
    if not found.bytes_of and not (out / sources.FILE).exists():
        suffixes = " ".join(sorted(walk.SUFFIXES))
        raise command.UserError(f"no videos in {args.videos}; it needs files that end in {suffixes}, or in no suffix")
    out.mkdir(parents=True, exist_ok=True)
    with sole_user(out, "extract"):
        atomic.sweep(out)
        atomic.sweep(out / "parts")
        atomic.sweep(out / "rejected")
        _refuse_other_format(out)
        settings, videos = _settings(args, corpus, rules), _videos(args, found)
        listed, missing = sources.listed(args.videos, out, settings, videos, found.bytes_of)
        skipped = _skipped(found, missing, listed)
        frames = _extract(args, listed, found, corpus, rules)
        return _close(out, listed, found, skipped, frames, started, max(args.workers, 1))


def _videos(args: argparse.Namespace, found: walk.Found) -> Iterator[Video]:
    """The videos of the corpus by its layout, with the licence."""
    tree = Tree(args.videos, found)
    if args.layout == "folder":
        videos = folder.videos(tree, args.identity, args.pattern, args.audio)
    else:
        videos = layouts.load(args.layout)(tree)
    licence = args.licence or layouts.licence(args.layout)
    for video in videos:
        facts = {layouts.LICENCE: licence, **video.facts} if licence else video.facts
        yield dataclasses.replace(video, facts=facts)


def _skipped(found: walk.Found, missing: list[str], listed: list[sources.Source]) -> dict[str, str]:
    """Why every path that was found, or that the layout names, is no source."""
    unlisted = dict.fromkeys(found.bytes_of, walk.UNLISTED)
    skipped = {**unlisted, **dict.fromkeys(missing, walk.MISSING), **found.skipped}
    for source in listed:
        skipped.pop(source.path, None)
        if source.audio in skipped:
            skipped[source.audio] = walk.SOUND
    return skipped


def _settings(args: argparse.Namespace, corpus: str, rules: Rules) -> dict[str, Any]:
    """What must stay the same in every run into one folder."""
    named = {"corpus": corpus, "sources_per_shard": args.sources_per_shard, "identity": args.identity}
    named |= {name: value for name in ("pattern", "audio", "licence") if (value := getattr(args, name)) is not None}
    return {**config.flat(config.to_dict(rules)), "crop_px": CROP_PX, **named, "layout": args.layout}


def make_shard(task: ShardTask, tick) -> dict[str, Any]:
    """The work of a worker process: one shard, with one thread and one detector for its whole life."""
    return process.write_shard(task, tools(task.detector, task.shots), tick)


@functools.cache
def tools(name: str, shots_name: str = process.ADAPTIVE) -> Tools:
    """What a worker needs: created once in its process."""
    import cv2

    from mytalk.face.mediapipe_hands import Hands

    cv2.setNumThreads(1)
    network = transnet.load() if shots_name == process.TRANSNET else None
    return Tools(detector.load(name), hearing.speech_detector(), Hands().covers_mouth, network)


def _extract(
    args: argparse.Namespace, listed: list[sources.Source], found: walk.Found, corpus: str, rules: Rules
) -> int:
    """Make the shards that are not committed; returns the number of frames that were read."""
    members: dict[int, list[sources.Source]] = {}
    for source in listed:
        members.setdefault(source.shard, []).append(source)
    pending = [shard for shard in sorted(members) if _unfinished(args.out, shard)]
    if not pending:
        return 0
    if not any(source.path in found.bytes_of for shard in pending for source in members[shard]):
        raise command.UserError(
            f"none of the listed videos that are left is in {args.videos}; is that the folder, and is it mounted?"
        )
    _pin_protocol(args.out, args.detector, args.shots, rules)
    tasks = [
        _without_the_gone(
            ShardTask(args.videos, args.out, shard, tuple(members[shard]), corpus, rules, args.detector, args.shots),
            found,
        )
        for shard in pending
    ]
    watch = _Watch(args.videos, listed, todo=sum(len(task.sources) for task in tasks))
    hooks = pool.Hooks(watch.on_done, watch.on_tick, watch.on_failed, _condemned)
    pool.run(tasks, make_shard, args.workers, hooks, pool.TimeLimits(args.idle_seconds, args.source_seconds))
    watch.progress.finish(watch.note())
    return watch.frames


class _Watch:
    """Follows the workers: shows progress, yield and failures, and stops when the storage is gone."""

    def __init__(self, videos: Path, listed: list[sources.Source], todo: int):
        self.videos, self.listed = videos, listed
        self.progress = Progress("extract", len(listed), "sources", done=len(listed) - todo)
        self.started, self.ticked, self.frames, self.failed_in_a_row = time.monotonic(), 0, 0, 0
        self.finished: set[tuple[int, int]] = set()  # (shard, position) of sources
        self.clips, self.kept_frames = 0, 0
        self.people: set[str] = set()
        self.states: Counter[str] = Counter()  # of spans

    def on_tick(self, task: ShardTask, item: int, n: int) -> None:
        """Count frames, and the sources before this one as finished."""
        self.ticked += n
        self.failed_in_a_row = 0 if n else self.failed_in_a_row
        before = len(self.finished)
        self.finished.update((task.shard, i) for i in range(item))
        self.progress.step(len(self.finished) - before, self.note())

    def note(self) -> str:
        """Rate and yield so far."""
        rate = self.ticked / max(time.monotonic() - self.started, 1e-9)
        hours = self.kept_frames / FRAME_HZ / 3600
        said = f"{rate:.0f} frames/s; {self.clips} clips, {hours:.3g} h, {len(self.people)} people"
        rejected = self.states - Counter({ledgers.KEPT: self.states[ledgers.KEPT]})
        if rejected:
            share = 100 * rejected.total() / self.states.total()
            most = ", ".join(f"{rule} {count}" for rule, count in rejected.most_common(3))
            said += f"; {share:.0f} % of spans rejected ({most})"
        return said

    def on_done(self, task: ShardTask, part: dict[str, Any]) -> None:
        """Count what a finished shard holds; name its errors at once."""
        self.frames += sum(row.get("frames", 0) for row in part["sources"])
        self.clips += len(part["clips"])
        self.kept_frames += sum(clip["frames"] for clip in part["clips"])
        self.people.update(clip["facts"]["identity"] for clip in part["clips"])
        for row in part["sources"]:
            self.states.update(span["state"] for span in row["spans"])
            if row.get("reason") == process.ERROR:
                self.progress.say(f"{row['source']}: {row['message']}")
        self.on_tick(task, len(task.sources), 0)

    def on_failed(self, task: ShardTask, item: int, failure: Failure) -> None:
        """Name a failure. Raises RunAgain after many in a row, where no other video can be read either."""
        self.progress.say(f"{task.sources[item].path}: {failure.cause}: {failure.message}")
        self.failed_in_a_row += failure.cause in (process.STORAGE, pool.TIMEOUT)
        if self.failed_in_a_row < MOST_IN_A_ROW:
            return
        samples = self.listed[:: max(len(self.listed) // SAMPLES, 1)]
        if not any(_readable(source.file(self.videos)) for source in samples):
            raise command.RunAgain(
                f"the last {self.failed_in_a_row} videos could not be read and {self.videos} seems to be gone; "
                "mount it and type the same command again"
            )
        self.failed_in_a_row = 0


def _readable(path: Path) -> bool:
    """Whether a file's first byte can be read."""
    try:
        with open(path, "rb") as handle:
            return bool(handle.read(1))
    except OSError:
        return False


def _unfinished(out: Path, shard: int) -> bool:
    return manifest_update.finished_part(out, layout.part_path(out, shard), shard) is None


def _condemned(task: ShardTask, item: int, failure: Failure) -> ShardTask:
    return dataclasses.replace(task, condemned={**task.condemned, item: failure})


def _without_the_gone(task: ShardTask, found: walk.Found) -> ShardTask:
    """The task without the sources that have vanished or changed since they were listed."""
    for position, source in enumerate(task.sources):
        size = found.bytes_of.get(source.path)
        if size is None:
            task = _condemned(task, position, Failure(walk.MISSING, "no longer there"))
        elif size != source.bytes:
            message = f"it had {source.bytes} bytes when it was listed and has {size}"
            task = _condemned(task, position, Failure(process.CHANGED, message))
    return task


def _close(
    out: Path,
    listed: list[sources.Source],
    found: walk.Found,
    skipped: dict[str, str],
    frames: int,
    started: float,
    workers: int,
) -> int:
    """Balance the ledgers, write them and the manifest, print the sums."""
    parts = [json.loads(layout.part_path(out, n).read_text()) for n in sorted({source.shard for source in listed})]
    counts = ledgers.balance((source.path for source in listed), parts, found.bytes_of, skipped)
    if counts.clips:
        table, header = manifest_update.from_parts(parts, json.loads((out / PROTOCOL).read_text()))
        manifest_update.commit(out, table, header)
    ledgers.write(out, parts, skipped)
    print(ledgers.table(counts))
    if counts.rejected[process.ERROR]:
        print(f"errors   {counts.rejected[process.ERROR]}; tracebacks in {out / faults.ERRORS_FILE}")
    if frames:
        seconds = time.monotonic() - started
        run = Throughput(frames, seconds, seconds * workers)
        throughput.append(out, run)
        print(f"frames   {run}")
    for line in _look_first(out, counts, parts):
        print(line)
    if not counts.clips:
        print(f"nothing was extracted; the reasons are in {out / ledgers.FILE}", file=sys.stderr)
        return command.EXIT_NOT_DONE
    return command.EXIT_DONE


def _look_first(out: Path, counts: ledgers.ExtractionCounts, parts: list[dict[str, Any]]) -> Iterator[str]:
    """What a person should look at before anything is trained on these clips."""
    rejected = Counter({state: n for state, n in counts.spans.items() if state != ledgers.KEPT})
    for rule, number in rejected.most_common(1):
        yield f"first    {number} of {counts.spans.total()} spans are rejected as {rule}: is its limit right?"
    for reason, number in counts.rejected.most_common(1):
        yield f"first    {number} of {counts.sources} sources give no clip for {reason}"
    silent = Counter(clip["facts"]["why_silent"] for part in parts for clip in part["clips"])
    silent.pop("", None)
    if silent:
        listed = ", ".join(f"{number} {why}" for why, number in silent.most_common())
        yield f"first    {silent.total()} of {counts.clips} clips teach no speech: {listed}"
    protocol = out / PROTOCOL
    if protocol.exists() and json.loads(protocol.read_text())["speech"] == EnergyRule.name:
        yield "first    without Silero's network music and noise may count as speech: pip install '.[judges]'"
    if counts.clips:
        yield f"pictures python -m data_pipeline stats {shlex.quote(str(out))} -o stats.html"


def _refuse_other_format(out: Path) -> None:
    """UserError where OUT holds clips of another format, also where no shard is left to be made."""
    try:
        before = json.loads((out / PROTOCOL).read_text()).get("format", "an older one")
    except FileNotFoundError:
        return
    if before != FORMAT:
        raise command.UserError(
            f"{out} holds shards of another format ({before}), this version writes {FORMAT}; "
            "extract into another folder"
        )


def _pin_protocol(out: Path, detector_name: str, shots_name: str, rules: Rules) -> None:
    """Write OUT/protocol.json, or refuse to go on with other tools than those that made the first shards."""
    detector_module = detector.module_of(detector_name)
    protocol = {
        "format": FORMAT,
        "crop_px": CROP_PX,
        "crop_margin": crop.MARGIN,
        "frame_hz": FRAME_HZ,
        "sample_hz": SAMPLE_HZ,
        "detector": detector_module.NAME,
        "detector_version": detector_module.version(),
        "video_codec": {"name": "libx264", **media.CLIP_CODEC},
        "media_version": media.VERSION,
        "speech": hearing.described(),
        "shots": transnet.described() if shots_name == process.TRANSNET else cuts.described(),
        "rules": config.to_dict(rules),
    }
    path = out / PROTOCOL
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


def _rules(args: argparse.Namespace) -> Rules:
    if args.sources_per_shard < 1 or args.workers < 0:
        raise command.UserError("--sources-per-shard must be at least 1 and --workers at least 0")
    if not (args.idle_seconds > 0 and args.source_seconds > 0):
        raise command.UserError("--idle-seconds and --source-seconds must be above 0")
    for name in ("identity", "pattern", "audio"):
        if getattr(args, name) and args.layout != "folder":
            raise command.UserError(f"--layout {args.layout} names people and sound itself; leave --{name} out")
    if args.identity and args.pattern:
        raise command.UserError("--pattern names the person; leave --identity out")
    return config.load(Rules, args.config, args.rules)
