"""What a corpus holds and what was lost on the way: on the terminal, and as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.stats import page, text
from data_pipeline.stats.survey import survey
from mytalk import atomic, command


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline stats",
        "Say what shards hold and why: length, people and clips of each corpus, what every rule rejected, sources\n"
        "that failed, who speaks, and what to look at first. -o writes it as one HTML page, with pictures of what was\n"
        "rejected and nearly rejected, the spread of every fact with the limits drawn in, and the people.",
        "python -m data_pipeline stats data/mine -o stats.html",
    )
    parser.add_argument("shards", help="folder or URL of shards with a manifest")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="page to write, a .html")
    return parser


def run(args: argparse.Namespace) -> int:
    out: Path | None = args.out
    if out is not None and (out.suffix.lower() not in (".html", ".htm") or out.is_dir()):
        raise command.UserError(f"-o {out}: the page is HTML; name a file that ends in .html")
    if out is not None:
        atomic.refuse_unwritable(out)
    found = survey(args.shards)
    for line in text.lines(found):
        print(line)
    if out is not None:
        atomic.write_bytes(out, page.html(found).encode(errors="backslashreplace"))
        print(f"\n{out}")
    return command.EXIT_DONE
