"""DeepSpeed: its configuration, its shares of a tensor, and the optimizer that can skip a step."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.sample import batch_plan
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from train.config import LoopConfig
from train.engine import deepspeed_config, deepspeed_engine


@given(st.integers(0, 5000), st.integers(1, 40))
def test_shares_cover_a_tensor_exactly_and_evenly(numel, world_size):
    shares = [deepspeed_engine.share(numel, rank, world_size) for rank in range(world_size)]
    assert shares[0][0] == 0
    assert shares[-1][1] == numel
    assert all(stop == start for (_, stop), (start, _) in pairwise(shares))
    lengths = [stop - start for start, stop in shares]
    assert max(lengths) - min(lengths) <= 1


def test_guarded_adamw_skips_or_scales():
    """Skipping leaves weights and moments; a factor is as if the gradient had been smaller; 1 is plain AdamW."""

    def stepped(optimizer_class, gradient: float, **switches) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = optimizer_class([weight], lr=0.1, eps=1.0)
        for name, value in switches.items():
            setattr(optimizer, name, value)
        weight.grad = torch.full((3,), gradient)
        optimizer.step()
        return weight, optimizer

    plain, _ = stepped(torch.optim.AdamW, 2.0)
    assert torch.equal(stepped(deepspeed_engine.GuardedAdamW, 2.0)[0], plain)
    assert torch.equal(stepped(deepspeed_engine.GuardedAdamW, 8.0, factor=0.25)[0], plain)
    skipped, optimizer = stepped(deepspeed_engine.GuardedAdamW, math.nan, skip=True)
    assert torch.equal(skipped, torch.ones(3))
    assert not optimizer.state


def engine(**deepspeed) -> dict:
    """The DeepSpeed configuration of a run with raw keys."""
    config = LoopConfig(global_batch=24, max_micro_batch=5, zero_stage=2, deepspeed=deepspeed)
    return deepspeed_config.of(config, batch_plan.divide(24, 5, 2))


def test_engine_config_is_made_from_ours():
    made = engine()
    assert made["train_batch_size"] == 24
    assert made["train_micro_batch_size_per_gpu"] * made["gradient_accumulation_steps"] * 2 == 24
    assert made["zero_optimization"]["stage"] == 2
    assert made["gradient_clipping"] == 0.0


def test_raw_keys_are_added():
    made = engine(comms_logger={"enabled": True}, zero_optimization={"stage": 2, "reduce_bucket_size": 1000})
    assert made["comms_logger"] == {"enabled": True}
    assert made["zero_optimization"] == {**engine()["zero_optimization"], "reduce_bucket_size": 1000}
    assert "comms_logger" not in engine()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"train_batch_size": 25}, "deepspeed.train_batch_size"),
        ({"gradient_clipping": 1.0}, "deepspeed.gradient_clipping"),
        ({"zero_optimization": {"stage": 3}}, "deepspeed.zero_optimization.stage"),
        ({"zero_optimization": 3}, "deepspeed.zero_optimization"),
    ],
    ids=str,
)
def test_raw_keys_never_replace_ours(raw, said):
    with pytest.raises(UserError, match=f"{said} is made from our own keys"):
        engine(**raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"bf16": {"enabled": True}}, "deepspeed.bf16 is decided by precision="),
        ({"scheduler": {"type": "WarmupLR"}}, "deepspeed.scheduler is decided by optimizer.schedule="),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "deepspeed.zero_optimization.offload_optimizer is decided by offload_optimizer=",
        ),
    ],
    ids=str,
)
def test_raw_keys_never_decide_what_ours_decide(raw, said):
    with pytest.raises(UserError, match=said):
        engine(**raw)


def test_deepspeed_is_touched_in_one_file():
    inside = re.compile(r"^\s*(?:import|from) deepspeed|basic_optimizer|engine\.optimizer", re.MULTILINE)
    touching = {path.name for path in (ROOT / "train").rglob("*.py") if inside.search(path.read_text())}
    assert touching == {"deepspeed_engine.py"}
