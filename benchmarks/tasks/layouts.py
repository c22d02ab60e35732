"""How many hours of video a core extracts in a day, by the layout in which a corpus lies.

`python -m benchmarks.tasks.layouts VIDEO...` lays the same videos as each corpus's downloader does, sound in a file of
its own and labels where that corpus has them, and extracts each tree in this process, in turns. CPU time, so that
other work on the machine changes little; lists, tables and the closing ledgers are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av

from benchmarks import harness
from benchmarks.harness import Row
from data_pipeline.extract import command as extract
from data_pipeline.extract.corpora.layouts import LAYOUTS
from mytalk import command
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ

WHOLE, PICTURES, SOUND = "whole", "pictures", "sound"
VOX = "Identity : \tid1\nOffset : \t0\nFV Conf : \t19.4\t(1)\nASD Conf : \t4.1\n\nFRAME X Y W H\n"
ELSEWHERE = ("drawn",)  # layouts of no corpus of others


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser(
        "python -m benchmarks.tasks.layouts", __doc__ or "", "python -m benchmarks.tasks.layouts videos/*.mp4"
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="mp4 with AAC, one person each")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    names = ["folder", *TREES]
    if missing := {*LAYOUTS} - {*names, *ELSEWHERE}:
        raise UserError(f"no tree is known here for layouts: {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as folder:
        trees = {name: laid(Path(folder) / name, name, args.videos) for name in names}
        seconds_of_video = sum(map(length_s, args.videos))
        extracted(trees["folder"], "folder")  # what is loaded at first use
        hours: dict[str, list[float]] = {name: [] for name in names}
        for turn in harness.turns("layouts", len(names), args.rounds):
            name = names[turn]
            spent = extracted(trees[name], name)
            hours[name].append(24 * seconds_of_video / spent)
    rows = [
        Row(name, f"{max(of):.0f} hours a core-day", "folder", [one / other for one, other in zip(of, hours["folder"])])
        for name, of in hours.items()
    ]
    return harness.report(f"{len(args.videos)} videos, {seconds_of_video:.0f} s, CPU time", rows, args.out)


def length_s(video: Path) -> float:
    """Of its pictures, in frames of 25 Hz."""
    with av.open(str(video)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size) / FRAME_HZ


def extracted(tree: Path, layout: str) -> float:
    """CPU seconds of extracting a tree in this process. Raises UserError where a video gives no clip."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        words = [str(tree), out, "--layout", layout, "--corpus", "c", "--workers", "0", "min_seconds=1"]
        began = time.process_time()
        code = extract.run(extract.arguments().parse_args(words))
        spent = time.process_time() - began
    if code:
        raise UserError(f"layout {layout} was not extracted: {said.getvalue()}")
    return spent


def laid(folder: Path, name: str, videos: list[Path]) -> Path:
    """Lay the videos in the tree of a layout."""
    made = TREES.get(name, _folder)(videos)
    for path, content in made:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.write_text(content)
        elif content[0] == WHOLE:
            os.symlink(content[1].resolve(), target)
        else:
            remuxed(content[1], target, content[0])
    return folder


def remuxed(video: Path, target: Path, part: str) -> None:
    """A video's pictures, or its sound, alone; nothing is encoded anew."""
    with av.open(str(video)) as source, av.open(str(target), "w", format="mp4") as made:
        stream = source.streams.video[0] if part == PICTURES else source.streams.audio[0]
        copy = made.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copy
                made.mux(packet)


Tree = Iterator[tuple[str, "str | tuple[str, Path]"]]  # path -> a text, or which part of which video


def _folder(videos: list[Path]) -> Tree:
    for n, video in enumerate(videos):
        yield f"person{n}/a.mp4", (WHOLE, video)


def _hdtf(videos: list[Path]) -> Tree:
    yield "HDTF_dataset/RD_annotion_time.txt", "".join(f"V{n}.mp4 00:00-59:00\n" for n in range(len(videos)))
    for n, video in enumerate(videos):
        yield f"V{n}.mp4", (WHOLE, video)


