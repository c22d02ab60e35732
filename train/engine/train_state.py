"""What training changes: every player's weights, moments and EMA, the loss scale, the count of skipped steps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data_pipeline.sample.batch_plan import Batching
from train.config import MOST_LOSS_SCALE, RECENT_STEPS, LoopConfig
from train.engine import deepspeed_engine
from train.engine.distributed import Ranks
from train.recipe import Player
from train.run_folder.checkpoint import KINDS, Checkpoint, Piece


@dataclass
class LossScale:
    """What losses are multiplied with, so that fp16 gradients do not vanish; 1 for good in other precisions.

    Halved where a gradient overflows, doubled after `patience` steps without (Micikevicius et al. 2018, Sec. 3.2).
    """

    value: float = 1.0
    patience: int = 0  # 0: it never changes
    good: int = 0  # steps since it last changed

    def after(self, overflowed: bool) -> None:
        """Note how a step went."""
        if not self.patience:
            return
        self.good = 0 if overflowed else self.good + 1
        if overflowed:
            self.value = max(1.0, self.value / 2)
        elif self.good == self.patience:
            self.value, self.good = min(MOST_LOSS_SCALE, 2 * self.value), 0


@dataclass(frozen=True)
class Outcome:
    """How a step went, the same on all ranks. Losses and gradient norms by player, as they are without a scale."""

    losses: dict[str, float]
    terms: dict[str, float]  # of the losses, by player/term
    norms: dict[str, float]
    skipped: str  # empty: it was taken. overflow: fp16 gradients were too large for the loss scale. non-finite


class TrainState:
    """The players' engines, each rank's fp32 fragments of them, and their EMA."""

    def __init__(self, players: dict[str, Player], config: LoopConfig, batching: Batching, ranks: Ranks):
        self.players, self.config, self.ranks, self.batching = players, config, ranks, batching
        self.shapes = {p: {n: tuple(w.shape) for n, w in learnt(one.module).items()} for p, one in players.items()}
        self.engines = {
            p: deepspeed_engine.make_engine(one.module, one.optimizer, config, batching, ranks.device)
            for p, one in players.items()
        }
        self.fragments = {p: list(deepspeed_engine.fragments(engine)) for p, engine in self.engines.items()}
        self.emas = {p: [f.weight.clone() for f in owned] for p, owned in self.fragments.items()}
        scaled = config.precision == "fp16"
        self.scale = LossScale(config.loss_scale, config.loss_scale_steps) if scaled else LossScale()
        self.step = self.skipped = 0
        self.not_finite: list[int] = []  # steps of the last `RECENT_STEPS`

    def restore(self, resumed: Checkpoint) -> None:
        """Take moments, EMA and counters of a checkpoint; the weights went into the modules before the engines."""
        for player, owned in self.fragments.items():

            def stretch(kind: str, name: str, start: int, stop: int, player: str = player) -> torch.Tensor:
                return resumed.stretch(player, kind, name, start, stop)

            def of_all(kind: str, name: str, start: int, stop: int, stretch: Any = stretch) -> torch.Tensor:
                first = self.ranks.rank == 0  # it has opened all files already
                return self.ranks.from_first(stretch(kind, name, start, stop) if first else torch.empty(stop - start))

            moments, steps = of_all if self.config.zero_stage == 0 else stretch, resumed.facts["adam_steps"][player]
            deepspeed_engine.load_moments(self.engines[player], owned, moments, steps)
            for piece, average in zip(owned, self.emas[player]):
                average.copy_(stretch("ema", piece.name, piece.start, piece.stop))
        self.skipped = resumed.facts.get("skipped", 0)
        self.not_finite = resumed.facts.get("not_finite", [])
        if self.scale.patience and "loss_scale" in resumed.facts:
            self.scale.value, self.scale.good = resumed.facts["loss_scale"]

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds besides the tensors."""
        kept = {"loss_scale": [self.scale.value, self.scale.good]} if self.scale.patience else {}
        return {
            "adam_steps": {player: deepspeed_engine.adam_steps(engine) for player, engine in self.engines.items()},
            "shapes": {p: {n: list(shape) for n, shape in named.items()} for p, named in self.shapes.items()},
            "skipped": self.skipped,
            "not_finite": self.not_finite,
            **kept,
        }

    def pieces(self) -> list[Piece]:
        """This rank's share of a checkpoint: views that stay valid over the run, under their names in the file."""
        return [
            (f"{player}/{kind}/{f.name}@{f.start}", average if kind == "ema" else getattr(f, kind))
            for player, owned in self.fragments.items()
            for kind in KINDS
            for f, average in zip(owned, self.emas[player])
        ]

    def begin(self, step: int) -> dict[str, float]:
        """Prepare a step; returns the learning rate of every player."""
        self.step = step
        rates = {p: one.optimizer.lr_at(step, self.config.steps) for p, one in self.players.items()}
        for player, engine in self.engines.items():
            engine.train()
            deepspeed_engine.set_lr(engine, rates[player])
        return rates

    @contextlib.contextmanager
    def turn(self, player: str) -> Iterator[dict[str, Any]]:
        """While a player's loss is computed: what it may call, in the run's precision; the others' weights are frozen.

        It calls its own engine, and the others' bare modules: DeepSpeed hooks the outputs of an engine for that
        engine's own backward, so that another player's loss could not pass through.
        """
        others = [engine.module for name, engine in self.engines.items() if name != player]
        frozen = [weight for module in others for weight in learnt(module).values()]
        dtype = deepspeed_engine.AUTOCAST[self.config.precision]
        for weight in frozen:
            weight.requires_grad_(False)
        try:
            with torch.autocast(self.ranks.device.type, dtype, enabled=dtype != torch.float32):
                yield {name: engine if name == player else engine.module for name, engine in self.engines.items()}
        finally:
            for weight in frozen:
                weight.requires_grad_(True)

    def backward(self, player: str, loss_B: torch.Tensor, last: bool) -> None:
        """Add the gradient of a micro-batch's losses. After the `last` one, `update` must come.

        DeepSpeed divides by accumulation and world size. Micro-batches may differ in size; all examples count alike.
        """
        engine = self.engines[player]
        self.ranks.watchdog.alive(
            f"going back through {player} in step {self.step + 1}, where ranks wait for each other"
        )
        engine.backward(loss_B.sum() / self.batching.micro_batch * self.scale.value)
        if not last:
            engine.step()

    def message(self, totals: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """This rank's part of the step's message: sums of losses, and of squares of its share of the gradients.

        `totals` are by player, and by player/term.
        """
        squares = {f"square/{p}": deepspeed_engine.gradient_square_sum(engine) for p, engine in self.engines.items()}
        return {**{f"loss/{p}": total for p, total in totals.items()}, **squares}

    def update(self, step: int, total: dict[str, float]) -> Outcome:
        """Take the step, or skip it where any loss or gradient of any player on any rank is not finite.

        All players are skipped alike: a generator that learns while its discriminator does not changes the game.
        """
        means = {
            name.removeprefix("loss/"): loss_sum / self.config.global_batch
            for name, loss_sum in total.items()
            if name.startswith("loss/")
        }
        losses = {player: means.pop(player) for player in self.engines}
        norms = {p: math.sqrt(total[f"square/{p}"]) / self.scale.value for p in self.engines}
        skipped = ""
        if not all(map(math.isfinite, (*losses.values(), *norms.values()))):
            overflow = self.scale.value > 1 and all(map(math.isfinite, losses.values()))
            skipped = "overflow" if overflow else "non-finite"
        for player, engine in self.engines.items():
            limit = self.players[player].optimizer.clip_norm
            deepspeed_engine.step(engine, clip_factor(norms[player], limit) / self.scale.value, skip=bool(skipped))
        if not skipped:
            decay = min(self.config.ema_decay, (1 + step) / (10 + step))
            for player, owned in self.fragments.items():
                deepspeed_engine.average(self.emas[player], owned, decay)
        self.skipped += bool(skipped)
        self.not_finite = [earlier for earlier in self.not_finite if earlier > step - RECENT_STEPS]
        if skipped == "non-finite":
            self.not_finite.append(step)
        else:
            self.scale.after(skipped == "overflow")
        return Outcome(losses, means, norms, skipped)

    def put_averages(self, modules: Mapping[str, nn.Module]) -> None:
        """Copy every player's EMA weights, whole, into a network of each rank. All ranks call it."""
        for player, owned in self.fragments.items():
            pieces = [(f.name, f.start, average) for f, average in zip(owned, self.emas[player])]
            put(modules[player], deepspeed_engine.gather(pieces, self.shapes[player], self.ranks.device))


def learnt(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a network that training changes, by name; frozen ones are left out."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


@torch.no_grad()
def put(module: nn.Module, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Copy weights by name into the network's own of the same names and shapes."""
    named = dict(module.named_parameters())
    for name, values in weights:
        named[name].copy_(values)


def clip_factor(norm: float, limit: float) -> float:
    """What the gradient is multiplied with so that its global norm is at most `limit` (0: no limit)."""
    return min(1.0, limit / (norm + 1e-6)) if limit and math.isfinite(norm) else 1.0
