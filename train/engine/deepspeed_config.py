"""The configuration that DeepSpeed is given: made from ours, and what the user adds to it."""

from __future__ import annotations

from typing import Any

import torch

from data_pipeline.sample.batch_plan import Batching
from mytalk.command import UserError
from train.config import LoopConfig

# Raw keys that would take over what a key of ours decides.
OURS = {
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "amp", "torch_autocast", "data_types"), "precision"),
    "optimizer": "optimizer",
    "scheduler": "optimizer.schedule",
    "managed_gradient_accumulation": "max_micro_batch",
    "zero_optimization.offload_optimizer": "offload_optimizer",
    "zero_optimization.cpu_offload": "offload_optimizer",
}


def of(config: LoopConfig, batching: Batching) -> dict[str, Any]:
    """The configuration of an engine. Raw keys of `config.deepspeed` are added, and replace nothing of ours.

    Raises UserError for a raw key that one of ours decides.
    """
    ds_config: dict[str, Any] = {
        "train_batch_size": batching.global_batch,
        "train_micro_batch_size_per_gpu": batching.micro_batch,
        "gradient_accumulation_steps": batching.accumulation,
        "gradient_clipping": 0.0,  # the loop clips, by a norm that is the same at every stage
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": config.zero_stage,
            "overlap_comm": config.overlap_comm,
            "contiguous_gradients": True,
        },
    }
    if config.zero_stage in (1, 2) and not config.offload_optimizer:
        ds_config["zero_optimization"]["compute_grad_norm"] = False  # the loop has it already
    if config.offload_optimizer:
        ds_config["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    for key, value in config.deepspeed.items():
        if key == "zero_optimization" and isinstance(value, dict):
            theirs, ours, prefix = value, ds_config["zero_optimization"], "zero_optimization."
        else:
            theirs, ours, prefix = {key: value}, ds_config, ""
        for name in theirs:
            if name in ours and ours[name] != theirs[name]:
                raise UserError(f"deepspeed.{prefix}{name} is made from our own keys; set those instead and remove it")
            if name not in ours and (decides := OURS.get(prefix + name)):
                raise UserError(f"deepspeed.{prefix}{name} is decided by {decides}=...; set that instead and remove it")
        ours.update(theirs)
    return ds_config
