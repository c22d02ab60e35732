"""Clipping, and whose turn it is to learn."""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.engine import train_state


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_clip_factor_brings_the_norm_to_the_limit_and_lets_small_ones_be(norm, limit):
    clipped = norm * train_state.clip_factor(norm, limit)
    assert clipped == pytest.approx(min(norm, limit), rel=2e-3)
    assert clipped <= limit * (1 + 1e-9)


def test_clip_factor_without_a_limit_or_a_number():
    assert train_state.clip_factor(1e9, 0) == 1.0
    assert train_state.clip_factor(math.nan, 1.0) == 1.0
    assert train_state.clip_factor(math.inf, 1.0) == 1.0
    assert train_state.clip_factor(0.0, 1.0) == 1.0


def game() -> SimpleNamespace:
    """As much of a TrainState of two players as a turn looks at; the critic has a frozen bias."""
    engines = {name: SimpleNamespace(module=torch.nn.Linear(3, 1)) for name in ("painter", "critic")}
    engines["critic"].module.bias.requires_grad_(False)
    cpu = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(engines=engines, config=SimpleNamespace(precision="fp32"), ranks=cpu)


def test_while_a_player_learns_the_others_stand_still():
    """Their weights take no gradient, the gradient passes through them, and all is as before, after an error too."""
    playing = game()
    painter, critic = (engine.module for engine in playing.engines.values())
    with train_state.TrainState.turn(playing, "painter"):
        critic(painter(torch.ones(2, 3)).expand(2, 3)).sum().backward()
    assert all(weight.grad is None for weight in critic.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in painter.parameters())
    with contextlib.suppress(ZeroDivisionError), train_state.TrainState.turn(playing, "critic"):
        assert not any(weight.requires_grad for weight in painter.parameters())
        raise ZeroDivisionError
    learns = {name: weight.requires_grad for name, weight in critic.named_parameters()}
    assert all(weight.requires_grad for weight in painter.parameters())
    assert learns == {"weight": True, "bias": False}, "what is frozen stays frozen"


def test_a_players_loss_calls_its_own_engine_and_the_others_bare():
    playing = game()
    with train_state.TrainState.turn(playing, "painter") as networks:
        assert networks == {"painter": playing.engines["painter"], "critic": playing.engines["critic"].module}
