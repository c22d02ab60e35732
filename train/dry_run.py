"""`python -m train RECIPE ... --dry-run`: what a training will take, before any machine is asked for.

Nothing is read but the manifest, and no GPU is used: clips are blank, and the other ranks are pretended (torch's
process group "fake", whose messages go nowhere). Memory is what a step of this rank really takes on a CPU, counted by
torch's allocator, with the copies that gloo makes of messages, so it needs as much here; floating-point operations are
counted while the losses are computed.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from data_pipeline.sample.batch_plan import Batching, divide
from data_pipeline.sample.order import examples_of_epoch
from train.config import LoopConfig
from train.engine import deepspeed_engine
from train.engine.distributed import Ranks, leave
from train.engine.train_state import TrainState, learnt
from train.rates import forward_and_back
from train.recipe import Recipe
from train.run_folder.checkpoint import HostCopy

STAGES = (0, 1, 2, 3)
LOOKED_AT = 256  # slots, of which the longest are taken for memory
NEAR = 6  # world sizes that are named
# Messages that gloo copies whole while they are under way, and which argument that is. At ZeRO 3 this is the most.
COPIED_BY_GLOO = {"reduce_scatter_tensor": (1, "input"), "all_gather_into_tensor": (0, "output_tensor")}


def report(config: LoopConfig, recipe: Recipe, world_size: int) -> dict[str, Any]:
    """Everything that `as_text` shows, as JSON values. UserError where the world size does not divide the batch."""
    batching = divide(config.global_batch, config.max_micro_batch, world_size)
    recipe.examples.manifest.blank = True
    selection = recipe.examples.selection
    epoch = examples_of_epoch(selection, config.repeats) / config.global_batch
    modules = {name: player.module for name, player in recipe.players().items()}
    trained = {name: sum(weight.numel() for weight in learnt(module).values()) for name, module in modules.items()}
    frozen = {n: sum(w.numel() for w in module.parameters()) - trained[n] for n, module in modules.items()}
    return {
        "recipe": recipe.name,
        "world_size": world_size,
        "batch": [batching.world_size, batching.accumulation, batching.micro_batch],
        "global_batch": config.global_batch,
        "world_sizes": [size for size in range(1, config.global_batch + 1) if config.global_batch % size == 0],
        "clips": dict(selection.clips),
        "steps": config.steps,
        "steps_per_epoch": epoch,
        "epochs": config.steps / epoch,
        "parameters": trained,
        "frozen_parameters": frozen,
        "flops_per_example": flops(recipe, batching),
        "memory_bytes": memory(config, recipe, batching),
        "precision": config.precision,
        "zero_stage": config.zero_stage,
        "weights": {name: weights_of(config, name) for name in ("identity", "init_from") if hasattr(config, name)},
    }


def weights_of(config: LoopConfig, name: str) -> str:
    """What a key that names trained weights leads to: its folder, `none`, or `MISSING: folder`."""
    folder = str(getattr(config, name))
    return folder if not folder or os.path.exists(folder) else f"MISSING: {folder}"


def flops(recipe: Recipe, batching: Batching) -> float:
    """Floating-point operations of an example, forward and backward of all players; of matrix products only."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = recipe.examples(list(range(batching.micro_batch)))
    with FlopCounterMode(display=False) as counter:
        forward_and_back(recipe.players(), batch, "fp32", torch.device("cpu"))
    return counter.get_total_flops() / batching.micro_batch


def memory(config: LoopConfig, recipe: Recipe, batching: Batching) -> dict[str, dict[str, int]]:
    """By ZeRO stage: the most bytes of tensors of a rank, and how many of these are the checkpoint's copy."""
    lengths = {slot: frames(recipe, slot) for slot in range(max(LOOKED_AT, batching.micro_batch))}
    longest = sorted(sorted(lengths, key=lambda slot: -lengths[slot])[: batching.micro_batch])
    bytes_of = {}
    with copying_as_gloo(), pretended(batching.world_size) as ranks:
        for stage in STAGES:
            staged = copy.copy(config)
            staged.zero_stage, staged.offload_optimizer = stage, config.offload_optimizer and stage > 0
            bytes_of[str(stage)] = measured(partial(one_step, staged, recipe, batching, ranks, longest))
    return bytes_of


def frames(recipe: Recipe, slot: int) -> int:
    """Frames that are read for a slot."""
    windows = recipe.examples.windows
    return sum((request.stop or 0) - request.start for request in windows.requests(windows.example(slot)))


