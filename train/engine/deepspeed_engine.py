"""The only file that touches DeepSpeed's internals: engines, and the fp32 fragments behind any ZeRO stage.

Weights, gradients and moments are fp32 at every stage (precision is what forward and backward compute in,
see docs/decisions.md), so a rank's share of a network is a list of fp32 views whatever the stage. Checkpoint,
EMA, gradient norm and export are written against that list alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from data_pipeline.sample.batch_plan import Batching
from mytalk.command import UserError, one_line
from train.config import LoopConfig, OptimizerConfig
from train.engine import deepspeed_config

MOMENTS = ("exp_avg", "exp_avg_sq")
AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LARGEST_BUCKET = 500_000_000  # elements of the gradients that are sent at once: DeepSpeed's default


@dataclass(frozen=True)
class Fragment:
    """A rank's stretch [start, start + numel) of one flattened parameter, as fp32 views that stay valid."""

    name: str
    start: int
    weight: torch.Tensor  # (numel,)
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor

    @property
    def stop(self) -> int:
        return self.start + self.weight.numel()


class GuardedAdamW(torch.optim.AdamW):
    """AdamW that multiplies its gradients by `factor` first, or leaves everything as it is on `skip`.

    The factor clips, and takes off the loss scale of fp16.

    DeepSpeed calls `step` once per flat group, after it has reduced the gradients and before it copies the
    weights back. Skipping here lets all of its bookkeeping run while no weight changes, at every stage.
    """

    factor: float = 1.0
    skip: bool = False

    @torch.no_grad()
    def step(self, closure=None):
        if self.skip:
            return None
        if self.factor != 1.0:
            gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(gradients, self.factor)
        return super().step(closure)


def join(backend: str, timeout: timedelta) -> None:
    """Join the process group that the environment describes."""
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    # DeepSpeed would compile a shared-memory reduce on CPU: a machine without a compiler must train too.
    __compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, timeout=timeout)


