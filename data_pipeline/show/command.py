"""`python -m data_pipeline show`: a clip as one picture, or a source video with its tracks drawn in."""

from __future__ import annotations

import argparse
import bisect
import difflib
import io
import re
from pathlib import Path

import numpy as np

from data_pipeline.shards.manifest import Manifest
from data_pipeline.show import film, sheet
from data_pipeline.show.story import story
from mytalk import atomic, command

NEAR = 2000  # keys on either side of an unknown one that are compared with it


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline show",
        "Draw what the model sees of a clip as one picture: moments with their landmarks, the mouth, the dots and\n"
        "the blacked-out frame that the appearance generator gets, and below them the speech and how far the\n"
        "mouth is open, on one axis of time. With --source a film of the source video instead: tracks with their\n"
        "people, who speaks, cuts, and each span's verdict, as extraction left them.",
        "python -m data_pipeline show data/hdtf p000-c00-507dcd5ab1-000000 -o clip.png\n"
        "  python -m data_pipeline show data/mine --source ann/talk.mp4 --videos videos/mine -o tracks.mp4",
    )
    parser.add_argument("shards", help="folder or URL of shards with a manifest")
    parser.add_argument("key", nargs="?", help="the clip, as the manifest names it")
    parser.add_argument("--source", metavar="PATH", help="the source video, as the ledger names it")
    parser.add_argument("--videos", type=Path, metavar="DIR", help="with --source: the folder that was extracted")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="picture or film to write (default: KEY.png or SOURCE.mp4, here)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    if (args.key is None) == (args.source is None):
        raise command.UserError("name either the KEY of a clip or a --source")
    if args.source is not None:
        return _show_source(args)
    manifest = Manifest.load(args.shards)
    row = row_of(manifest, args.key)
    out = _out(args, args.key, ".png", "the picture is a PNG")
    target = io.BytesIO()
    sheet.of_clip(manifest, row).save(target, "PNG")
    atomic.write_bytes(out, target.getvalue())
    print(out)
    return command.EXIT_DONE


def _show_source(args: argparse.Namespace) -> int:
    if args.videos is None:
        raise command.UserError("--source needs --videos, the folder that was extracted")
    out = _out(args, args.source, ".mp4", "the film is an mp4")
    film.write(story(args.shards, args.source), args.videos, out)
    print(out)
    return command.EXIT_DONE


def _out(args: argparse.Namespace, name: str, suffix: str, kind: str) -> Path:
    """Where to write. Raises UserError for a file of another kind."""
    out = Path(file_name(name, suffix)) if args.out is None else args.out
    if out.suffix.lower() != suffix or out.is_dir():
        raise command.UserError(f"-o {out}: {kind}; name a file that ends in {suffix}")
    atomic.refuse_unwritable(out)
    return out


def row_of(manifest: Manifest, key: str) -> int:
    """The row of a clip. Raises UserError, with the nearest keys, where there is none."""
    keys = manifest.column("key")
    rows = np.flatnonzero(keys == key)
    if not len(rows):
        known = sorted(str(name) for name in keys)
        at = bisect.bisect(known, key)  # of millions, only those that begin alike are compared
        near = difflib.get_close_matches(key, known[max(at - NEAR, 0) : at + NEAR], n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"the first is {keys[0]}" if len(keys) else "it is empty"
        )
        raise command.UserError(f"{manifest.folder} has no clip '{key}'; {hint}")
    return int(rows[0])


def file_name(key: str, suffix: str = ".png") -> str:
    """The picture's name for a key: nothing but letters, digits, `.`, `_` and `-`, and no hidden file."""
    return (re.sub(r"[^A-Za-z0-9._-]+", "_", key).lstrip(".")[:150] or "clip") + suffix
