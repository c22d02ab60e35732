"""`python -m data_pipeline scenes`: drawn videos with several people, cuts, hands, music and the like, with truth.

Files: `s<seed>/<kind>.mp4`, and `truth.jsonl`: a line per file, its `path` and what scenes/scene.py lists.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline import pool
from data_pipeline.synthetic.scenes.kinds import KINDS
from mytalk import atomic, command
from mytalk.machine import cores
from mytalk.progress import Progress


def arguments() -> argparse.ArgumentParser:
    """The command line of `scenes`."""
    parser = command.parser(
        "python -m data_pipeline scenes",
        "Write drawn videos that extraction can fail on: cuts, several faces, hands, music. truth.jsonl has the truth.",
        "python -m data_pipeline scenes corpora/scenes --kinds cuts two hand --seeds 3",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the videos")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=sorted(KINDS),
        default=list(KINDS),
        metavar="KIND",
        help=f"{', '.join(KINDS)} (default: all)",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="videos of each kind (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=None, metavar="K", help="processes (default: one per core)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the scenes whose files are missing, and write the truth of all."""
    if args.seeds < 1 or (args.workers is not None and args.workers < 1):
        raise command.UserError("--seeds and --workers must be 1 or more")
    scenes = [(kind, seed) for seed in range(args.seeds) for kind in args.kinds]
    truth: dict[tuple[str, int], dict[str, Any]] = {}
    progress = Progress("drawing", len(scenes), "scenes")

    def on_done(one: tuple[str, int], told: dict[str, Any]) -> None:
        truth[one] = told
        progress.step()

    pool.run(scenes, partial(draw, args.out), args.workers or cores(), pool.Hooks(on_done))
    progress.finish()
    lines = [json.dumps(truth[one], allow_nan=False, separators=(",", ":")) for one in scenes]
    atomic.write_bytes(args.out / "truth.jsonl", ("\n".join(lines) + "\n").encode())
    print(f"{args.out}: {len(scenes)} scenes, truth in truth.jsonl")
    return command.EXIT_DONE


def draw(out: Path, one: tuple[str, int], tick: Callable[[int, int], None] = lambda item, n: None) -> dict[str, Any]:
    """Write the file of a (kind, seed) unless it is there, and return its truth."""
    import cv2

    from data_pipeline.synthetic.scenes.scene import scene
    from mytalk.face.landmarks import FRAME_HZ
    from mytalk.media.writing import write_video

    cv2.setNumThreads(1)
    kind, seed = one
    drawn = scene(kind, seed)
    path = f"s{seed}/{kind}.mp4"
    tick(0, drawn.frames)
    if not (out / path).is_file():
        write_video(out / path, drawn.pictures(), FRAME_HZ, drawn.audio_S)
    return {"path": path} | drawn.truth
