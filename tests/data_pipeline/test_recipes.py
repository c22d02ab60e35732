"""One list of recipes, which every command reads or repeats."""

from __future__ import annotations

import importlib

import pytest

from data_pipeline.examples import RECIPES
from data_pipeline.examples.windows import PLANNED
from launch import commands
from tests.helpers import train_matrix
from train.__main__ import COMMANDS


def test_train_pipeline_and_test_matrix_know_the_recipes_of_the_list():
    """`launch` imports nothing of ours, so it repeats the names, in the order of the list; no demo needs the others.

    `distil` goes on from a motion model, and is tested beside the matrix (tests/train/recipes).
    """
    assert list(COMMANDS) == [*RECIPES, "check"]
    assert list(commands.RECIPES) == [name for name in RECIPES if name not in ("distil", "reader")]
    assert {*train_matrix.RECIPES, "distil"} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_the_list_can_be_planned_and_trained(name):
    assert callable(PLANNED[name])
    trained = importlib.import_module(f"train.recipes.{name}")
    assert callable(trained.arguments)
    assert callable(trained.run)
