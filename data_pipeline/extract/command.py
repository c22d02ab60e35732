"""Videos to clips in shards, with ledgers and a manifest."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline import pool
from data_pipeline.extract import process
from data_pipeline.extract.corpora import folder, layouts
from data_pipeline.extract.corpora.layouts import Video
from data_pipeline.extract.listing import names, sources, walk
from data_pipeline.extract.listing.tree import Tree
from data_pipeline.extract.rules.rules import Rules, described
from data_pipeline.extract.work import close, protocol, publish, tasks
from data_pipeline.extract.work.tasks import Job
from data_pipeline.storage.faults import without_secrets
from data_pipeline.storage.inputs import is_remote
from data_pipeline.tasks import runner as runners
from data_pipeline.tasks.board import PLAN, Board, leaving_on_term
from mytalk import command, config
from mytalk.face import detector
from mytalk.face.landmarks import CROP_PX


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline extract",
        "Turn videos into clips: find shots and faces, follow each face, cut its track into spans, reject those that\n"
        "break a rule, crop the others, and write shards of two columns and a manifest. The main person of a video is\n"
        "named by its folder, or as --layout says. Every file, video and span ends in one named state (ledger.jsonl),\n"
        "a rejected one with the value that was measured: a video that cannot be used never ends the corpus.\n"
        "Stopped at any moment, the same command continues; videos added later get shards of their own. Typed in\n"
        "several terminals or machines that share SHARDS, or as a Slurm array, the commands divide the work.",
        "python -m data_pipeline extract videos/hdtf data/hdtf --corpus hdtf min_seconds=2 min_face_px=96",
    )
    parser.add_argument(
        "videos", type=place, help="folder of videos: VIDEOS/PERSON/*.mp4, or flat; or its URL (s3, http with a table)"
    )
    parser.add_argument("out", type=Path, help="folder of the shards")
    parser.add_argument(
        "rules",
        nargs="*",
        metavar="key=value",
        help="what a clip must hold, such as min_seconds=2 picture.yaw_deg=30 (docs/data.md lists the rules)",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML of rules")
    _add_corpus(parser)
    parser.add_argument(
        "--sources-per-shard", type=int, default=8, metavar="K", help="videos whose clips share a shard"
    )
    runners.add_options(parser)
    _add_limits(parser)
    detector.add_option(parser)
    return parser


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    """Options of how the videos lie on disk, and whom they show."""
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


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Options of where shards go, how long a video may take, and what finds shots."""
    parser.add_argument(
        "--to",
        default="",
        metavar="URL",
        help="send each shard there (s3) when it is made, and the tables at the end; OUT keeps the tables alone",
    )
    parser.add_argument(
        "--scratch-gb",
        type=float,
        default=8.0,
        metavar="GB",
        help="of remote videos, the most that lie in OUT at a time (default: %(default)s)",
    )
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


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    rules, runner = _rules(args), runners.given(args)
    out: Path = args.out
    corpus, found = _found(args, out)
    if not found.bytes_of and not found.unlisted and args.layout != "table" and not (out / sources.FILE).exists():
        suffixes = " ".join(sorted(walk.SUFFIXES))
        raise command.UserError(f"no videos in {args.videos}; it needs files that end in {suffixes}, or in no suffix")
    out.mkdir(parents=True, exist_ok=True)
    limits = pool.TimeLimits(args.idle_seconds, args.source_seconds)
    job = Job(args.videos, out, corpus, rules, args.detector, args.shots, limits, runner)
    job = dataclasses.replace(job, scratch_bytes=int(args.scratch_gb * 1e9), to=args.to)
    frames, worked = 0, False
    with leaving_on_term(), tasks.board_of(out, args.lease_seconds) as board:
        while True:
            with board.alone(PLAN):
                protocol.refuse_other_format(out)
                settings, videos = _settings(args, corpus, rules), _videos(args, found)
                listed, missing = sources.listed(args.videos, out, settings, videos, found.bytes_of, found.unlisted)
                shards, of = tasks.pending(board, out, listed, bool(args.to)), sources.digest(out)
                if args.to and shards:
                    publish.send_list(out, args.to)
            outcome = tasks.extract(job, board, shards, listed, found)
            frames, worked = frames + outcome.frames, worked or bool(shards)
            with board.alone(PLAN):
                if sources.digest(out) == of:
                    close.add_run(out, frames, started, max(args.workers, 1))
                    code = board.closed(of) if worked else None
                    if code is not None:
                        print(f"closed   by another worker; python -m data_pipeline stats {shlex.quote(str(out))}")
                        return int(code)
                    skipped = _skipped(found, missing, listed)
                    return board.close(of, _closed(args, board, listed, found, skipped, outcome.aside))
            _, found = _found(args, out)  # another worker has listed videos that came since


def _closed(
    args: argparse.Namespace,
    board: Board,
    listed: list[sources.Source],
    found: walk.Found,
    skipped: dict[str, str],
    aside: dict[int, str],
) -> int:
    """Write the tables of all shards, alone; the exit code."""
    if not board.at_task():  # else one that was taken for dead still writes
        tasks.sweep(args.out)
    code = close.close(args.out, listed, found, skipped, aside)
    if args.to:
        publish.send_tables(args.out, args.to)
    return code


def place(text: str) -> Path | str:
    """A folder, or a URL."""
    return text if is_remote(text) else Path(text)


def _found(args: argparse.Namespace, out: Path) -> tuple[str, walk.Found]:
    """The name of the corpus, and its files."""
    if isinstance(args.videos, str):
        name = without_secrets(args.videos).rstrip("/").rpartition("/")[2]
        return args.corpus or name or "corpus", walk.walk_url(args.videos)
    if not args.videos.is_dir():
        raise command.UserError(f"no folder {args.videos}; name a folder of videos")
    return names.to_text(args.corpus or args.videos.resolve().name), walk.walk(
        args.videos, output=Path(os.path.realpath(out))
    )


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
    named |= {name: getattr(args, name) for name in ("pattern", "audio", "licence")} | {"to": args.to or None}
    return {**config.flat(described(rules)), "crop_px": CROP_PX, **named, "layout": args.layout}


def _rules(args: argparse.Namespace) -> Rules:
    if args.sources_per_shard < 1:
        raise command.UserError("--sources-per-shard must be at least 1")
    if not (args.idle_seconds > 0 and args.source_seconds > 0):
        raise command.UserError("--idle-seconds and --source-seconds must be above 0")
    if args.to and not is_remote(args.to):
        raise command.UserError(f"--to {args.to} is no URL; name one, such as s3://bucket/shards, or leave it out")
    for name in ("identity", "pattern", "audio"):
        if getattr(args, name) and args.layout != "folder":
            raise command.UserError(f"--layout {args.layout} names people and sound itself; leave --{name} out")
    if args.identity and args.pattern:
        raise command.UserError("--pattern names the person; leave --identity out")
    return config.load(Rules, args.config, args.rules)