@contextlib.contextmanager
def pretended(world_size: int) -> Iterator[Ranks]:
    """The first of so many ranks, of which the others do not exist: what they would send is not there."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
    dist.init_process_group("fake", rank=0, world_size=world_size, store=FakeStore())
    deepspeed_engine.join("fake", timedelta(seconds=60))
    try:
        yield Ranks(0, world_size, torch.device("cpu"))
    finally:
        leave()


@contextlib.contextmanager
def copying_as_gloo() -> Iterator[None]:
    """While messages are pretended: as much memory is taken for each as gloo takes. Begun before DeepSpeed looks."""

    def with_copy(send: Callable[..., Any], at: int, name: str) -> Callable[..., Any]:
        def sent(*args: Any, **more: Any) -> Any:
            copied = torch.empty_like(args[at] if len(args) > at else more[name])
            work = send(*args, **more)
            del copied
            return work

        return sent

    before = {name: getattr(dist, name) for name in COPIED_BY_GLOO}
    for name, (at, argument) in COPIED_BY_GLOO.items():
        setattr(dist, name, with_copy(before[name], at, argument))
    try:
        yield
    finally:
        for name, send in before.items():
            setattr(dist, name, send)


def one_step(config: LoopConfig, recipe: Recipe, batching: Batching, ranks: Ranks, slots: list[int]) -> int:
    """Build what `loop.prepare` builds and take a step; the bytes of the checkpoint's copy."""
    players = recipe.players()
    averaged = {name: copy.deepcopy(player.module).eval() for name, player in players.items()}
    state = TrainState(players, config, batching, ranks)
    host = HostCopy(state.pieces())
    batch, sums = recipe.examples(slots), dict[str, torch.Tensor]()
    state.begin(0)
    for micro in range(min(batching.accumulation, 2)):  # more take as much as two
        outputs: dict[str, Any] = {}
        for name, player in state.players.items():
            with state.turn(name) as networks:
                loss = player.loss_of(networks, batch, outputs)
            outputs[name] = loss.output
            sums[name] = sums.get(name, torch.zeros(())) + loss.total_B.detach().double().sum()
            state.backward(name, loss.total_B, last=micro == min(batching.accumulation, 2) - 1)
    state.update(0, ranks.sum(state.message(sums)))
    del averaged
    return host.values.nbytes


def measured(work: Callable[[], int]) -> dict[str, int]:
    """The most bytes that torch's CPU allocator had given out during some work, and what the work returns."""
    from torch.profiler import ProfilerActivity, profile

    gc.collect()  # what is given back later was not taken by this work
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        host = work()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return {"peak": peak, "host": host}


def as_text(found: dict[str, Any]) -> list[str]:
    """The report in lines."""
    world, accumulation, micro = found["batch"]
    trained, frozen = sum(found["parameters"].values()), sum(found["frozen_parameters"].values())
    corpora = ", ".join(f"{name} {count}" for name, count in found["clips"].items())
    sizes = sorted(sorted(found["world_sizes"], key=lambda size: abs(size - world))[:NEAR])
    players = ", ".join(f"{name} {count:,}" for name, count in found["parameters"].items())
    lines = [
        f"{found['recipe']}: {trained:,} parameters are trained ({players}), {frozen:,} are frozen",
        f"batch: {found['global_batch']} = {world} processes x {accumulation} micro-batches x {micro} examples; "
        f"world sizes near that divide: {', '.join(map(str, sizes))}",
        f"data: {sum(found['clips'].values())} clips ({corpora}), {found['steps_per_epoch']:.1f} steps an epoch; "
        f"{found['steps']} steps are {found['epochs']:.1f} epochs",
        f"work: {found['flops_per_example'] / 1e9:.3g} GFLOP an example, forward and backward; "
        f"{found['flops_per_example'] * found['global_batch'] / 1e12:.3g} TFLOP a step",
        f"memory of a process at {found['precision']}, micro-batch {micro}:",
    ]
    for stage, bytes_of in found["memory_bytes"].items():
        chosen = "  <- zero_stage" if int(stage) == found["zero_stage"] else ""
        device, host = (bytes_of["peak"] - bytes_of["host"]) / 1e6, bytes_of["host"] / 1e6
        lines.append(f"  ZeRO {stage}: {device:,.0f} MB, and {host:,.0f} MB on the host for checkpoints{chosen}")
    for name, what in found["weights"].items():
        lines.append(f"weights: {name}={what or 'none'}")
    return lines


def run(config: LoopConfig, make_recipe: Callable[[], Recipe], world_size: int, as_json: bool) -> None:
    """Print the report; what else is said on the way goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        found = report(config, make_recipe(), world_size)
    print(json.dumps(found) if as_json else "\n".join(as_text(found)))
