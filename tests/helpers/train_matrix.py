"""Trains a list of runs one after another in this process group: one start of DeepSpeed serves a whole matrix.

    torchrun --nproc-per-node 2 -m tests.helpers.train_matrix JOBS.json

JOBS.json is a list of [recipe, config file, [settings], words of `main`...]. Each run leaves its folder as usual.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from mytalk import config
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, EXIT_RUN_AGAIN, UserError, end
from tests.helpers.odd_recipe import OddConfig, OddRecipe, failing_disk
from train import loop
from train.engine import distributed
from train.engine.distributed import Ranks
from train.recipe import Loss, Recipe
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig
from train.recipes.distil import DistilRecipe, DistilTrainConfig
from train.recipes.identity import IdentityRecipe, IdentityTrainConfig
from train.recipes.motion import MotionRecipe, MotionTrainConfig
from train.recipes.reader import ReaderRecipe, ReaderTrainConfig
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig

POISONED_SLOT = 3 * 8 + 5  # step 3 of runs with a global batch of 8; one rank alone holds it


def poisoned(loss_B: torch.Tensor, slots_B: torch.Tensor) -> torch.Tensor:
    """The losses, with one that is not a number, nor its gradient."""
    return loss_B * torch.where(slots_B == POISONED_SLOT, torch.nan, 1.0)


class PoisonedMotion(MotionRecipe):
    """The motion recipe, one example of it poisoned."""

    def loss(self, networks, batch):
        loss = super().loss(networks, batch)
        return Loss(poisoned(loss.total_B, batch.slots_B), loss.terms)


class PoisonedCritic(AppearanceRecipe):
    """The GAN, one example of its discriminator's alone poisoned."""

    def players(self):
        players = super().players()
        judge = players["discriminator"]

        def loss(networks, batch, painted):
            found = judge.loss(networks, batch, painted)
            return Loss(poisoned(found.total_B, batch.slots_B), found.terms)

        return {**players, "discriminator": replace(judge, loss=loss)}


RECIPES = {
    "identity": (IdentityTrainConfig, IdentityRecipe),
    "syncnet": (SyncTrainConfig, SyncRecipe),
    "motion": (MotionTrainConfig, MotionRecipe),
    "reader": (ReaderTrainConfig, ReaderRecipe),
    "appearance": (AppearanceTrainConfig, AppearanceRecipe),
}
OF_TESTS = {
    "distil": (DistilTrainConfig, DistilRecipe),
    "poisoned": (MotionTrainConfig, PoisonedMotion),
    "poisoned-critic": (AppearanceTrainConfig, PoisonedCritic),
    "odd": (OddConfig, OddRecipe),
}


def modules_of(recipe: Recipe) -> dict[str, torch.nn.Module]:
    """The networks of a recipe's players, freshly initialised."""
    return {name: player.module for name, player in recipe.players().items()}


def run(name: str, file: str, settings: list[str], joined: Ranks) -> int:
    """Train one job; its exit code."""
    schema, recipe = {**RECIPES, **OF_TESTS}[name]
    made = config.load(schema, file or None, settings)
    if not isinstance(made, OddConfig):
        return loop.train(recipe(made), made, joined)
    undo = failing_disk(made)
    try:
        return loop.train(OddRecipe(made, joined), made, joined)
    finally:
        undo()


def main(jobs: str) -> int:
    """Run the jobs, each of which must end with 0, or with 75 where a fourth word says `stops`.

    The word `told` has every rank told to stop before the run begins, `fails` expects an error that a user can mend.
    """
    joined = distributed.join()
    try:
        for name, file, settings, *words in json.loads(Path(jobs).read_text()):
            joined.stop.received = "SIGTERM" if "told" in words else None
            try:
                code = run(name, file, settings, joined)
            except UserError as error:
                print(f"failed: {error}", flush=True)
                code = EXIT_NOT_DONE
            expected = EXIT_NOT_DONE if "fails" in words else EXIT_DONE
            expected = EXIT_RUN_AGAIN if {"stops", "told"} & {*words} else expected
            assert code == expected, f"{settings} ended with {code}"
    finally:
        distributed.leave()
    return 0


if __name__ == "__main__":
    end(main(sys.argv[1]))