def _voxceleb2(videos: list[Path]) -> Tree:
    for n, video in enumerate(videos):
        yield f"dev/mp4/id{n:05d}/yt/00001.mp4", (PICTURES, video)
        yield f"dev/aac/id{n:05d}/yt/00001.m4a", (SOUND, video)
        yield f"dev/txt/id{n:05d}/yt/00001.txt", VOX


def _lrs3(videos: list[Path]) -> Tree:
    for n, video in enumerate(videos):
        yield f"trainval/yt{n}/00001.mp4", (WHOLE, video)
        yield f"trainval/yt{n}/00001.txt", "Text:  HELLO\nConf:  7\n"


def _mead(videos: list[Path]) -> Tree:
    for n, video in enumerate(videos):
        yield f"M{n:03d}/video/front/happy/level_1/001.mp4", (PICTURES, video)
        yield f"M{n:03d}/audio/happy/level_1/001.m4a", (SOUND, video)


def _avspeech(videos: list[Path]) -> Tree:
    yield "avspeech_train.csv", "".join(f"yt{n},0,{length_s(video)},0.5,0.5\n" for n, video in enumerate(videos))
    for n, video in enumerate(videos):
        yield f"yt{n}.mp4", (WHOLE, video)


def _celebvhq(videos: list[Path]) -> Tree:
    box = {"top": 0.1, "bottom": 0.9, "left": 0.1, "right": 0.9}
    clips = {
        f"yt{n}_0": {"ytb_id": f"yt{n}", "duration": {"start_sec": 0, "end_sec": length_s(video)}, "bbox": box}
        for n, video in enumerate(videos)
    }
    yield "celebvhq_info.json", json.dumps({"clips": clips})
    for n, video in enumerate(videos):
        yield f"raw/yt{n}.mp4", (WHOLE, video)


def _talkinghead1kh(videos: list[Path]) -> Tree:
    rows = []
    for n, video in enumerate(videos):
        with av.open(str(video)) as container:
            height, width = container.streams.video[0].height, container.streams.video[0].width
            last = int(container.streams.video[0].frames) - 1
        rows.append(f"abcdefghi{n:02d}_0000,{height},{width},0,{last},0,0,{width},{height}\n")
        yield f"train/1min_clips/abcdefghi{n:02d}_0000.mp4", (WHOLE, video)
    yield "train/train_video_tubes.txt", "".join(rows)


def _talkvid(videos: list[Path]) -> Tree:
    listed = []
    for n, video in enumerate(videos):
        link, stop_s = f"abcdefghi{n:02d}", length_s(video)
        listed.append(
            {
                "id": str(n),
                "start-time": 0,
                "end-time": stop_s,
                "info": {"Person ID": str(n), "Video Link": f"https://youtu.be/{link}"},
            }
        )
        yield f"out/{link}/{link}_001_0.000_{stop_s:.3f}.mp4", (PICTURES, video)
        yield f"out/{link}/{link}_001_0.000_{stop_s:.3f}.m4a", (SOUND, video)
    yield "filtered_video_clips.json", json.dumps(listed)


def _table(videos: list[Path]) -> Tree:
    rows = "".join(f"{n}.mp4,p{n},{n}.m4a\n" for n in range(len(videos)))
    yield "videos.csv", f"path,person,audio\n{rows}"
    for n, video in enumerate(videos):
        yield f"{n}.mp4", (PICTURES, video)
        yield f"{n}.m4a", (SOUND, video)


TREES: dict[str, Callable[[list[Path]], Tree]] = {
    "hdtf": _hdtf,
    "voxceleb2": _voxceleb2,
    "lrs3": _lrs3,
    "mead": _mead,
    "avspeech": _avspeech,
    "celebvhq": _celebvhq,
    "talkinghead1kh": _talkinghead1kh,
    "talkvid": _talkvid,
    "table": _table,
}


if __name__ == "__main__":
    harness.end("python -m benchmarks.tasks.layouts", lambda: run(arguments().parse_args()))