def parameter_groups(module: nn.Module, settings: OptimizerConfig) -> list[dict[str, Any]]:
    """What decays (matrices and kernels) and what does not (biases, gains of norms); one group if nothing decays."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not settings.weight_decay:
        return [{"params": learnt, "weight_decay": 0.0}]
    decays = [parameter for parameter in learnt if parameter.dim() > 1]
    rests = [parameter for parameter in learnt if parameter.dim() <= 1]
    groups = [{"params": decays, "weight_decay": settings.weight_decay}, {"params": rests, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_engine(
    module: nn.Module, settings: OptimizerConfig, config: LoopConfig, batching: Batching, device: torch.device
) -> Any:
    """A DeepSpeed engine around `module`, its Adam moments created as zeros.

    Load weights into the module before this call: the engine copies them into its partitions.
    """
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    logger.addFilter(_of_interest)
    module.to(device)
    optimizer = GuardedAdamW(
        parameter_groups(module, settings), lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True
    )
    ds_config = deepspeed_config.of(config, batching)
    if config.zero_stage:  # its buffer is allocated whole: 2 GB of the default, whatever the network
        learnt = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        ds_config["zero_optimization"].setdefault("reduce_bucket_size", min(LARGEST_BUCKET, learnt))
    try:
        engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=ds_config, dist_init_required=False)
    except ValueError as error:
        if not config.deepspeed:
            raise
        raise UserError(f"DeepSpeed refuses deepspeed={config.deepspeed}: {one_line(error)}") from None
    compute_in(engine, config.precision)
    if config.zero_stage == 3:  # DeepSpeed's own norm, a pass over the gradients and messages, has no switch there
        nothing = torch.zeros((), device=engine.device)
        engine.optimizer._get_norm_groups = lambda: [nothing]
    for flat in layout(engine).flat_parameters():
        optimizer.state[flat] = {
            "step": torch.zeros((), device=flat.device),
            "exp_avg": torch.zeros_like(flat),
            "exp_avg_sq": torch.zeros_like(flat),
        }
    return engine


def compute_in(engine: Any, precision: str) -> None:
    """Have the engine's forward run under autocast.

    DeepSpeed switches off, on a GPU only, an autocast that its own configuration does not name; naming it there
    would also send gradients in that precision.
    """
    engine.torch_autocast_enabled = lambda: precision != "fp32"
    engine.torch_autocast_dtype = lambda: AUTOCAST[precision]


def _of_interest(record: logging.LogRecord) -> bool:
    """DeepSpeed warns of every optimizer that is not its own."""
    return "untested optimizer" not in record.getMessage()


class Layout:
    """Where a ZeRO stage keeps a rank's share of a network and of its gradients. This one is stage 0: all is whole."""

    def __init__(self, engine: Any):
        self.engine, self.optimizer = engine, engine.optimizer
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def flat_parameters(self) -> list[torch.Tensor]:
        """The fp32 tensors that the optimizer itself steps on."""
        return [p for group in self.engine.basic_optimizer.param_groups for p in group["params"]]

    def shares(self) -> Iterator[tuple[torch.Tensor, int, torch.Tensor, int, int]]:
        """(parameter, start in it, fp32 tensor, offset in it, numel): over all ranks every element comes once."""
        for parameter in self.flat_parameters():
            start, stop = share(parameter.numel(), self.rank, self.world_size)
            if stop > start:
                yield parameter, start, parameter, start, stop - start

    def gradients(self) -> list[torch.Tensor]:
        """This rank's share of the reduced gradients, flat; what pads a partition is left out or zero."""
        gradients = []
        for parameter in self.flat_parameters():
            if parameter.grad is not None:
                start, stop = share(parameter.numel(), self.rank, self.world_size)
                gradients.append(parameter.grad.detach().view(-1)[start:stop])
        return gradients

    def offloaded_gradients(self) -> list[torch.Tensor]:
        """The same where the optimizer is in the machine's memory (stages 1 to 3)."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # they may be still on their way from the GPU
        return [flat.grad.detach() for flat in self.flat_parameters() if flat.grad is not None]


class OptimizerShards(Layout):
    """Stages 1 and 2: each rank has one fp32 partition of every flattened group."""

    def flat_parameters(self) -> list[torch.Tensor]:
        return list(self.optimizer.single_partition_of_fp32_groups)

    def shares(self) -> Iterator[tuple[torch.Tensor, int, torch.Tensor, int, int]]:
        for group, flat in zip(self.optimizer.bit16_groups, self.flat_parameters()):
            for parameter in group:
                mapping = parameter._hp_mapping
                if mapping is not None:
                    ours, flats = mapping.lp_fragment_address, mapping.hp_fragment_address
                    yield parameter, ours.start, flat, flats.start, flats.numel

    def gradients(self) -> list[torch.Tensor]:
        if self.optimizer.cpu_offload:
            return self.offloaded_gradients()
        groups = range(len(self.optimizer.bit16_groups))
        return [piece.detach().view(-1) for index in groups for piece in self.optimizer.averaged_gradients[index]]


class WeightShards(Layout):
    """Stage 3: each rank has an even, padded part of every parameter."""

    def flat_parameters(self) -> list[torch.Tensor]:
        return list(self.optimizer.fp32_partitioned_groups_flat)

    def shares(self) -> Iterator[tuple[torch.Tensor, int, torch.Tensor, int, int]]:
        for group, flat in zip(self.optimizer.fp16_groups, self.flat_parameters()):
            for parameter in group:
                _, offset, padded = self.optimizer.grad_position[self.optimizer.get_param_id(parameter)]
                start = padded * self.rank
                numel = min(padded, parameter.ds_numel - start)  # the last ranks hold padding
                if numel > 0:
                    yield parameter, start, flat, offset, numel

    def gradients(self) -> list[torch.Tensor]:
        if self.optimizer.offload_optimizer:
            return self.offloaded_gradients()
        gradients = []
        for index, group in enumerate(self.optimizer.fp16_groups):
            for parameter, piece in zip(group, self.optimizer.averaged_gradients[index]):
                numel = parameter.ds_numel - parameter.partition_numel() * self.rank
                gradients.append(piece.detach().view(-1)[: max(numel, 0)])
        return gradients


LAYOUTS: dict[int, type[Layout]] = {0: Layout, 1: OptimizerShards, 2: OptimizerShards, 3: WeightShards}


def layout(engine: Any) -> Layout:
    """Where the stage of an engine keeps its tensors."""
    return LAYOUTS[engine.zero_optimization_stage()](engine)


def fragments(engine: Any) -> Iterator[Fragment]:
    """This rank's share of the network: over all ranks every element of every parameter comes once."""
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    state = engine.basic_optimizer.state
    for parameter, start, flat, offset, numel in layout(engine).shares():
        moments = (state[flat][key].detach().view(-1).narrow(0, offset, numel) for key in MOMENTS)
        yield Fragment(names[id(parameter)], start, flat.detach().view(-1).narrow(0, offset, numel), *moments)


