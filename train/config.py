"""The configuration that every recipe shares. Each recipe adds its model and data (see train/recipes/motion.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards.manifest import Manifest
from data_pipeline.storage.cache import Cache
from data_pipeline.storage.store import Store
from mytalk.settings import Settings, setting

PRECISIONS = ("fp32", "bf16", "fp16")
SCHEDULES = ("constant", "inverse_sqrt", "cosine")
FAILED_CHECKPOINT = ("go_on", "stop")
MOST_LOSS_SCALE = 2.0**24
SCORED_SPLIT = "unseen"  # of `eval`: who is scored there may choose nothing here
RECENT_STEPS = 100  # steps among which those that are not finite are counted


@dataclass
class OptimizerConfig(Settings):
    """AdamW and its learning rate over steps."""

    part = "optimizer"

    lr: float = setting(1e-4, "the learning rate after warm-up", above=0)
    betas: tuple[float, float] = setting((0.9, 0.98), "decay of Adam's two moments", at_least=0, below=1)
    eps: float = setting(1e-8, "added to Adam's denominator; gradients below it are noise", above=0)
    weight_decay: float = setting(0.0, "of matrices and kernels; biases and gains of norms do not decay", at_least=0)
    schedule: str = setting("inverse_sqrt", "of the learning rate after warm-up", choices=SCHEDULES)
    warmup_steps: int = setting(8000, "over which the learning rate rises to lr", unit="steps", at_least=0)
    clip_norm: float = setting(1.0, "the largest norm of the global gradient; 0 clips nothing", at_least=0)

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
class LoopConfig(Settings):
    """Keys of every recipe: the run's folder, data, length, batch and precision."""

    run: str = setting("runs/unnamed", "folder of checkpoints, curves and model; an existing run is resumed")
    shards: str = setting("data/shards", "folder or URL of shards with a manifest")
    train_split: str = setting("train", "the split that is trained on")
    validation_split: str = setting("val", "the split that is validated on")
    where: str = setting("", 'filter of the training clips, such as "face_px >= 96 and yaw_deg < 30"; empty: all')
    repeats: dict[str, float] = setting({}, "how often a corpus's clips come; default 1, 0 leaves it out")
    shards_until: int = setting(0, "only shards numbered below; 0: those there when the run begins", at_least=0)
    bad_share: float = setting(0.01, "share of a corpus's clips that may be damaged; one always may", at_least=0)
    accept_changes: bool = setting(False, "resume although the data, or how examples are drawn, have changed")
    cache: str = setting("", "folder on this node for a copy of what is read from remote shards; empty: none")
    cache_gb: float = setting(100.0, "the most that all processes of the node keep in the cache", unit="GB")
    steps: int = setting(100_000, "length of the run", unit="steps", at_least=1)
    global_batch: int = setting(32, "examples per optimizer step, over all processes", unit="examples", at_least=1)
    max_micro_batch: int = setting(32, "the most examples that fit one process at once", unit="examples", at_least=1)
    batch_by_length: bool = setting(
        False,
        "whether micro-batches hold about as many frames instead of as many examples, so that less is padding and no "
        "process waits for one with longer examples; at most max_micro_batch of the longest window",
    )
    seed: int = setting(0, "of weights, examples and noise")
    init_from: str = setting("", "a model, checkpoint or run folder whose fitting weights a new run starts with")
    precision: str = setting("fp32", "of forward and backward; weights and moments are always fp32", choices=PRECISIONS)
    loss_scale: float = setting(
        65536.0, "fp16: first factor of the loss; halved when gradients overflow", at_least=1, at_most=MOST_LOSS_SCALE
    )
    loss_scale_steps: int = setting(
        2000, "fp16: the loss scale is doubled after so many steps without an overflow", unit="steps", at_least=1
    )
    zero_stage: int = setting(
        0,
        "DeepSpeed ZeRO divides among the ranks: 0 nothing, 1 moments, 2 + gradients, 3 + weights",
        choices=(0, 1, 2, 3),
    )
    offload_optimizer: bool = setting(False, "moments and the optimizer's step in the machine's memory; ZeRO 1 to 3")
    overlap_comm: bool = setting(False, "gradients are exchanged while the backward pass goes on; ZeRO 1 to 3")
    ema_decay: float = setting(0.999, "of the averaged weights, which are validated and exported", at_least=0, below=1)
    max_skipped_steps: int = setting(
        10, f"non-finite steps of the last {RECENT_STEPS}; one more stops the run", at_least=0, below=RECENT_STEPS
    )
    workers: int = setting(2, "processes that make batches, per rank", at_least=0)
    log_every: int = setting(10, "how often TensorBoard gets values", unit="steps", at_least=1)
    validate_every: int = setting(1000, "how often the model is validated", unit="steps", at_least=1)
    keep_best: str = setting(
        "", "score of validation whose best step is exported, such as loss; its people choose; empty: the last step"
    )
    patience: int = setting(
        0, "validations in a row without a better keep_best after which the run ends; 0: never", at_least=0
    )
    checkpoint_every: int = setting(1000, "how often a checkpoint is written", unit="steps", at_least=1)
    failed_checkpoint: str = setting(
        "go_on", "what to do when a checkpoint cannot be written, as on a full disk", choices=FAILED_CHECKPOINT
    )
    keep_last: int = setting(2, "checkpoints that are kept", unit="checkpoints", at_least=1)
    keep_every: int = setting(
        0, "checkpoints at multiples of this are kept for good; 0: none", unit="steps", at_least=0
    )
    watchdog_s: float = setting(
        1800.0,
        "without progress for so long, every rank writes its stacks and the run ends; 0: never",
        unit="s",
        at_least=0,
    )
    deepspeed: dict[str, Any] = setting({}, "further DeepSpeed keys, added to those made from ours")
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.offload_optimizer and not self.zero_stage:
            raise ValueError("offload_optimizer needs zero_stage 1, 2 or 3")
        if self.overlap_comm and not self.zero_stage:
            raise ValueError("overlap_comm needs zero_stage 1, 2 or 3")
        if self.patience and not self.keep_best:
            raise ValueError("patience needs keep_best, the score that it counts by")
        if self.keep_best and self.validation_split in (self.train_split, SCORED_SPLIT):
            raise ValueError(
                f"keep_best chooses by the people of validation_split, which must be neither those of "
                f"'{self.train_split}', who are learnt, nor of '{SCORED_SPLIT}', who are scored: name another split"
            )

    def manifest(self) -> Manifest:
        """The shards' manifest, with what reads them. Pins the shards that there are, unless that is done."""
        cache = Cache(self.cache, int(self.cache_gb * 1e9)) if self.cache else None
        manifest = Manifest.load(self.shards, Store(self.shards, cache))
        self.shards_until = self.shards_until or manifest.shards_until
        return manifest

    def sampling(self) -> SamplingConfig:
        """Which clips training examples are drawn from."""
        return SamplingConfig(self.train_split, self.seed, self.where, dict(self.repeats), self.shards_until)

    def validation_sampling(self) -> SamplingConfig:
        """Which clips are validated on: every clip of the split once, whatever the filter of the training clips."""
        return SamplingConfig(self.validation_split, shards_until=self.shards_until, once=True)
