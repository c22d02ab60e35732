"""What `launch preflight` has a training measure (train/rates.py). A real one: tests/launch/test_preflight.py, full."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train import rates
from train.recipe import Loss


class Clock:
    """A clock that goes on only where it is told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(rates.time, "perf_counter", lambda: self.now)

    def batches(self, seconds: float, first: float = 50.0):
        """Batches of 4 examples, the first of which takes longer."""
        self.now += first
        while True:
            self.now += seconds
            yield SimpleNamespace(slots_B=torch.zeros(4))


def test_a_loader_is_timed_without_its_start(monkeypatch):
    rate, _ = rates.loading(Clock(monkeypatch).batches(0.5), workers=2)
    assert rate == pytest.approx(8.0)


def test_a_step_is_timed_once_it_is_warm_and_all_ranks_take_as_many(monkeypatch):
    clock, taken = Clock(monkeypatch), []

    def accumulate(state, batches, accumulation, step):
        clock.now += 1.0 if step >= rates.WARM_STEPS else 30.0
        return SimpleNamespace(losses={}, wait_s=0.25 if step >= rates.WARM_STEPS else 20.0)

    def added(numbers):
        taken.append(numbers["over"])
        return {"over": len(taken) == 14}  # of any rank

    monkeypatch.setattr(rates, "accumulate", accumulate)
    nothing = SimpleNamespace(begin=lambda _: {}, message=lambda _: {}, update=lambda *_: None)
    state = SimpleNamespace(**vars(nothing), ranks=SimpleNamespace(sum=added))
    found = rates.stepping(state, iter(()), 1)
    assert found == {"steps": 12, "step_s": pytest.approx(1.0), "wait_s": pytest.approx(0.25)}
    assert taken.index(True) == rates.WARM_STEPS + rates.STEPS_S, "this one would have stopped earlier"


def test_every_player_goes_forward_and_back_and_leaves_nothing():
    pair, seen = {"one": nn.Linear(2, 1), "other": nn.Linear(2, 1)}, []

    def player(name: str):
        def loss_of(networks, batch, outputs):
            frozen = {n: not next(networks[n].parameters()).requires_grad for n in networks}
            seen.append((name, frozen, [*outputs]))
            total_B = networks[name](batch).mean(1)
            total_B.register_hook(lambda gradient: seen.append(gradient.sum().item()))
            return Loss(total_B, {}, output=name)

        return SimpleNamespace(module=pair[name], loss_of=loss_of)

    rates.forward_and_back({name: player(name) for name in pair}, torch.ones(3, 2), "fp32", torch.device("cpu"))
    assert seen == [
        ("one", {"one": False, "other": True}, []),
        pytest.approx(1.0),
        ("other", {"one": True, "other": False}, ["one"]),
        pytest.approx(1.0),
    ]
    weights = [weight for network in pair.values() for weight in network.parameters()]
    assert all(weight.requires_grad and weight.grad is None for weight in weights)
