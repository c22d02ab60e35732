"""`python -m launch preflight`: look at what a training will need, on the machines that will run it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from typing import Any

from launch.preflight import where
from launch.preflight.verdicts import BAD, OK, Verdict, machines, verdicts
from launch.words import check_words, is_training, settings_of
from mytalk import command
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError

PROGRAM = "python -m launch preflight"


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch preflight`."""
    parser = command.parser(
        PROGRAM,
        "Before a training: its settings, its arithmetic at this world size (train --dry-run), then on this machine, "
        "on those of --hostfile or on --nodes of Slurm: code, clocks, memory, /dev/shm, disk, open files, slow ranks, "
        "and how fast it goes: its loader alone, its networks alone, and some of its steps, of which nothing is kept. "
        "Names the bottleneck and the examples a second to expect. Exit code 0 if nothing is BAD.",
        f"{PROGRAM} --processes 8 -- train motion --config configs/paper/motion.yaml "
        "shards=data/mine run=runs/motion identity=runs/identity/model",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="how many would be started (1, or all slots)")
    where.options(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, one line")
    parser.add_argument("words", nargs="*", metavar="-- train RECIPE ...", help="the training")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table with verdicts, and one of the machines."""
    check_words(args.words)
    if not is_training(args.words):
        raise UserError("preflight is for train; the first word after -- must be train")
    there = where.place(args)
    planned = dry_run(args.words, there.size)
    rows = [Verdict("settings", OK, f"{planned['recipe']}, {' x '.join(map(str, planned['batch']))} examples a step")]
    for name, path in planned["weights"].items():
        rows.append(Verdict(f"weights {name}", BAD if path.startswith("MISSING") else OK, path or "none"))
    ranks = where.measured(there, args.words)
    rows += verdicts(ranks, planned, read_per_example(args.words, planned))
    if args.json:
        print(json.dumps({"verdicts": [dataclasses.asdict(row) for row in rows], "planned": planned, "ranks": ranks}))
    else:
        width = max(len(row.what) for row in rows)
        print("\n".join(f"{row.what:<{width}}  {row.verdict:<4}  {row.found}" for row in rows))
        print("\n" + "\n".join(machines(ranks, planned["batch"][2])))
    return EXIT_NOT_DONE if any(row.verdict == BAD for row in rows) else EXIT_DONE


def typed(words: list[str]) -> str:
    """What a command prints; UserError with its own last line where it fails."""
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False)
    if done.returncode != EXIT_DONE:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(lines[-1].partition("error: ")[2] or lines[-1])
    return done.stdout


def dry_run(words: list[str], world_size: int) -> dict[str, Any]:
    """What `train --dry-run` says of this training at this world size."""
    return json.loads(typed([*words, "--dry-run", "--json", "--world-size", str(world_size)]))


def read_per_example(words: list[str], planned: dict[str, Any]) -> float:
    """Bytes of shards that an example asks for, by `data_pipeline plan`."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:  # filters, splits, sizes of windows, all of it
        config.write(typed([*words, "--show-config"]))
        config.flush()
        shards = settings_of(["", "", "--config", config.name])["shards"]
        more = ["--recipe", planned["recipe"], "--world-size", str(planned["world_size"]), "--config", config.name]
        plan = json.loads(typed(["data_pipeline", "plan", shards, *more, "--json"]))
    slots = sum(rank["slots"] for rank in plan["ranks"])
    return sum(rank["bytes"] for rank in plan["ranks"]) / max(slots, 1)
