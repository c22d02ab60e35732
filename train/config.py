"""The configuration that every recipe shares. Each recipe adds its model and data (see train/recipes/motion.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards.manifest import Manifest
from data_pipeline.storage.cache import Cache
from data_pipeline.storage.store import Store

PRECISIONS = ("fp32", "bf16", "fp16")
SCHEDULES = ("constant", "inverse_sqrt", "cosine")
FAILED_CHECKPOINT = ("go_on", "stop")
MOST_LOSS_SCALE = 2.0**24
RECENT_STEPS = 100  # steps among which those that are not finite are counted


@dataclass
class OptimizerConfig:
    """AdamW and its learning rate over steps."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8  # added to Adam's denominator; gradients below it are noise
    weight_decay: float = 0.0  # of matrices and kernels; biases and gains of norms are left alone
    schedule: str = "inverse_sqrt"
    warmup_steps: int = 8000
    clip_norm: float = 1.0  # of the global gradient; 0 clips nothing

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"optimizer.schedule must be one of {', '.join(SCHEDULES)}, not '{self.schedule}'")
        if self.lr <= 0:
            raise ValueError(f"optimizer.lr must be above 0, not {self.lr}")
        if not self.eps > 0:
            raise ValueError(f"optimizer.eps must be above 0, not {self.eps}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas must lie in [0, 1), not be {list(self.betas)}")
        for name in ("weight_decay", "warmup_steps", "clip_norm"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"optimizer.{name} must be 0 or more, not {getattr(self, name)}")

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of a step (0-based): linear warm-up, then the schedule."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        if self.schedule == "inverse_sqrt":
            after = math.sqrt(max(self.warmup_steps, 1) / max(step + 1, self.warmup_steps, 1))
        elif self.schedule == "cosine":
            done = max(0, step - self.warmup_steps) / max(1, steps - self.warmup_steps)
            after = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        else:
            after = 1.0
        return self.lr * warm * after


@dataclass
class LoopConfig:
    """One training run: its folder, data, length, batch, precision and habits. All recipes share these keys."""

    run: str = "runs/unnamed"  # folder of checkpoints, curves and model, which resumes; each recipe has its own
    shards: str = "data/shards"  # folder of shards with a manifest
    train_split: str = "train"
    validation_split: str = "val"
    where: str = ""  # of the train split, only clips for which this holds: "face_px >= 96 and yaw_deg < 30"
    repeats: dict[str, float] = field(default_factory=dict)  # how often a corpus's clips come; default 1, 0 leaves out
    shards_until: int = 0  # only shards numbered below; 0: those there are when the run begins, which it keeps to
    bad_share: float = 0.01  # of a corpus's clips that may be damaged, and are replaced; one always may
    accept_changes: bool = False  # go on although the data, or how it is drawn, are not what the run began with
    cache: str = ""  # folder of a copy on this node of what is read from a remote `shards`; empty: none
    cache_gb: float = 100.0  # the most that all processes of the node keep there
    steps: int = 100_000
    global_batch: int = 32  # examples per optimizer step, over all processes
    max_micro_batch: int = 32  # the most examples that fit one process at once
    seed: int = 0
    init_from: str = ""  # a model, checkpoint or run folder whose weights a new run begins with, as far as they fit
    precision: str = "fp32"  # of forward and backward; weights, gradients and moments are always fp32
    loss_scale: float = 65536.0  # fp16: what losses are multiplied with at first; halved where gradients overflow
    loss_scale_steps: int = 2000  # fp16: doubled after so many steps without
    zero_stage: int = 0  # DeepSpeed ZeRO: 0 none, 1 optimizer, 2 + gradients, 3 + weights
    offload_optimizer: bool = False  # moments and the optimizer's step in the machine's memory; ZeRO 1 to 3
    ema_decay: float = 0.999
    max_skipped_steps: int = 10  # non-finite ones of the last 100 steps; one more stops the run
    workers: int = 2  # processes that make batches, per rank
    log_every: int = 10
    validate_every: int = 1000
    checkpoint_every: int = 1000
    failed_checkpoint: str = "go_on"  # or stop: what to do when one cannot be written, as on a full disk
    keep_last: int = 2  # checkpoints
    keep_every: int = 0  # steps; a checkpoint at a multiple of this is kept for good; 0 keeps none
    watchdog_s: float = 1800.0  # without any progress, after which all ranks tell where they stand and end; 0: never
    deepspeed: dict[str, Any] = field(default_factory=dict)  # raw DeepSpeed keys, added to ours
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not '{self.precision}'")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ValueError(f"zero_stage must be 0, 1, 2 or 3, not {self.zero_stage}")
        if self.offload_optimizer and not self.zero_stage:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.failed_checkpoint not in FAILED_CHECKPOINT:
            known = " or ".join(FAILED_CHECKPOINT)
            raise ValueError(f"failed_checkpoint must be {known}, not '{self.failed_checkpoint}'")
        if not 1 <= self.loss_scale <= MOST_LOSS_SCALE:
            raise ValueError(f"loss_scale must lie in [1, 2^24], not be {self.loss_scale}")
        if not self.watchdog_s >= 0:
            raise ValueError(f"watchdog_s must be 0 or more, not {self.watchdog_s}")
        for name in (
            "steps",
            "global_batch",
            "max_micro_batch",
            "log_every",
            "validate_every",
            "checkpoint_every",
            "keep_last",
            "loss_scale_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 <= self.max_skipped_steps < RECENT_STEPS:
            raise ValueError(f"max_skipped_steps must lie in [0, {RECENT_STEPS}), not be {self.max_skipped_steps}")
        for name in ("workers", "keep_every", "shards_until", "bad_share"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), not {self.ema_decay}")

    def manifest(self) -> Manifest:
        """The shards' manifest, with what reads them. Pins the shards that there are, unless that is done."""
        cache = Cache(self.cache, int(self.cache_gb * 1e9)) if self.cache else None
        made = Manifest.load(self.shards, Store(self.shards, cache))
        self.shards_until = self.shards_until or made.shards_until
        return made

    def sampling(self) -> SamplingConfig:
        """Which clips training examples are drawn from."""
        return SamplingConfig(self.train_split, self.seed, self.where, dict(self.repeats), self.shards_until)

    def validation_sampling(self) -> SamplingConfig:
        """Which clips are validated on: every clip of the split once, whatever the filter of the training clips."""
        return SamplingConfig(self.validation_split, shards_until=self.shards_until, once=True)
