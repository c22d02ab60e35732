"""`python -m train RECIPE ... --rates FILE`: how fast the training would go on the machines where a launcher starts it.

Every rank measures, at the same time as the others: its loader alone, its networks alone, then steps as the loop takes
them, all with the run's own settings. Nothing is kept, and nothing of the run folder is read. Checkpoints, validation
and logs are not in it. `launch preflight` compares what the ranks have found.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import Batching, divide
from mytalk import atomic
from train.config import LoopConfig
from train.engine import deepspeed_engine
from train.engine.distributed import Ranks
from train.engine.train_state import TrainState, learnt
from train.loop import accumulate
from train.recipe import Player, Recipe
from train.run_folder import resume

DATA_S, COMPUTE_S, STEPS_S = 4.0, 2.0, 8.0
WARM_STEPS, LEAST_STEPS = 2, 3
MOST_STEPS = 1_000_000  # that the loader is asked for
REDUCED_BYTES, REDUCED_TIMES = 32 << 20, 5


def write(config: LoopConfig, recipe: Recipe, ranks: Ranks, file: Path) -> None:
    """Measure, and write what this rank has found as JSON. UserError where the world size does not divide the batch."""
    batching = divide(config.global_batch, config.max_micro_batch, ranks.world_size)
    found: dict[str, Any] = {"rank": ranks.rank, "data": data_digest(recipe, config)}
    with closing(batches_of(recipe, config, batching, ranks)) as batches:
        found["loader_examples_per_s"], batch = loading(batches, config.workers)
    batch = batch.to(ranks.device)
    players = {name: moved(player, ranks.device) for name, player in recipe.players().items()}
    found["compute_s"] = computing(players, batch, config.precision, ranks.device)
    state = TrainState(players, config, batching, ranks)
    with closing(batches_of(recipe, config, batching, ranks)) as batches:
        found |= stepping(state, batches, batching.accumulation)
    found["reduce_bytes_per_s"] = reduce_rate(ranks)
    ranks.wait()
    found["time"] = time.time()  # of all at about the same moment
    atomic.write_json(file, found)


def data_digest(recipe: Recipe, config: LoopConfig) -> str:
    """Changes with the clips, how they are drawn, and the settings that a run may not change."""
    return hashlib.sha256(json.dumps(resume.fixed(recipe, config), sort_keys=True).encode()).hexdigest()[:12]


def batches_of(recipe: Recipe, config: LoopConfig, batching: Batching, ranks: Ranks) -> Generator[Any, None, None]:
    """The run's loader from its first step on."""
    sizes = config.global_batch, batching.micro_batch, ranks.rank, ranks.world_size
    length_of = recipe.examples.windows.length if config.batch_by_length else None
    slots = loader.SlotStream(recipe.examples, *sizes, 0, MOST_STEPS, length_of)
    return loader.load(slots, config.workers, pin=ranks.device.type == "cuda")


def loading(batches: Generator[Any, None, None], workers: int) -> tuple[float, Any]:
    """Examples a second that the loader gives to a rank that does nothing else, and a batch of it."""
    for _ in range(1 + workers):  # the first of each worker holds its start
        batch = next(batches)
    began, examples = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < DATA_S:
        batch = next(batches)
        examples += len(batch.slots_B)
    return examples / seconds, batch


def moved(player: Player, device: torch.device) -> Player:
    """A player whose network is on a device."""
    player.module.to(device)
    return player


def computing(players: dict[str, Player], batch: Any, precision: str, device: torch.device) -> float:
    """Seconds of forward and backward of a micro-batch, without messages, reading or a step."""
    forward_and_back(players, batch, precision, device)
    began, times = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < COMPUTE_S or not times:
        forward_and_back(players, batch, precision, device)
        times += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
    return seconds / times


def forward_and_back(players: dict[str, Player], batch: Any, precision: str, device: torch.device) -> None:
    """The losses of all players and their gradients, on bare networks; nothing is kept."""
    networks, outputs = {name: player.module for name, player in players.items()}, dict[str, Any]()
    weights = {name: list(learnt(network).values()) for name, network in networks.items()}
    dtype = deepspeed_engine.AUTOCAST[precision]
    for name, player in players.items():
        others = [weight for other, some in weights.items() if other != name for weight in some]
        for weight in others:
            weight.requires_grad_(False)
        try:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = player.loss_of(networks, batch, outputs)
            outputs[name] = loss.output
            loss.total_B.mean().backward()
        finally:
            for weight in others:
                weight.requires_grad_(True)
    for network in networks.values():
        network.zero_grad(set_to_none=True)


def stepping(state: TrainState, batches: Generator[Any, None, None], accumulation: int) -> dict[str, Any]:
    """Steps as the loop takes them: how long one takes, and how much of that this rank waits for data."""
    began, wait_s = 0.0, 0.0
    for step in range(MOST_STEPS):
        if step == WARM_STEPS:
            began, wait_s = time.perf_counter(), 0.0
        state.begin(step)
        own = accumulate(state, batches, accumulation, step)
        wait_s += own.wait_s
        taken = step + 1 - WARM_STEPS
        over = taken >= LEAST_STEPS and time.perf_counter() - began > STEPS_S
        total = state.ranks.sum({**state.message(own.losses), "over": over})
        state.update(step, total)
        if total["over"]:
            break
    return {"steps": taken, "step_s": (time.perf_counter() - began) / taken, "wait_s": wait_s / taken}


def reduce_rate(ranks: Ranks) -> float:
    """Bytes a second of all-reduce: the algorithm's bandwidth, of 32 MB; 0 alone."""
    if ranks.world_size == 1:
        return 0.0
    vector = torch.ones(REDUCED_BYTES // 4, device=ranks.device)
    dist.all_reduce(vector)
    began = time.perf_counter()
    for _ in range(REDUCED_TIMES):
        dist.all_reduce(vector)
    if vector.is_cuda:
        torch.cuda.synchronize()
    return REDUCED_TIMES * REDUCED_BYTES / (time.perf_counter() - began)
