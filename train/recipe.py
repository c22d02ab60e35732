"""What a model brings to the loop: players, and what to validate, draw and export. A whole one: docs/training.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from train.config import OptimizerConfig
from train.engine.distributed import Ranks

Networks = Mapping[str, Callable[..., Any]]  # every player's network by name, to be called


@dataclass(frozen=True)
class Player:
    """A network that learns by a loss of its own.

    `loss(networks, batch)` returns the loss of each example, (B,), and never their mean. The other players' networks
    are there to be called; their weights take no gradient meanwhile.
    """

    module: nn.Module  # freshly initialised; DeepSpeed takes no weights without a dimension
    optimizer: OptimizerConfig
    loss: Callable[[Networks, Any], torch.Tensor]


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
