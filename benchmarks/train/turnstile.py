"""A contestant from inside: where it stands still until its turn, and what its turns take."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.train.contestant import Turn
from benchmarks.train.jobs import RECIPES, Job
from data_pipeline.sample.batch_plan import divide
from train import loop
from train.config import LoopConfig
from train.engine import deepspeed_engine
from train.engine.distributed import Ranks
from train.recipe import Loss, Player, Recipe, Validated
from train.run_folder.run_log import RunLog

BEYOND: dict[str, tuple[Any, str]] = {  # what the loop does beyond the bare one: where it is called from
    "EMA": (deepspeed_engine, "average"),
    "norm of the gradient (the bare loop has one too)": (deepspeed_engine, "gradient_square_sum"),
    "the ranks' message": (Ranks, "sum"),
    "log": (RunLog, "step"),
    "digest of the keys": (loop, "key_sum"),
}


class Turnstile:
    """Where a contestant stands still until its turn, and what its turns take."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], device: torch.device):
        self.tell, self.device = tell, device
        self.left, self.began = 0, spent()
        self.parts_s: dict[str, float] = {}
        self.timing = ExitStack()

    def step(self) -> None:
        """Called at the beginning of each step."""
        if self.left == 0:
            synchronize(self.device)
            wall_s, cpu_s, faults = (now - before for now, before in zip(spent(), self.began))
            self.timing.close()
            writing = any(thread.name == "saver" for thread in threading.enumerate())
            self.tell(asdict(Turn(wall_s, cpu_s, int(faults), self.parts_s, writing)))
            order = json.loads(sys.stdin.readline() or '{"steps": -1, "timed": false}')
            self.left, self.parts_s = order["steps"], {}
            if order["timed"]:
                self.timing.enter_context(timers(self.parts_s, self.device))
            self.began = spent()
        self.left -= 1


def spent() -> tuple[float, float, float]:
    """Seconds by the clock, of CPU time, and page faults, of this process."""
    return time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@contextmanager
def timers(parts_s: dict[str, float], device: torch.device) -> Iterator[None]:
    """Meanwhile, seconds of what is in BEYOND are added up."""

    def timed(name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def do(*given: Any, **named: Any) -> Any:
            synchronize(device)
            began = time.perf_counter()
            made = does(*given, **named)
            synchronize(device)
            parts_s[name] = parts_s.get(name, 0.0) + time.perf_counter() - began
            return made

        return do

    with ExitStack() as patched:
        for name, (owner, attribute) in BEYOND.items():
            does = getattr(owner, attribute)
            patched.enter_context(mock.patch.object(owner, attribute, timed(name, does)))
        yield


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Gated(Recipe):
    """A recipe whose steps wait at a gate, once their first batch is there; without what a run does at its end."""

    recipe: Recipe
    gate: Turnstile
    accumulation: int
    calls: int = field(default=0)

    def __post_init__(self) -> None:
        self.name, self.examples = self.recipe.name, self.recipe.examples

    def players(self) -> dict[str, Player]:
        players = self.recipe.players()
        name, first = next(iter(players.items()))

        def loss(networks: Any, batch: Any, *earlier: Any) -> torch.Tensor | Loss:
            if self.calls % self.accumulation == 0:
                self.gate.step()
            self.calls += 1
            return first.loss(networks, batch, *earlier)

        return {**players, name: replace(first, loss=loss)}

    def fixed(self) -> dict[str, Any]:
        return self.recipe.fixed()

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        return {}

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        pass


def gated(job: Job, gate: Turnstile, joined: Ranks) -> tuple[LoopConfig, Recipe]:
    made = job.config()
    accumulation = divide(made.global_batch, made.max_micro_batch, joined.world_size).accumulation
    return made, Gated(RECIPES[job.recipe][1](made), gate, accumulation)
