"""What a model brings to the loop: players, and what to validate, draw and export. A whole one: docs/training.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from train.config import OptimizerConfig
from train.engine.distributed import Ranks

Networks = Mapping[str, Callable[..., Any]]  # every player's network by name, to be called
BETTER = ("higher", "lower")


@dataclass(frozen=True)
class Loss:
    """The loss of each example, and the parts of it that are worth a curve.

    `terms` are logged, as means over the global batch under `loss/PLAYER/TERM`, and never trained on: only `total_B`
    is. Every rank gives the same names in a step. `output` is for the loss of a player that comes `after` this one.
    """

    total_B: torch.Tensor
    terms: Mapping[str, torch.Tensor] = field(default_factory=dict)  # name -> (B,)
    output: Any = None


@dataclass(frozen=True)
class Player:
    """A network that learns by its own loss.

    `loss(networks, batch)` returns the loss of each example, (B,), and never their mean; or a `Loss`, with named terms.
    The other players' networks are there to be called; their weights take no gradient meanwhile. `after` names an
    earlier player: the output of its loss, on the same batch, is the third argument of this one's loss.
    """

    module: nn.Module  # freshly initialised; DeepSpeed takes no weights without a dimension
    optimizer: OptimizerConfig
    loss: Callable[..., torch.Tensor | Loss]
    after: str = ""

    def loss_of(self, networks: Networks, batch: Any, outputs: Mapping[str, Any]) -> Loss:
        """The loss of a batch, given the outputs of the players before this one."""
        earlier = (outputs[self.after],) if self.after else ()
        loss = self.loss(networks, batch, *earlier)
        return loss if isinstance(loss, Loss) else Loss(loss)


@dataclass(frozen=True)
class Validated:
    """What validation found of the EMA weights."""

    scores: dict[str, float]  # each becomes a curve
    at_chance: str = ""  # in words, a score that is no better than chance; empty: there is none
    facts: Mapping[str, Any] = field(default_factory=dict)  # what `export` writes beside the weights

    @classmethod
    def of(cls, value: dict[str, float] | Validated) -> Validated:
        return value if isinstance(value, Validated) else cls(value)


def but(usual: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those of their usual value, for `fixed`: what came later is not named where runs begun before
    had it so, and these resume.
    """
    return {name: value for name, value in settings.items() if name not in usual or value != usual[name]}


class Recipe:
    """The methods that the loop calls. Those with a body here may be left out."""

    name: str
    examples: Any  # a data_pipeline.sample.batches.Examples: slots -> batch, of the train split; picklable.
    scores: Mapping[str, str] = MappingProxyType({})  # of `validate`, that `keep_best` may name -> higher or lower
    scored_by: tuple[str, ...] = ("validation_split",)  # settings without which two of those scores cannot be compared

    def players(self) -> dict[str, Player]:
        """By name, in the order in which they take their turn in each micro-batch."""
        raise NotImplementedError

    def fixed(self) -> dict[str, Any]:
        """What a resumed run may not change beside the selection: how examples are made, losses, networks' sizes."""
        raise NotImplementedError

    def teachers(self) -> dict[str, str]:
        """Trained models that condition this one or teach it, name -> folder: whom they were trained on, it was too."""
        return {}

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float] | Validated:
        """Scores of the EMA weights, on people who are not trained on. All ranks call it and get the same answer."""
        raise NotImplementedError

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Pictures of people who are not trained on, (H, W, 3) uint8. Rank 0 calls it."""
        return {}

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        """Write the trained networks (EMA weights, whole, fp32) for `mytalk` to use. Rank 0 calls it.

        `validated` is what `validate` found of these weights.
        """
        raise NotImplementedError
