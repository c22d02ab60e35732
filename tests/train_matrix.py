"""Trains a list of runs one after another in this process group: one start of DeepSpeed serves a whole matrix.

    torchrun --nproc-per-node 2 -m tests.train_matrix JOBS.json

JOBS.json is a list of [recipe, config file, [settings]]. Each run leaves its folder as usual.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from mytalk import config
from train import loop, ranks
from train.appearance import AppearanceRecipe, AppearanceTrainConfig
from train.identity import IdentityRecipe, IdentityTrainConfig
from train.motion import MotionRecipe, MotionTrainConfig
from train.recipe import Recipe
from train.syncnet import SyncRecipe, SyncTrainConfig

POISONED_SLOT = 3 * 8 + 5  # step 3 of runs with a global batch of 8; one rank alone holds it


class PoisonedMotion(MotionRecipe):
    """The motion recipe with a gradient that is not a number in one example."""

    def loss(self, networks, batch):
        loss_B = super().loss(networks, batch)
        return loss_B * torch.where(batch.slots_B == POISONED_SLOT, torch.nan, 1.0)


RECIPES = {
    "identity": (IdentityTrainConfig, IdentityRecipe),
    "syncnet": (SyncTrainConfig, SyncRecipe),
    "motion": (MotionTrainConfig, MotionRecipe),
    "appearance": (AppearanceTrainConfig, AppearanceRecipe),
    "poisoned": (MotionTrainConfig, PoisonedMotion),
}


def modules_of(recipe: Recipe) -> dict[str, torch.nn.Module]:
    """The networks of a recipe's players, freshly initialised."""
    return {name: player.module for name, player in recipe.players().items()}


def main(jobs: str) -> None:
    joined = ranks.join()
    try:
        for name, file, settings in json.loads(Path(jobs).read_text()):
            schema, recipe = RECIPES[name]
            made = config.load(schema, file, settings)
            code = loop.train(recipe(made), made, joined)
            assert code == 0, f"{settings} ended with {code}"
    finally:
        ranks.leave()


if __name__ == "__main__":
    main(sys.argv[1])
