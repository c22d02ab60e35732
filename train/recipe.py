"""What a model brings to the loop: players, and what to validate, draw and export. A whole one: docs/training.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from train.config import OptimizerConfig
from train.engine.distributed import Ranks

Networks = Mapping[str, Callable[..., Any]]  # every player's network by name, to be called


@dataclass(frozen=True)
class Loss:
    """The loss of each example, and the parts of it that are worth a curve.

    `terms` are logged, as means over the global batch under `loss/PLAYER/TERM`, and never trained on: only `total_B`
    is. Every rank gives the same names in a step.
    """

    total_B: torch.Tensor
    terms: Mapping[str, torch.Tensor] = field(default_factory=dict)  # name -> (B,)

    @classmethod
    def of(cls, value: torch.Tensor | Loss) -> Loss:
        """What a recipe's loss returned, with no terms where it returned a tensor."""
        return value if isinstance(value, Loss) else cls(value)


@dataclass(frozen=True)
class Player:
    """A network that learns by its own loss.

    `loss(networks, batch)` returns the loss of each example, (B,), and never their mean; or a `Loss`, with named terms.
    The other players' networks are there to be called; their weights take no gradient meanwhile.
    """

    module: nn.Module  # freshly initialised; DeepSpeed takes no weights without a dimension
    optimizer: OptimizerConfig
    loss: Callable[[Networks, Any], torch.Tensor | Loss]


class Recipe:
    """The methods that the loop calls. Those with a body here may be left out."""

    name: str
    examples: Any  # a data_pipeline.sample.batches.Examples: slots -> batch, of the train split; picklable.

    def players(self) -> dict[str, Player]:
        """By name, in the order in which they take their turn in each micro-batch."""
        raise NotImplementedError

    def fixed(self) -> dict[str, Any]:
        """What a resumed run may not change beside the selection: how examples are made, losses, networks' sizes."""
        raise NotImplementedError

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        """Scores on people who are not trained on, of the EMA weights. All ranks call it and get the same answer.

        The last call before `export` is in the same process, of the weights that are exported.
        """
        raise NotImplementedError

    def at_chance(self) -> str:
        """In words, what the last `validate` found to be no better than chance; empty: nothing."""
        return ""

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Pictures of people who are not trained on, (H, W, 3) uint8. Rank 0 calls it."""
        return {}

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
        """Write the trained networks (EMA weights, whole, fp32) for `mytalk` to use. Rank 0 calls it."""
        raise NotImplementedError
