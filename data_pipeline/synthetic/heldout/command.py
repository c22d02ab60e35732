"""`python -m data_pipeline heldout`: the drawn benchmark, drawn-bench-v1.

Files: `<corpus>/<corpus>-p<identity>/c<clip>.mp4`, a folder for each corpus (axes.py), whose name the manifest's column
`corpus` then has; `truth.jsonl`, a line per file, and `<corpus>/truth.jsonl`, its lines with paths in its own folder,
for `extract --layout drawn`; `bench.json`, what was drawn. Every person is in one corpus only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline import pool
from data_pipeline.synthetic.heldout.axes import CORPORA, WORDS
from mytalk import atomic, command
from mytalk.machine import cores
from mytalk.progress import Progress

NAME = "drawn-bench-v1"  # frozen: another version where the same arguments give other pictures or another truth
TRUTH = "truth.jsonl"
PEOPLE, CLIPS, SECONDS, SEED, SIZE = 40, 2, 5.0, 20_261_127, 512  # the definition


@dataclass(frozen=True)
class HeldOutClip:
    """One file to draw."""

    corpus: str
    identity: int
    number: int

    @property
    def path(self) -> str:
        """In the folder of the benchmark."""
        return f"{self.corpus}/{self.path_in_corpus}"

    @property
    def path_in_corpus(self) -> str:
        """In the folder of its corpus."""
        return f"{self.corpus}-p{self.identity:03d}/c{self.number:02d}.mp4"


def arguments() -> argparse.ArgumentParser:
    """The command line of `heldout`."""
    parser = command.parser(
        "python -m data_pipeline heldout",
        f"Write {NAME}: people whom no training sees, in corpora that differ from the drawn corpus along one axis each "
        "and along all. Without options it is the definition; with fewer people or clips, a part of it.",
        "python -m data_pipeline heldout corpora/bench --corpora ood-voice ood-all --people 8",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the corpora")
    words = "; ".join(f"{name}: {text}" for name, text in WORDS.items())
    parser.add_argument(
        "--corpora",
        nargs="+",
        choices=sorted(CORPORA),
        default=list(CORPORA),
        metavar="NAME",
        help=f"{words} (default: all)",
    )
    parser.add_argument("--people", type=int, default=PEOPLE, metavar="N", help="of each corpus (default: %(default)s)")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="K",
        help="number of the first person; from 40 on nobody is in the "
        "benchmark: people on whom a judge may be taught (default: %(default)s)",
    )
    parser.add_argument("--clips", type=int, default=CLIPS, metavar="N", help="of each person (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of a clip (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, metavar="K", help="processes (default: one per core)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the clips whose files are missing, and write the truth of all."""
    for option, value, least in (
        ("people", args.people, 1),
        ("first", args.first, 0),
        ("clips", args.clips, 1),
        ("workers", args.workers, 1),
    ):
        if value is not None and value < least:
            raise command.UserError(f"--{option} {value} is out of range; it must be {least} or more")
    if not 1 <= args.seconds <= 60:
        raise command.UserError(f"--seconds {args.seconds} is out of range; it must be from 1 to 60")
    asked = [
        HeldOutClip(corpus, identity, number)
        for corpus in args.corpora
        for identity in range(args.first, args.first + args.people)
        for number in range(args.clips)
    ]
    drawn = {"name": NAME, "seed": SEED, "size": SIZE, "seconds": args.seconds, "clips": args.clips}
    drawn |= {"first": args.first} if args.first else {}
    drawn |= {"people": args.people, "corpora": {name: WORDS[name] for name in args.corpora}}
    _refuse_others(args.out, drawn)
    truth: dict[HeldOutClip, dict[str, Any]] = {}
    progress = Progress("drawing", len(asked), "clips")

    def on_done(clip: HeldOutClip, told: dict[str, Any]) -> None:
        truth[clip] = told
        progress.step()

    pool.run(asked, partial(draw, args.out, args.seconds), args.workers or cores(), pool.Hooks(on_done))
    progress.finish()
    _write_truth(args.out, [truth[clip] for clip in asked])
    for corpus in args.corpora:
        told = [truth[clip] | {"path": clip.path_in_corpus} for clip in asked if clip.corpus == corpus]
        _write_truth(args.out / corpus, told)
    print(f"{args.out}: {len(asked)} clips, {_what(args)}, truth in truth.jsonl")
    return command.EXIT_DONE


def _what(args: argparse.Namespace) -> str:
    """What was drawn, for a reader."""
    if args.first >= PEOPLE:
        return f"people who are not in {NAME}"
    if args.first + args.people > PEOPLE:
        return f"a part of {NAME} and others"
    asked = (args.people, args.clips, args.seconds, set(args.corpora))
    return NAME if asked == (PEOPLE, CLIPS, SECONDS, set(CORPORA)) else f"a part of {NAME}"


def _write_truth(folder: Path, told: list[dict[str, Any]]) -> None:
    lines = [json.dumps(one, allow_nan=False, separators=(",", ":")) for one in told]
    atomic.write_bytes(folder / TRUTH, ("\n".join(lines) + "\n").encode())


def _refuse_others(out: Path, drawn: dict[str, Any]) -> None:
    """Write bench.json; raises UserError where the folder holds another benchmark, or files of others."""
    path = out / "bench.json"
    if path.is_file():
        if json.loads(path.read_text()) != drawn:
            raise command.UserError(f"{out} was drawn with other options; repeat those, or name a new folder")
    elif out.is_dir() and any(out.iterdir()):
        raise command.UserError(f"{out} holds other files and no bench.json; name a new folder")
    else:
        atomic.write_json(path, drawn)


def draw(
    out: Path, seconds: float, clip: HeldOutClip, tick: Callable[[int, int], None] = lambda item, n: None
) -> dict[str, Any]:
    """Write one file unless it is there, and return its truth."""
    import cv2

    from data_pipeline.synthetic.heldout import clip as clips

    tick(0, 0)
    cv2.setNumThreads(1)
    axes = CORPORA[clip.corpus]
    # Nobody is in two corpora: each has numbers of its own, so that also no face is seen along two axes.
    number = (SEED + list(CORPORA).index(clip.corpus), clip.identity, clip.number)
    done = clips.perform(*number, seconds, axes)
    if not (out / clip.path).is_file():
        atomic.write_bytes(out / clip.path, clips.film(number, done, SIZE, axes))
    told = {"path": clip.path, "corpus": clip.corpus, "identity": f"{clip.corpus}-p{clip.identity:03d}"}
    return told | {"frames": len(done.times_T), "size": SIZE} | clips.truth(number, done, SIZE, axes)
