"""Invariant 8: how a global batch is split changes no gradient."""

from __future__ import annotations

import pytest
import torch

from mytalk import config
from tests.conftest import ROOT
from train.motion import MotionRecipe, MotionTrainConfig

GLOBAL_BATCH = 8


def gradients(recipe, player: str, module: torch.nn.Module, parts: int) -> dict[str, torch.Tensor]:
    """Of the mean loss of slots 0 to 7, accumulated over `parts` equal micro-batches, in float64."""
    make, size = recipe.make_batch(), GLOBAL_BATCH // parts
    module.zero_grad()
    for first in range(0, GLOBAL_BATCH, size):
        batch = make(list(range(first, first + size))).to(torch.device("cpu"), torch.float64)
        (recipe.loss(player, {player: module}, batch).mean() / parts).backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters()}


@pytest.mark.parametrize("upper_face", ["pose", "landmarks"])
def test_invariant_8_motion_gradients_do_not_depend_on_the_split(talker_shards, upper_face):
    """Whole, in halves and in quarters; every weight is drawn anew, so that no gradient is zero by its start."""
    chosen = [f"shards={talker_shards}", f"model.upper_face={upper_face}"]
    recipe = MotionRecipe(config.load(MotionTrainConfig, ROOT / "tests" / "tiny_motion.yaml", chosen))
    random = torch.Generator().manual_seed(0)
    for player, module in recipe.modules().items():
        module.double()
        with torch.no_grad():
            for weight in module.parameters():
                drawn = torch.randn(weight.shape, dtype=torch.float64, generator=random)
                weight.copy_(drawn / weight[0].numel() ** 0.5 if weight.dim() > 1 else 0.7 + 0.3 * drawn)
        whole = gradients(recipe, player, module, 1)
        for name, gradient in whole.items():
            assert gradient.norm() > 1e-8, f"{name} learns"
        for parts in (2, 4):
            for name, gradient in gradients(recipe, player, module, parts).items():
                distance = (gradient - whole[name]).norm() / whole[name].norm()
                assert distance < 1e-9, f"{name} in {parts} parts: {distance:.1e}"
