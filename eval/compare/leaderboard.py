"""`python -m eval leaderboard`: one page of many reports, those of one protocol, data and judges in one table.

Numbers that were measured otherwise stand in a table of their own, never beside these. The page needs no other file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from data_pipeline.page.html import render
from eval.compare import reports
from eval.report import check, text
from eval.score_file import FLOOR
from mytalk import atomic, command
from mytalk.command import EXIT_DONE, UserError

TEMPLATE = Path(__file__).with_name("leaderboard.html.j2")
OF_DATA = ("manifest", "shards", "real_videos", "pairs")


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = command.parser(
        "python -m eval leaderboard",
        __doc__,
        "python -m eval leaderboard runs/*/benchmark runs/theirs --out board.html",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folders of reports")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    if args.out.is_dir():
        raise UserError(f"{args.out} is a folder; name the page, as {args.out / 'board.html'}")
    tables = board([(folder, check.finished(folder)) for folder in dict.fromkeys(args.folders)])
    atomic.write_bytes(args.out, html(tables).encode())
    for table in tables:
        print(f"{table['name']}: {len(table['rows'])} rows, {len(table['metrics'])} metrics")
    print(args.out)
    return EXIT_DONE


def html(tables: list[dict[str, Any]]) -> str:
    """The page."""
    return render(TEMPLATE, tables=tables)


def board(found: list[tuple[Path, dict[str, Any]]]) -> list[dict[str, Any]]:
    """A table for every protocol, data and judges that some reports share, in the order of the first report of each."""
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder, report in found:
        groups.setdefault(json.dumps(reports.comparable(report), sort_keys=True), []).append((folder, report))
    return [_table(members) for members in groups.values()]


def _table(members: list[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """What the page shows of the reports of one protocol. A row that several reports give alike stands once."""
    metrics = {name: stated for _, report in members for name, stated in text.measured(report).items()}
    rows: list[dict[str, Any]] = []
    seen: list[tuple[str, Any]] = []
    for folder, report in members:
        for method, scores in report["methods"].items():
            if (method, scores) in seen:
                continue
            seen.append((method, scores))
            clips = report["coverage"]["clips"]
            rows.append(
                {
                    "method": method,
                    "folder": str(folder),
                    "floor": method == FLOOR,
                    "coverage": f"{clips['scored']}/{clips['total']}",
                    "share": clips["scored"] / clips["total"],
                    "cells": [_cell(scores.get(metric)) for metric in metrics],
                }
            )
    protocol = members[0][1]["protocol"]
    digests = members[0][1]["digests"]
    return {
        "name": protocol["name"],
        "facts": f"{protocol['people']} people, {protocol['clips']} clips{text.of_corpora(protocol)}",
        "data": [(name, digests[name]) for name in OF_DATA if name in digests],
        "judges": [(name, digests[name]) for name in reports.shared_digests(digests) if name not in OF_DATA],
        "metrics": metrics,
        "rows": rows,
    }


def _cell(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    places = 3 if abs(entry["mean"]) < 2 else 2 if abs(entry["mean"]) < 20 else 1
    ends = None if entry["ci95"] is None else [f"{end:.{places}f}" for end in entry["ci95"]]
    return {"value": entry["mean"], "mean": f"{entry['mean']:.{places}f}", "ci95": ends}
