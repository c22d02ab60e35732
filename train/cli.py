"""What `python -m train RECIPE` does with every recipe: its command line, and joining the ranks to train."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mytalk import command, settings
from mytalk.command import EXIT_DONE
from mytalk.machine import sole_user
from train import loop
from train.config import LoopConfig
from train.engine.distributed import Ranks, join, leave
from train.recipe import Recipe
from train.run_folder import checkpoint, resume

EXAMPLES = "configs/demo"


def arguments(recipe: str, words: str, example: str, schema: type[LoopConfig]) -> argparse.ArgumentParser:
    """The command line of `python -m train RECIPE`: what it is for in words, settings of an example, every key."""
    config = f"--config {EXAMPLES}/{recipe}.yaml " if Path(EXAMPLES, f"{recipe}.yaml").is_file() else ""
    parser = command.parser(
        f"python -m train {recipe}",
        f"{words} Stopped or killed, the same command continues; "
        f"several processes: python -m launch local --processes 2 -- train {recipe} ...",
        f"python -m train {recipe} {config}{example}",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML of settings; configs/ holds those that ship")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train nothing; say what it takes: batch, epochs, parameters, operations, memory by ZeRO stage, weights",
    )
    parser.add_argument(
        "--show-config", action="store_true", help="train nothing; print every setting as it would be, as YAML"
    )
    parser.add_argument("--world-size", type=int, metavar="N", help="with --dry-run: as N processes would (1)")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON, one line")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)  # of `train check`
    parser.add_argument("--rates", metavar="FILE", type=Path, help=argparse.SUPPRESS)  # of `launch preflight`
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that win over the file's")
    parser.epilog = f"{settings.help_text(schema)}\n{parser.epilog}"
    return parser


def start(
    config: LoopConfig,
    make_recipe: Callable[[], Recipe],
    args: argparse.Namespace,
    refuse_missing: Callable[[], None] = lambda: None,
) -> int:
    """What every recipe's command does: nothing if the model is there, else join the ranks and train.

    With --dry-run or --show-config in `args` it says what training takes, or its settings, and writes nothing; with
    --check it calls `refuse_missing`, which raises UserError where a package or weights are not installed.

    Raises UserError where the model that is there was trained with other settings or data.
    """
    if args.check:
        refuse_missing()
        return EXIT_DONE
    if args.show_config:
        print(resume.resolved(config), end="")
        return EXIT_DONE
    if args.dry_run:
        return only_said(config, make_recipe, args)
    if args.rates:
        return measured(config, make_recipe, args.rates)
    run = Path(config.run)
    finished = resume.finished_run(run)
    if not config.shards_until:
        config.shards_until = resume.recorded(run).get("shards_until", 0)
    recipe = make_recipe()
    if fix := resume.is_finished(finished, config):
        resume.refuse_changes(recipe, config, finished["fixed"], config.accept_changes)
        print(f"{run} is already trained for {finished['steps']} steps; {fix}")
        return EXIT_DONE
    ranks = join(config.watchdog_s)
    try:
        with ranks.stop, sole_user(run, "train") if ranks.rank == 0 else contextlib.nullcontext():
            seen = {"shards_until": config.shards_until, "newest": str(checkpoint.newest(run))}
            resume.agree({**resume.fixed(recipe, config), **seen}, ranks)
            with noted(run, config, ranks):
                code = loop.train(recipe, config, ranks)
                end_of_run(run, ranks, code)
    except BaseException:
        leave(failed=True)
        raise
    leave()
    return code


def only_said(config: LoopConfig, make_recipe: Callable[[], Recipe], args: argparse.Namespace) -> int:
    """Print what the training takes. Raises UserError for a world size that does not divide the batch."""
    if args.world_size is not None and args.world_size < 1:
        raise command.UserError(f"--world-size must be at least 1, not {args.world_size}")
    os.environ["DS_ACCELERATOR"] = "cpu"  # before anything asks for the GPU

    from train import dry_run

    dry_run.run(config, make_recipe, args.world_size or 1, args.json)
    return EXIT_DONE


def measured(config: LoopConfig, make_recipe: Callable[[], Recipe], file: Path) -> int:
    """Join the ranks, and write how fast they would train."""
    from train import rates

    ranks = join(config.watchdog_s)
    try:
        rates.write(config, make_recipe(), ranks, file)
    except BaseException:
        leave(failed=True)
        raise
    leave()
    return EXIT_DONE


@contextlib.contextmanager
def noted(run: Path, config: LoopConfig, ranks: Ranks) -> Iterator[None]:
    """Around training: rank 0 notes in the run folder that it starts, and the error that ends it.

    A start without an end was killed, or is at work: process and host tell which.
    """
    if ranks.rank:
        yield
        return
    newest = checkpoint.newest(run)
    facts = {"step": checkpoint.step_of(newest) if newest else 0, "world_size": ranks.world_size}
    command.note(run, "start", **facts, zero_stage=config.zero_stage, **command.process())
    try:
        yield
    except BaseException as error:
        why = {"kind": command.kind_of(error), "reason": command.one_line(error)}
        command.note(run, "end", code=command.code_of(error), **why)
        raise


def end_of_run(run: Path, ranks: Ranks, code: int) -> None:
    """Rank 0 notes in the run folder that training has ended, and why."""
    if ranks.rank == 0:
        reason = "done" if code == EXIT_DONE else f"stopped by {ranks.stop.received or 'a signal to another rank'}"
        command.note(run, "end", code=code, kind="done" if code == EXIT_DONE else "signal", reason=reason)
