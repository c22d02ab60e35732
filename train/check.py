"""`python -m train check`: whether the settings of several trainings hold, before the first of them begins."""

from __future__ import annotations

import argparse
import importlib
import shlex

from data_pipeline.examples import RECIPES
from mytalk import command
from mytalk.command import EXIT_DONE, UserError


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train check`."""
    parser = command.parser(
        "python -m train check",
        "Train nothing and read no shard: say which of several trainings cannot begin, for a setting, or for a\n"
        "package or weights that are not installed. `launch pipeline` asks before it extracts.",
        "python -m train check 'identity --config configs/paper/identity.yaml' 'appearance losses.perceptual=1'",
    )
    parser.add_argument("trainings", nargs="+", metavar="'RECIPE ...'", help="what follows `train`, each as one word")
    return parser


def run(args: argparse.Namespace) -> int:
    """Resolve all settings; raises UserError for the first training whose are refused."""
    for training in args.trainings:
        recipe, *words = shlex.split(training)
        if recipe not in RECIPES:
            raise UserError(f"no recipe '{recipe}'; there are: {', '.join(RECIPES)}")
        module = importlib.import_module(f"train.recipes.{recipe}")
        try:
            module.run(module.arguments().parse_args([*words, "--check"]))
        except UserError as error:
            raise UserError(f"train {recipe}: {error}") from None
    return EXIT_DONE