def share(numel: int, rank: int, world_size: int) -> tuple[int, int]:
    """The even stretch of a flattened tensor that a rank owns where DeepSpeed gives it no share (stage 0)."""
    return numel * rank // world_size, numel * (rank + 1) // world_size


def gradient_square_sum(engine: Any) -> torch.Tensor:
    """Sum of squares of this rank's share of the reduced gradients, float64: call after the last backward.

    Summed over the ranks this is the squared norm of the global gradient; it is not finite if any gradient is
    not. Every stage partitions without overlap.
    """
    gradients = layout(engine).gradients()
    if not gradients:
        return torch.zeros((), dtype=torch.float64, device=engine.device)
    norms = torch.stack(torch._foreach_norm(gradients))
    return norms.double().square().sum().to(engine.device)


def load_moments(
    engine: Any, owned: list[Fragment], stretch: Callable[[str, str, int, int], torch.Tensor], steps: int
) -> None:
    """Put moments, `stretch(kind, parameter, start, stop)`, and the t of Adam's bias correction into an engine.

    At stage 0 every rank steps on every element, so each needs all of them, not just the share it saves: all ranks
    ask for the same then, in the same order.
    """
    state = engine.basic_optimizer.state
    if engine.zero_optimization_stage() == 0:
        for name, parameter in engine.module.named_parameters():
            if parameter in state:
                for kind in MOMENTS:
                    state[parameter][kind].copy_(stretch(kind, name, 0, parameter.numel()).view_as(parameter))
    else:
        for piece in owned:
            for kind in MOMENTS:
                getattr(piece, kind).copy_(stretch(kind, piece.name, piece.start, piece.stop))
    for flat in layout(engine).flat_parameters():
        state[flat]["step"].fill_(steps)


def adam_steps(engine: Any) -> int:
    """How many steps Adam has taken: the t of its bias correction."""
    steps = {int(engine.basic_optimizer.state[flat]["step"]) for flat in layout(engine).flat_parameters()}
    assert len(steps) <= 1, "every flat group steps together"
    return steps.pop() if steps else 0


def step(engine: Any, factor: float, skip: bool) -> None:
    """Take the optimizer's step with the gradients times `factor`, or leave everything as it is on `skip`."""
    engine.basic_optimizer.factor, engine.basic_optimizer.skip = factor, skip
    engine.step()


def set_lr(engine: Any, lr: float) -> None:
    """Set the learning rate of the coming step."""
    for group in engine.basic_optimizer.param_groups:
        group["lr"] = lr


def average(averages: list[torch.Tensor], owned: list[Fragment], decay: float) -> None:
    """EMA on this rank's fragments: a <- decay a + (1 - decay) w."""
    if averages:
        torch._foreach_lerp_(averages, [piece.weight for piece in owned], 1 - decay)


def gather(
    pieces: list[tuple[str, int, torch.Tensor]], shapes: dict[str, tuple[int, ...]], device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    """Whole tensors by name, one after another, on every rank from (name, start, stretch) of all ranks.

    Collective: all ranks go through all of them.
    Each element is owned by one rank and the others add zeros, so the sum is exact.
    """
    own: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for name, start, piece in pieces:
        own.setdefault(name, []).append((start, piece))
    for name, shape in shapes.items():
        flat = torch.zeros(torch.Size(shape).numel(), dtype=torch.float32, device=device)
        for start, piece in own.get(name, []):
            flat[start : start + piece.numel()] = piece
        dist.all_reduce(flat)
        yield name, flat.view(shape)
