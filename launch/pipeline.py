"""One command from a folder of videos to a report: shards, four trained networks, dubbed unseen people, scores.

Every step is a command that a user could type (launch/commands.py). They run in order, those that are done are
skipped (launch/runner.py). Interrupted anywhere, the same command continues with the step it was in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import runner
from launch.commands import BENCHMARK_PROCESSES, RECIPES, Step, chain, is_config, shell_line
from mytalk import command
from mytalk.command import EXIT_DONE, UserError
from mytalk.progress import clock

SIZES = ("demo", "paper")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch pipeline`."""
    parser = command.parser(
        "python -m launch pipeline",
        "From a folder of videos to a report: extract shards, split people, train the four networks, dub people they "
        "never saw, and score it. Interrupted anywhere, the same command continues. Videos added to VIDEOS later are "
        "extracted as well. A setting key=value goes to all four trainings, RECIPE.key=value to one of them; RECIPE "
        f"is one of {', '.join(RECIPES)}.",
        "python -m launch pipeline videos/mine runs/mine steps=400 motion.steps=2000 motion.model.width=256",
    )
    parser.add_argument(
        "videos",
        type=Path,
        metavar="VIDEOS",
        help="folder of videos: VIDEOS/PERSON/*.mp4, or flat; or the YAML of several corpora (data_pipeline build)",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument("--corpus", metavar="NAME", help="name of the corpus (default: the name of VIDEOS)")
    parser.add_argument(
        "--identity",
        choices=("first", "parent"),
        help="which folder names the person, where videos lie deeper than one: the first below VIDEOS or the one "
        "that holds the video",
    )
    parser.add_argument(
        "--layout", metavar="NAME", help="how the corpus is laid: `data_pipeline extract --help` has the names"
    )
    return add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what `pipeline` and `demo` share."""
    parser.add_argument("--size", choices=SIZES, default=SIZES[0], help="settings in configs/SIZE (default: demo)")
    parser.add_argument("--configs", type=Path, metavar="FOLDER", help="folder of other settings, RECIPE.yaml each")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help=f"processes of each training and of the benchmark (default: 1, and {BENCHMARK_PROCESSES})",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands instead of running them")
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="settings of the trainings: [RECIPE.]key=value"
    )
    # Settings may also follow options, where parse_args would refuse them.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the steps that are not done, then print the table of times and where to look."""
    if is_config(args.videos) and (named := extract_options(args)):
        raise UserError(f"{args.videos} says how its corpora lie; leave {named[0]} out")
    if not (args.videos.is_dir() or is_config(args.videos)):
        raise UserError(f"no folder {args.videos}; name a folder of videos, or the YAML of corpora")
    if Path(os.path.realpath(args.out)).is_relative_to(args.videos.resolve()):
        raise UserError(f"{args.out} lies inside {args.videos}, so dubbed videos would be extracted; name another OUT")
    return run_all(chain(args, args.videos, extract_options(args)), args, args.videos)


def extract_options(args: argparse.Namespace) -> tuple[str, ...]:
    """The options that `extract` gets."""
    named = {"--corpus": args.corpus, "--identity": args.identity, "--layout": args.layout}
    return tuple(word for option, value in named.items() if value is not None for word in (option, value))


def run_all(
    steps: Sequence[Step],
    args: argparse.Namespace,
    videos: Path,
    restart: bool = False,
    before: Sequence[tuple[str, float]] = (),
) -> int:
    """Run the steps that are not done and print the results, or print the commands (--dry-run).

    `restart` as for `runner.run_steps`. `before` are rows of the table of times: names and seconds.
    """
    if args.dry_run:
        print("\n".join(shell_line(step) for step in steps))
        return EXIT_DONE
    code = runner.checked(steps, args.out)
    if code == EXIT_DONE:
        code = runner.run_steps(steps, args.out, restart)
    if code == EXIT_DONE:
        print_times([*before, *runner.seconds_of(steps, args.out)])
        print_results(args.out, videos)
    return code


def print_times(rows: Sequence[tuple[str, float]]) -> None:
    """Where the time went, interruptions added up."""
    print("\nstep                 time")
    for name, seconds in [*rows, ("total", sum(seconds for _, seconds in rows))]:
        print(f"{name:<17} {clock(seconds):>7}")


def print_results(out: Path, videos: Path) -> None:
    """The result in one table, and the files to look at."""
    folder = out / "benchmark"
    report = json.loads((folder / "report.json").read_text())
    passed = "holds" if report["gate"]["passed"] else "FAILS"
    print(
        "\nmouth opening of dubbed, never seen people against their real one (correlation; 1: the same, 0: unrelated):"
    )
    for name, metrics in report["methods"].items():
        value = metrics["opening_correlation"]
        interval = value["ci95"]
        shown = f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "(one person: no interval)"
        print(f"  {name:<16} {value['mean']:5.2f} {shown}  n = {value['n']} of {value['total']} people")
    print(f"the gate {passed}: mytalk's interval lies above those of shuffled_audio and frozen_mouth")
    print(f"\ncurves     {sys.executable} -m tensorboard.main --logdir {out}")
    print(f"videos     {videos}, dubbed ones in {folder / 'videos'}")
    print(f"report     {folder / 'report.html'}")
    print(f"           {folder / 'report.json'}")
