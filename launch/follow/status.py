"""`python -m launch status RUN`: where a training stands, from its run folder alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from launch.follow.folder import Status, status
from mytalk import command
from mytalk.command import EXIT_DONE
from mytalk.progress import clock

SHOWN_RESTARTS = 5


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch status`."""
    parser = command.parser(
        "python -m launch status",
        "Say where a training stands, from its run folder alone: state, step, rate, wait for data, last checkpoint, "
        "time left, restarts and their reasons.",
        "python -m launch status runs/mine --watch",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that run=... named")
    parser.add_argument("--watch", action="store_true", help="again and again, until the run has ended")
    parser.add_argument(
        "--every-s", type=float, default=5.0, metavar="S", help="with --watch: seconds between two looks"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one line")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the state, once or until the run has ended."""
    while True:
        found = status(args.run)
        text = json.dumps(dataclasses.asdict(found)) if args.json else "\n".join(as_text(found))
        clear = "\x1b[H\x1b[J" if args.watch and not args.json and sys.stdout.isatty() else ""
        print(f"{clear}{text}", flush=True)
        if not args.watch or found.state in ("finished", "failed", "killed"):
            return EXIT_DONE
        time.sleep(max(0.1, args.every_s))


def as_text(found: Status) -> list[str]:
    """The state in a few lines, each with its name in front."""
    share = f" ({100 * found.step // max(found.steps, 1)} %)"
    rows = {
        "run": found.run,
        "state": found.state + (f": {found.why}" if found.why else ""),
        "step": f"{found.step} of {found.steps}{share}",
    }
    if found.world_size:
        rows["processes"] = str(found.world_size)
    if found.step_s is not None and found.examples_per_s is not None:
        rows["rate"] = f"{found.examples_per_s:.3g} examples/s, {found.step_s:.3g} s a step"
        rows["data wait"] = f"{100 * (found.data_wait or 0):.1f} % of the time"
    if found.losses:
        rows["loss"] = ", ".join(f"{name} {shown(value)}" for name, value in found.losses.items())
    if found.validation:
        rows["validation"] = ", ".join(f"{name} {shown(value)}" for name, value in found.validation.items())
    rows["checkpoint"] = "none"
    if found.checkpoint is not None:
        rows["checkpoint"] = f"after step {found.checkpoint}, {clock(found.checkpoint_age_s or 0)} old"
        if found.checkpoint_written_s is not None:
            rows["checkpoint"] += f"; one takes {found.checkpoint_written_s:.3g} s to be written"
    if found.eta_s is not None:
        rows["time left"] = clock(found.eta_s)
    troubles = {"skipped steps": found.skipped_steps, "damaged clips": found.damaged_clips, "warnings": found.warnings}
    rows |= {name: str(count) for name, count in troubles.items() if count}
    rows["restarts"] = str(len(found.restarts))
    lines = [f"{name:<14}{text}" for name, text in rows.items()]
    for restart in found.restarts[-SHOWN_RESTARTS:]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(restart["time"]))
        lines.append(f"  {when}  from step {restart['step']} at {restart['world_size']} processes: {restart['why']}")
    return lines


def shown(value: float | None) -> str:
    """A loss or score; `nan` where it was not finite."""
    return "nan" if value is None else f"{value:.4g}"
