"""What `python -m train RECIPE` does with every recipe: its command line, and joining the ranks to train."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

from mytalk import command, settings
from mytalk.command import EXIT_DONE
from mytalk.machine import sole_user
from train import loop
from train.config import LoopConfig
from train.engine.distributed import join, leave
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
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that win over the file's")
    parser.epilog = f"{settings.help_text(schema)}\n{parser.epilog}"
    return parser


def start(config: LoopConfig, make_recipe: Callable[[], Recipe]) -> int:
    """What every recipe's command does: nothing if the model is there, else join the ranks and train.

    Raises UserError where the model that is there was trained with other settings or data.
    """
    run = Path(config.run)
    finished = resume.finished_run(run)
    if not config.shards_until:
        config.shards_until = resume.recorded(run).get("shards_until", 0)
    recipe = make_recipe()
    if finished["steps"] >= config.steps:
        resume.refuse_changes(recipe, config, finished["fixed"], config.accept_changes)
        print(f"{run} is already trained for {finished['steps']} steps; raise steps to go on")
        return EXIT_DONE
    ranks = join(config.watchdog_s)
    try:
        with ranks.stop, sole_user(run, "train") if ranks.rank == 0 else contextlib.nullcontext():
            seen = {"shards_until": config.shards_until, "newest": str(checkpoint.newest(run))}
            resume.agree({**resume.fixed(recipe, config), **seen}, ranks)
            code = loop.train(recipe, config, ranks)
    except BaseException:
        leave(failed=True)
        raise
    leave()
    return code
