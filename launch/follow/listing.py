"""`python -m launch runs FOLDER`: the trainings below a folder, a row each."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

from launch.follow.folder import Status, status
from mytalk import command
from mytalk.command import EXIT_DONE, UserError
from mytalk.progress import clock

COLUMNS = ("run", "state", "step", "of", "examples/s", "data wait", "checkpoint", "left", "restarts")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch runs`."""
    parser = command.parser(
        "python -m launch runs",
        "List the trainings below a folder, a row each; `python -m launch status RUN` says more of one.",
        "python -m launch runs runs",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of run folders, at any depth")
    parser.add_argument("--json", action="store_true", help="as JSON, one list")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    if not args.folder.is_dir():
        raise UserError(f"{args.folder} is no folder; name the one that holds your run folders")
    found = [status_or_why(folder) for folder in run_folders(args.folder)]
    if not found and not args.json:
        raise UserError(f"no run folder is in {args.folder}: none of its folders has a config.yaml and an events.jsonl")
    if args.json:
        print(json.dumps([dataclasses.asdict(one) for one in found]))
    else:
        print("\n".join(table(args.folder, found)))
    return EXIT_DONE


def status_or_why(folder: Path) -> Status:
    """Where a run stands; `unreadable` and why, so that one odd folder does not hide the others."""
    try:
        return status(folder)
    except UserError as error:
        return Status(str(folder), "unreadable", str(error))


def run_folders(folder: Path) -> list[Path]:
    """Folders that a training has made, by name. What lies in a run folder is not looked through."""
    found = []
    for parent, folders, files in os.walk(folder):
        if "config.yaml" in files and {command.EVENTS, "metrics.jsonl", "finished.json"} & {*files}:
            found.append(Path(parent))
            folders.clear()
        folders.sort()
    return found


def table(folder: Path, found: list[Status]) -> list[str]:
    """A header and a row each, in columns."""
    rows = [COLUMNS, *(row(folder, one) for one in found)]
    # A reason stands alone behind the name: it is longer than any column.
    names = max(len(cells[0]) for cells in rows)
    full = [cells for cells in rows if len(cells) == len(COLUMNS)]
    widths = [names, *(max(len(cells[column]) for cells in full) for column in range(1, len(COLUMNS)))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip() for cells in rows]


def row(folder: Path, one: Status) -> tuple[str, ...]:
    """The cells of a run; of an unreadable one its name and why."""
    name = os.path.relpath(one.run, folder)
    if one.state == "unreadable":
        return name, f"unreadable: {one.why}"
    rate = "" if one.examples_per_s is None else f"{one.examples_per_s:.3g}"
    wait = "" if one.data_wait is None else f"{100 * one.data_wait:.0f} %"
    saved = "" if one.checkpoint is None else str(one.checkpoint)
    left = "" if one.eta_s is None else clock(one.eta_s)
    return name, one.state, str(one.step), str(one.steps), rate, wait, saved, left, str(len(one.restarts))
