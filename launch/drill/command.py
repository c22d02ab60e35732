"""`python -m launch drill`: prove, here or on your machines, that a training survives what clusters do to it.

A small training runs once undisturbed. Then it runs again for each fault, is disturbed and continued; the examples of
every step and every loss must be those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from launch.clusters.facts import cluster_of
from launch.drill import faults, places
from launch.drill.by_slurm import BySlurm
from launch.drill.faults import FAULTS, Fault, Options
from launch.drill.trial import RTOL, Difference, NotTried, Place, Trial, difference, environment
from launch.slurm import machines
from launch.words import at_least, check_words, global_batch, is_training
from mytalk import command
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError
from mytalk.progress import clock

PROGRAM = "python -m launch drill"
CONFIG = "configs/drill.yaml"
PEOPLE, CLIPS, SECONDS = 6, 2, 2.0  # that are drawn where no shards are named
MARKER = ".mytalk-drill"  # in the folder of a drill, which clears folders such as `storage` in it
EVERY_STEP = ("checkpoint_every=1", "log_every=1", "keep_last=3", "failed_checkpoint=go_on")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch drill`."""
    names = "; ".join(f"{name}: {(fault.bring.__doc__ or '').partition('.')[0]}" for name, fault in FAULTS.items())
    parser = command.parser(
        PROGRAM,
        "Disturb a small training in every way that a cluster does, have it continued, and compare: examples and "
        f"losses of each step must be those of the undisturbed run. Faults: {names}. Without words it trains "
        f"{CONFIG} on people that it draws; name your own training to drill that. On hosts of "
        "ssh with --hostfile, by jobs of Slurm with --nodes; all must see --out.",
        f"{PROGRAM} --cluster lab --nodes 2 --only term,rank,write,requeue",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/drill"), help="folder of the runs, new or a drill's")
    parser.add_argument("--only", metavar="NAME,...", help="these faults alone")
    parser.add_argument("--processes", type=int, metavar="N", help="of the training (2, or all slots)")
    places.options(parser)
    machines.options(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="of the training (16, by ssh 200, by Slurm 150)")
    parser.add_argument(
        "--watchdog-s", type=float, default=30.0, metavar="S", help="seconds after which a hung rank is ended"
    )
    parser.add_argument(
        "--storage-gone-s", type=float, default=60.0, metavar="S", help="seconds for which storage is gone"
    )
    parser.add_argument(
        "--limit-s", type=float, default=900.0, metavar="S", help="the most seconds that one start takes"
    )
    parser.add_argument("--json", action="store_true", help="the results as JSON, one line")
    parser.add_argument("words", nargs="*", metavar="-- train RECIPE ...", help="your own training, without run=...")
    return parser


@dataclass(frozen=True)
class Result:
    """What came of one fault."""

    fault: str
    holds: bool
    what: str
    seconds: float
    starts: int = 0
    keys_differ: int | None = None  # steps
    loss_differs: float | None = None  # relative


def run(args: argparse.Namespace) -> int:
    """Drill; 0 only if every fault was tried and left no trace."""
    there = place(args)
    names = chosen(args.only, there)
    at_least(2, processes=there.processes)
    at_least(8, steps=args.steps)
    steps = there.steps if args.steps is None else args.steps
    if args.words:
        check_words(args.words)
        if not is_training(args.words):
            raise UserError("a drill is of a training; the first word after -- must be train")
        if any(word.startswith(("run=", "steps=")) for word in args.words):
            raise UserError("leave run=... and steps=... out; --out and --steps set them")
    batch = global_batch(args.words or ["train", "motion", "--config", CONFIG])
    if batch % there.processes:
        raise UserError(f"global_batch {batch} cannot be shared by {there.processes} processes")
    claim(args.out)
    words = list(args.words) or drawn(args.out)
    words += [*EVERY_STEP, f"steps={steps}", f"validate_every={steps}"]
    results = drill(names, words, args, there)
    print(json.dumps([dataclasses.asdict(one) for one in results]) if args.json else "\n".join(table(results)))
    return EXIT_DONE if all(one.holds for one in results) else EXIT_NOT_DONE


def place(args: argparse.Namespace) -> Place:
    """Where the command line says. UserError for a cluster that names no hosts, where no nodes are asked for."""
    if args.nodes is not None:
        return BySlurm(args)
    file = args.hostfile or Path(cluster_of(args.cluster).hostfile)
    if file.name:
        return places.ByHosts(args, file)
    if args.cluster is not None:
        raise UserError(f"--cluster {args.cluster} names no hostfile; add --hostfile FILE, or --nodes N for Slurm")
    return places.Here(args.processes)


def chosen(only: str | None, there: Place) -> list[str]:
    """The faults to bring about. UserError for one that there is not, or not there; by default those are left out."""
    names = only.split(",") if only else list(FAULTS)
    for name in names:
        if name not in FAULTS:
            raise UserError(f"no fault '{name}'; there are: {', '.join(FAULTS)}")
        if name in there.left_out:
            if only:
                raise UserError(f"'{name}' cannot be drilled there: {there.left_out[name]}")
            print(f"{name}: left out: {there.left_out[name]}", file=sys.stderr, flush=True)
    return [name for name in names if name not in there.left_out]


def claim(out: Path) -> None:
    """Make the folder of a drill and mark it. UserError where it holds what no drill has put there."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is no folder; name a new one")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise UserError(f"--out {out} holds files that are no drill's, which it would delete; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("python -m launch drill deletes and writes folders here\n")


def drawn(out: Path) -> list[str]:
    """The words of a training on people that are drawn; the same command continues."""
    videos, shards = out / "drawn", out / "shards"
    people = ["--identities", str(PEOPLE), "--clips-per-identity", str(CLIPS), "--seconds", str(SECONDS), "--seed", "0"]
    for typed in (
        ["data_pipeline", "demo", str(videos), *people, "--no-broken"],
        ["data_pipeline", "extract", str(videos), str(shards)],
        ["data_pipeline", "split", str(shards)],
    ):
        done = subprocess.run([sys.executable, "-m", *typed], env=environment(), check=False)
        if done.returncode != EXIT_DONE:
            raise UserError(f"python -m {' '.join(typed[:2])} failed; name shards of yours: -- train motion shards=...")
    return ["train", "motion", "--config", CONFIG, f"shards={shards}"]


def drill(names: list[str], words: list[str], args: argparse.Namespace, there: Place) -> list[Result]:
    """The undisturbed runs, then each fault."""
    options = Options(args.watchdog_s, args.storage_gone_s)
    known: dict[bool, tuple[list[str], dict[int, dict]]] = {}
    results = []
    for name in names:
        fault, began = FAULTS[name], time.monotonic()
        print(f"{name}: {(fault.bring.__doc__ or '').partition(':')[0]}", file=sys.stderr, flush=True)
        try:
            if fault.torn not in known:
                known[fault.torn] = undisturbed(words, fault.torn, args, there)
            typed, truth = known[fault.torn]
            with closing(fresh(typed, args.out / name, args, there)) as trial:
                results.append(of(name, fault, trial, truth, options, began))
        except NotTried as why:
            results.append(Result(name, False, f"NOT TRIED: {why}", time.monotonic() - began))
    return results


def fresh(words: list[str], run: Path, args: argparse.Namespace, there: Place) -> Trial:
    """A training that has not begun."""
    shutil.rmtree(run, ignore_errors=True)
    trial = Trial(list(words), run, there, args.limit_s)
    trial.log.unlink(missing_ok=True)
    return trial


def undisturbed(
    words: list[str], torn: bool, args: argparse.Namespace, there: Place
) -> tuple[list[str], dict[int, dict]]:
    """The run that nothing befalls: its words, and its steps. Raises NotTried where no torn shard can be trained on."""
    if not torn:
        code, trial = ended(words, args.out / "undisturbed", args, there)
        if code != EXIT_DONE:
            raise UserError(f"the undisturbed training ended with exit code {code}; see {trial.log}")
        return words, trial.steps()
    for tears in faults.TEARS:
        typed = [*words, f"shards={faults.torn_shards(words, args.out, tears)}", "bad_share=1.0"]
        code, trial = ended(typed, args.out / "undisturbed-torn", args, there)
        if code == EXIT_DONE and (trial.run / "bad_examples.jsonl").exists():
            return typed, trial.steps()
    raise NotTried(
        "no clip that is trained on lies where a shard was torn, or none is left to validate; name other shards"
    )


def ended(words: list[str], run: Path, args: argparse.Namespace, there: Place) -> tuple[int, Trial]:
    """A training that is left alone to its end: its exit code, and what there is of it."""
    with closing(fresh(words, run, args, there)) as trial:
        return trial.wait(trial.start()), trial


def of(name: str, fault: Fault, trial: Trial, truth: dict[int, dict], options: Options, began: float) -> Result:
    """Bring a fault about and compare."""
    what = fault.bring(trial, options)
    found = difference(trial.steps(), truth)
    seconds, starts = time.monotonic() - began, trial.starts()
    if fault.restarts and starts < 2:
        raise NotTried(f"the training was not interrupted; give more --steps, see {trial.log}")
    return Result(name, not found, what + worded(found), seconds, starts, found.keys, found.loss)


def worded(found: Difference) -> str:
    """What differs, in words; empty where nothing does."""
    if not found:
        return ""
    return f"; DIFFERS: {found.steps} steps missing, {found.keys} with other examples, losses by {found.loss:.1e}"


def table(results: list[Result]) -> list[str]:
    """A row for each fault, and what it comes to."""
    rows = [("fault", "holds", "starts", "examples", "losses within", "time", "what happened")]
    for one in results:
        examples = "" if one.keys_differ is None else "equal" if not one.keys_differ else f"{one.keys_differ} differ"
        loss = "" if one.loss_differs is None else f"{one.loss_differs:.0e}"
        holds = "yes" if one.holds else "NO"
        rows.append((one.fault, holds, str(one.starts), examples, loss, clock(one.seconds), one.what))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    held = sum(one.holds for one in results)
    return [*lines, f"{held} of {len(results)} hold (losses may differ by {RTOL:g})"]
