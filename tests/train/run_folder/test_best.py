"""Which validation is the best, for how long none was, and what a checkpoint says of it."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mytalk.command import UserError
from tests.helpers.train_matrix import RECIPES
from train.config import LoopConfig
from train.recipe import BETTER
from train.run_folder import checkpoint
from train.run_folder.best import Best

RECIPE = SimpleNamespace(
    name="one", scores={"loss": "lower", "accuracy": "higher"}, scored_by=("validation_split", "seed")
)
VALUES = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8)


def of(score: str, values: list[float]) -> Best:
    best = Best.of(RECIPE, LoopConfig(keep_best=score), {})
    for step, value in enumerate(values, 1):
        best.add(10 * step, {score: value})
    return best


@given(st.sampled_from(["loss", "accuracy"]), VALUES)
def test_the_best_is_the_first_of_the_best_finite_scores(score, values):
    finite = [value for value in values if math.isfinite(value)]
    best = of(score, values)
    if not finite:
        assert best.step is None
    else:
        wanted = min(finite) if score == "loss" else max(finite)
        assert best.step == 10 * (1 + values.index(wanted))


@given(st.sampled_from(["loss", "accuracy"]), VALUES, st.integers(0, 5))
def test_what_a_checkpoint_holds_brings_it_back(score, values, patience):
    """Through JSON, scores that are not finite too."""
    best = of(score, values)
    facts = json.loads(json.dumps(best.facts(), allow_nan=False))
    again = Best.of(RECIPE, LoopConfig(keep_best=score), facts)
    assert again.step == best.step
    assert again.exhausted(patience) == best.exhausted(patience)
    assert again.facts() == best.facts()


def test_patience_counts_validations_since_the_best():
    assert [of("loss", [3.0, 2.0, 2.0, 2.5][:count]).exhausted(2) for count in range(5)] == [False] * 4 + [True]
    assert not of("loss", [1.0] * 9).exhausted(0)


def test_a_step_whose_checkpoint_was_not_written_is_not_chosen():
    best = of("accuracy", [0.2, 0.9, 0.5])
    best.forget(20)
    assert best.step == 30


def test_another_score_begins_anew_and_an_unknown_one_is_refused():
    facts = of("loss", [1.0]).facts()
    assert Best.of(RECIPE, LoopConfig(keep_best="accuracy"), facts).values == {}
    assert Best.of(RECIPE, LoopConfig(), facts).facts() == {}
    with pytest.raises(UserError, match="loss, accuracy"):
        Best.of(RECIPE, LoopConfig(keep_best="beauty"), {})


@pytest.mark.parametrize("other", [{"validation_split": "dev"}, {"seed": 7}])
def test_scores_of_other_people_or_settings_are_not_compared(other):
    facts = of("loss", [1.0]).facts()
    assert Best.of(RECIPE, LoopConfig(keep_best="loss"), facts).values == {10: 1.0}
    assert Best.of(RECIPE, LoopConfig(keep_best="loss", **other), facts).values == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patience": 1}, "patience needs keep_best"),
        ({"keep_best": "loss", "validation_split": "unseen"}, "who are scored"),
        ({"keep_best": "loss", "validation_split": "train"}, "who are learnt"),
    ],
)
def test_who_chooses_neither_learns_nor_scores(settings, said):
    with pytest.raises(ValueError, match=said):
        LoopConfig(**settings)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_scores(name):
    assert RECIPES[name][1].scores
    assert set(RECIPES[name][1].scores.values()) <= set(BETTER)


@pytest.mark.parametrize(("keep_last", "left"), [(1, [2, 6]), (2, [1, 2, 5, 6]), (3, [1, 2, 4, 5, 6])])
def test_the_best_that_a_kept_checkpoint_names_is_kept(tmp_path, keep_last, left):
    """The one before the newest, to which a user may have to return, names another best."""
    for step, best in ((1, None), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2)):
        folder = tmp_path / "checkpoints" / checkpoint.folder_name(step)
        folder.mkdir(parents=True)
        facts = {"format": checkpoint.FORMAT, "step": step, "best": {"step": best}}
        (folder / checkpoint.FACTS).write_text(json.dumps(facts))
    checkpoint.prune(tmp_path, keep_last, 0)
    assert [checkpoint.step_of(path) for path in checkpoint.complete(tmp_path)] == left
