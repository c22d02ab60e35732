"""The SyncNet recipe: its loss, its validation, its pictures and the facts beside the weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_pipeline.shards import reader
from mytalk import config, intervals
from mytalk.command import UserError
from mytalk.networks import syncnet, weights
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig, pair_loss

TINY = ROOT / "tests" / "helpers" / "tiny_syncnet.yaml"


@pytest.fixture(scope="module")
def recipe(talker_shards) -> SyncRecipe:
    return SyncRecipe(config.load(SyncTrainConfig, TINY, [f"shards={talker_shards}"]))


@pytest.mark.parametrize("min_shift", [1, 3])
def test_the_loss_is_a_softmax_over_the_own_and_the_far(min_shift):
    """Against loops: speech nearer than the shift is neither true nor false, padding is nothing at all."""
    random = np.random.default_rng(2)
    mouth, speech = random.standard_normal((2, 2, 9, 4))
    valid = np.ones((2, 9), bool)
    valid[1, 7:] = False
    scale = 3.0
    made = pair_loss(*(torch.from_numpy(a) for a in (mouth, speech, valid)), min_shift, scale)
    for b in range(2):
        n = int(valid[b].sum())
        terms = []
        for here, there in ((mouth[b], speech[b]), (speech[b], mouth[b])):
            for i in range(n):
                own = np.exp(scale * here[i] @ there[i])
                far = [np.exp(scale * here[i] @ there[j]) for j in range(n) if abs(i - j) >= min_shift]
                terms.append(-np.log(own / (own + sum(far))))
        assert made[b].item() == pytest.approx(np.mean(terms))


def test_false_pairs_are_shifted_by_the_least_shift_or_more():
    """What pushes a mouth away from a speech window: only windows 3 frames and more apart, on both sides."""
    mouth = torch.zeros(1, 9, 9, dtype=torch.float64)
    speech = torch.eye(9, dtype=torch.float64)[None].requires_grad_()
    mouth[0, 4] = 1.0
    (gradient,) = torch.autograd.grad(
        pair_loss(mouth, speech, torch.ones(1, 9, dtype=torch.bool), 3, 1.0).sum(), speech
    )
    of_mouth_4 = gradient[0].sum(1)
    assert (of_mouth_4 > 0).nonzero().flatten().tolist() == [0, 1, 7, 8]
    assert of_mouth_4[4] < 0


def test_a_stretch_without_a_window_costs_nothing():
    nothing = pair_loss(torch.randn(1, 6, 3), torch.randn(1, 6, 3), torch.zeros(1, 6, dtype=torch.bool), 3, 8.0)
    assert nothing.tolist() == [0.0]


def test_examples_do_not_touch_each_other(recipe):
    double = modules_of(recipe)["syncnet"].double()
    make, cpu = recipe.examples, torch.device("cpu")
    together = recipe.loss({"syncnet": double}, make([3, 4, 5]).to(cpu, torch.float64))
    for index in range(3):
        alone = recipe.loss({"syncnet": double}, make([3 + index]).to(cpu, torch.float64))
        torch.testing.assert_close(alone[0], together[index], rtol=1e-10, atol=0)


def test_two_way_accuracy_counts_all_choices():
    """Against loops, ties as half; 1 where each mouth has its own speech, 0.5 where all are one."""
    random = np.random.default_rng(3)
    mouth, speech = torch.from_numpy(random.integers(-1, 2, (2, 9, 3))).double()
    won = [
        (float(m @ speech[i]) > float(m @ speech[j])) + 0.5 * (float(m @ speech[i]) == float(m @ speech[j]))
        for i, m in enumerate(mouth)
        for j in range(9)
        if abs(i - j) >= 3
    ]
    assert syncnet.two_way_accuracy(mouth, speech, 3).item() == pytest.approx(np.mean(won))
    assert syncnet.two_way_accuracy(torch.eye(9), torch.eye(9), 3) == 1
    assert syncnet.two_way_accuracy(torch.ones(9, 2), torch.ones(9, 2), 3) == 0.5


def test_random_embeddings_are_reported_as_at_chance():
    random = torch.Generator().manual_seed(0)

    def drawn() -> torch.Tensor:
        return F.normalize(torch.randn(60, 8, generator=random), dim=-1)

    values = [syncnet.two_way_accuracy(drawn(), drawn(), 3).item() for _ in range(8)]
    above, words = intervals.proven(intervals.against_chance(values, 0.5))
    assert not above
    assert words.startswith("AT CHANCE: 0.")
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_the_exported_facts_say_whether_the_model_is_above_chance(recipe, tmp_path, capsys, monkeypatch):
    """A fresh model is exported, says that it is at chance, and loads as it was."""
    torch.manual_seed(0)  # one of those (nineteen in twenty) that are at chance
    model = modules_of(recipe)["syncnet"].eval()
    state = model.state_dict()
    validated = recipe.validate({"syncnet": model}, Ranks(0, 1, torch.device("cpu")))
    read = []
    monkeypatch.setattr(reader, "read_landmarks", lambda *asked: read.append(asked))
    recipe.export({"syncnet": state}, tmp_path, validated)
    assert not read, "what was measured is not measured again"
    above, words = weights.above_chance(tmp_path, "syncnet", syncnet.MEASURED)
    assert not above
    assert words.startswith("AT CHANCE: 0.")
    assert f"two-way accuracy {words}\n" in capsys.readouterr().out
    facts = json.loads((tmp_path / "config.json").read_text())["facts"]["validation"]
    assert facts[syncnet.MEASURED]["people"] == 2
    assert facts[syncnet.MEASURED]["mean"] == validated.scores[syncnet.MEASURED]
    assert sum(of_corpus["people"] for of_corpus in facts[syncnet.CORPORA].values()) == 2
    assert all(of_corpus["required"] == 0.75 for of_corpus in facts[syncnet.CORPORA].values())
    loaded = syncnet.load_model(tmp_path)
    assert loaded.config == recipe.settings.model
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in state.items())


def test_the_pictures_are_curves_over_offsets(recipe):
    (made,) = recipe.pictures(modules_of(recipe)).values()
    assert made.shape == (120, 512, 3)
    assert made.any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["frames=7"], "frames must be 8 or more for a false pair"),
        (["min_shift_frames=0"], "min_shift_frames must be 1"),
        (["scale=0"], "scale must be above 0"),
        (["voice_stretch=0.5"], "voice_stretch must lie"),
        (["model.window_frames=0"], "model.window_frames must be 1"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        config.load(SyncTrainConfig, TINY, settings)


def test_clips_too_short_to_validate_on_are_refused(talker_shards):
    with pytest.raises(UserError, match="no clip of split 'val' has 65 frames"):
        SyncRecipe(config.load(SyncTrainConfig, TINY, [f"shards={talker_shards}", "frames=80", "min_shift_frames=60"]))
