"""A recipe for tests of the loop: a small network of odd sizes, whose steps can be made to fail.

No tensor can be shared evenly by two ranks, and with weight decay there are two groups of parameters.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from data_pipeline.examples.syncnet import SyncBatch, SyncExamples
from mytalk.face.landmarks import INNER_LIP
from mytalk.networks import weights
from train import validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Loss, Networks, Player, Recipe, Validated
from train.run_folder import checkpoint

FRAMES = 20
GAP_STEP = 2  # whose term "gap" is not finite on rank 0


@dataclass
class OddConfig(LoopConfig):
    """A run of a few steps, and what befalls it: `step/rank`, counted from 1 and 0; -1 is every rank."""

    steps: int = 6
    global_batch: int = 8
    max_micro_batch: int = 2
    workers: int = 0
    seed: int = 3
    checkpoint_every: int = 3
    validate_every: int = 4
    ema_decay: float = 0.9
    poisoned: dict[str, str] = field(default_factory=dict)  # step/rank -> loss | gradient, not finite
    hangs: str = ""  # step/rank
    signalled: str = ""  # step/rank that is told to stop while it computes; "validation" while it validates
    unwritten: str = ""  # step/rank whose disk is full when it writes its checkpoint
    slow_write_s: float = 0.0  # what each rank's write takes longer


class Odd(nn.Module):
    """Opening of the lips, from the loudness around it: (B, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 13), nn.GELU())
        self.out = nn.Linear(13, 1)
        self.gain = nn.Parameter(torch.ones(1))
        self.frozen = nn.Parameter(torch.full((3,), 2.0), requires_grad=False)

    def forward(self, loudness_BT5: torch.Tensor) -> torch.Tensor:
        return self.gain * self.out(self.layers(loudness_BT5 * self.frozen[0]))[..., 0]


class Poison(torch.autograd.Function):
    """The identity, whose gradient is not a number."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.nan


def meant(place: str, step: int, rank: int) -> bool:
    """Whether `step/rank` names this step of this rank."""
    return place in (f"{step}/{rank}", f"{step}/-1")


class OddRecipe(Recipe):
    name = "odd"
    scores = {"loss": "lower"}  # noqa: RUF012

    def __init__(self, settings: OddConfig, ranks: Ranks | None = None):
        self.settings, self.ranks = settings, ranks
        manifest = settings.manifest()
        self.examples = SyncExamples(manifest, settings.sampling(), FRAMES, 0.0)
        self.validation = SyncExamples(manifest, settings.validation_sampling(), FRAMES, 0.0)

    def players(self) -> dict[str, Player]:
        return {"odd": Player(Odd(), self.settings.optimizer, self.loss)}

    def fixed(self) -> dict[str, str]:
        return {"model": "odd"}

    def loss(self, networks: Networks, batch: SyncBatch) -> Loss:
        settings, rank = self.settings, self.ranks.rank if self.ranks else 0
        step = int(batch.slots_B[0]) // settings.global_batch + 1
        if self.ranks and settings.hangs.startswith(f"{step}/"):
            self.ranks.watchdog.limit_s = 4.0  # until now a loaded machine may take its time
        if meant(settings.hangs, step, rank):
            hang()
        if self.ranks and meant(settings.signalled, step, rank):
            self.ranks.stop.received = "SIGTERM"
        power_BT = batch.audio_BS.unflatten(1, (batch.mask_BT.shape[1], -1)).square().mean(-1)
        loudness_BT5 = nn.functional.pad(power_BT, (2, 2)).unfold(1, 5, 1)
        lips_BT = batch.landmarks_BTN3[:, :, INNER_LIP, 1]
        opening_BT = (lips_BT.amax(-1) - lips_BT.amin(-1)) / 10
        error_BT = (networks["odd"](loudness_BT5).to(opening_BT.dtype) - opening_BT).square() * batch.mask_BT
        loss_B = error_BT.sum(1) / batch.mask_BT.sum(1)
        for place, what in settings.poisoned.items():
            if meant(place, step, rank):
                loss_B = Poison.apply(loss_B) if what == "gradient" else loss_B * torch.nan
        gap_B = torch.full_like(loss_B, torch.nan if step == GAP_STEP and rank == 0 else 1.0)
        return Loss(loss_B, {"slot": batch.slots_B, "gap": gap_B})

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        def measure(slot: int) -> torch.Tensor:
            if self.settings.signalled == "validation":
                ranks.stop.received = "SIGUSR1"
            return self.loss(models, self.validation([slot]).to(ranks.device)).total_B[0]

        asked, self.settings.poisoned = self.settings.poisoned, {}
        found_C, read_C = validation.of_clips(measure, self.validation.lengths, ranks)
        self.settings.poisoned = asked
        return {"loss": found_C[read_C].mean().item()}

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        weights.save(states["odd"], "odd", self.settings.optimizer, folder)


def hang() -> None:
    """Where a rank that hangs is seen in its stack."""
    time.sleep(600)


def failing_disk(settings: OddConfig) -> Callable[[], None]:
    """Make writes of checkpoints slow or fail, as the settings say; returns what undoes it."""
    write = checkpoint.write_rank

    def write_rank(copy: checkpoint.HostCopy, folder: Path, rank: int, world_size: int, tick) -> None:
        time.sleep(settings.slow_write_s)
        if meant(settings.unwritten, int(folder.name.split("-")[2]), rank):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        write(copy, folder, rank, world_size, tick)

    checkpoint.write_rank = write_rank

    def undo() -> None:
        checkpoint.write_rank = write

    return undo
