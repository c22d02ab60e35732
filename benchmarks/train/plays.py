"""What a contestant can do: train by the project's loop or a bare one, or measure itself."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, NoReturn

import torch

from benchmarks.train.jobs import RECIPES, Job
from benchmarks.train.turnstile import Turnstile, gated, synchronize
from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import divide
from mytalk import command
from mytalk.machine import cores
from train import loop
from train.engine import deepspeed_config, deepspeed_engine, distributed
from train.engine.distributed import Ranks
from train.engine.train_state import TrainState


def play_loop(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """The project's loop."""
    made, recipe = gated(job, gate, joined)
    return {"code": loop.train(recipe, made, joined)}


def play_bare(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """DeepSpeed as its manual has it: engine, backward, step. The same network, data, Adam, and clipping.

    In bf16 it runs under autocast, as ours: weights are fp32 for both.
    """
    import deepspeed

    made, recipe = gated(job, gate, joined)
    batching, settings = divide(made.global_batch, made.max_micro_batch, joined.world_size), made.optimizer
    torch.manual_seed(made.seed)
    ((name, player),) = recipe.players().items()
    module = player.module.to(joined.device)
    groups = deepspeed_engine.parameter_groups(module, settings)
    adam = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    told = {**deepspeed_config.of(made, batching), "gradient_clipping": settings.clip_norm}
    told["zero_optimization"].pop("compute_grad_norm", None)  # it clips by a norm of its own
    engine, *_ = deepspeed.initialize(model=module, optimizer=adam, config=told, dist_init_required=False)
    deepspeed_engine.compute_in(engine, made.precision)
    sizes = batching.global_batch, batching.micro_batch, joined.rank, joined.world_size
    slots = loader.SlotStream(recipe.examples, *sizes, 0, made.steps)
    dtype, losses = deepspeed_engine.AUTOCAST[made.precision], []
    with closing(loader.load(slots, made.workers, pin=joined.device.type == "cuda")) as batches:
        for batch in batches:
            batch = batch.to(joined.device)
            with torch.autocast(joined.device.type, dtype, enabled=dtype != torch.float32):
                loss = player.loss_of({name: engine}, batch, {}).total_B.mean()
            engine.backward(loss)
            engine.step()
            losses.append(loss.detach())
    return {"losses": torch.stack(losses).view(-1, batching.accumulation).mean(1).tolist()}


def play_flops(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """Floating-point operations of one micro-batch: every player's loss and its backward.

    By torch's count of matrix products and convolutions. Attention is counted as plain products, and what a fused
    kernel computes again in its backward is not.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    made = job.config()
    recipe = RECIPES[job.recipe][1](made)
    batching = divide(made.global_batch, made.max_micro_batch, joined.world_size)
    players = recipe.players()
    state = TrainState(players, made, batching, joined)
    batch = recipe.examples(list(range(batching.micro_batch))).to(joined.device)
    outputs: dict[str, Any] = {}
    with counter() as counted, sdpa_kernel(SDPBackend.MATH):
        for name, player in players.items():
            with state.turn(name) as networks:
                loss = player.loss_of(networks, batch, outputs)
            outputs[name] = loss.output
            state.backward(name, loss.total_B, last=True)
    return {"flops": counted.get_total_flops()}


def counter() -> Any:
    """torch's counter of operations, to be entered, with convolutions' gradients counted aright."""
    from torch.utils.flop_counter import FlopCounterMode

    mapped = {torch.ops.aten.convolution_backward: convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=mapped)


def convolution_backward_flops(
    given: Any,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *rest: Any,
    **_: Any,
) -> int:
    """Each gradient that is wanted, of input and weight, takes what the forward does.

    torch's own count takes a depthwise convolution for a full one in its weight's gradient: `width` times too many.
    """
    from torch.utils.flop_counter import conv_flop_count

    _, _, wanted = rest[:3]
    return (wanted[0] + wanted[1]) * conv_flop_count(x, weight, given, transposed)


def play_peak(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """Operations a second of the fastest of many products of two large matrices, in the run's precision."""
    cuda = joined.device.type == "cuda"
    size, repeats = (8192, 10) if cuda else (1024, 1)
    x = torch.randn(size, size, device=joined.device).to(deepspeed_engine.AUTOCAST[job.config().precision])
    taken, until = list[float](), time.perf_counter() + 1.0
    torch.mm(x, x)
    while len(taken) < 3 or time.perf_counter() < until:
        synchronize(joined.device)
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(x, x)
        synchronize(joined.device)
        taken.append((time.perf_counter() - began) / repeats)
    return {"flops_s": 2 * size**3 / min(taken), "size": size}


def play_device(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """Where contestants compute, and how many at once; asked of a process that ends, so that this one holds no GPU."""
    cuda = joined.device.type == "cuda"
    name = torch.cuda.get_device_name(joined.device) if cuda else "CPU"
    return {"cuda": cuda, "name": name, "count": torch.cuda.device_count() if cuda else cores()}


PLAYS: dict[str, Callable[[Job, Turnstile, Ranks], dict[str, Any]]] = {
    "loop": play_loop,
    "bare": play_bare,
    "flops": play_flops,
    "peak": play_peak,
    "device": play_device,
}


def contestant() -> NoReturn:
    """A process that reads jobs until its input ends, and answers on its output; what is printed goes to the log."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(said: dict[str, Any]) -> None:
        answers.write(json.dumps(said) + "\n")

    torch.set_num_threads(1)
    joined = distributed.join()
    try:
        while line := sys.stdin.readline():
            said = json.loads(line)
            job = Job(**{**said, "settings": tuple(said["settings"])})
            tell(PLAYS[job.play](job, Turnstile(tell, joined.device), joined))
            gc.collect()  # engines are rings of references
    finally:
        distributed.leave()
    os._exit(command.EXIT_DONE)  # nothing is left to do: taking the libraries down would take a second
