"""What the contestants of this benchmark train: jobs of settings, and the shards for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import talkers
from data_pipeline.sample.batch_plan import divide
from mytalk import command, config
from train.recipe import Recipe
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig
from train.recipes.motion import MotionRecipe, MotionTrainConfig

RECIPES: dict[str, tuple[type, Callable[[Any], Recipe]]] = {
    "motion": (MotionTrainConfig, MotionRecipe),
    "appearance": (AppearanceTrainConfig, AppearanceRecipe),
}
SMALL = {  # 6.6 M parameters, 0.3 s a step; and a generator of 0.6 M
    "motion": [
        "window={min_frames: 50, max_frames: 50, source_frames: 50}",
        "model={width: 192, heads: 4, layers: 4, hidden: 512, speech_layers: 2, identity_layers: 1}",
        *("global_batch=8", "max_micro_batch=4", "workers=1"),
    ],
    "appearance": [
        "model={window_px: [128, 192], stem: 4, channels: [32, 64, 96], blocks: [0, 1, 1], heads: 4}",
        *("model.discriminator_channels=16", "references.count=2", "global_batch=4", "workers=1"),
    ],
}
NEVER = 10**9
COMMON = ["validation_split=train", f"validate_every={NEVER}", f"checkpoint_every={NEVER}", "ema_decay=0.999"]


@dataclass(frozen=True)
class Job:
    """What a contestant does: `play` is one of PLAYS. The rest is as `python -m train RECIPE` takes it."""

    play: str
    recipe: str = "motion"
    file: str | None = None
    settings: tuple[str, ...] = ()

    def config(self) -> Any:
        return config.load(RECIPES[self.recipe][0], self.file, self.settings)

    def told(self, *settings: str, play: str = "") -> Job:
        """The same with more settings."""
        return replace(self, play=play or self.play, settings=(*self.settings, *settings))


def base_job(args: argparse.Namespace, folder: Path) -> Job:
    """The motion run that is measured; later settings win."""
    small = () if args.config else SMALL["motion"]
    return Job("loop", "motion", args.config, (*small, *COMMON, f"shards={folder / 'motion'}", "identity="))


def mfu_jobs(args: argparse.Namespace, folder: Path) -> list[Job]:
    """What MFU is measured of. All windows are of full length: what pads a batch would count as work."""
    jobs: list[Job] = []
    for file in args.mfu_config or [None, None]:
        recipe = Path(file).stem.split("_")[-1] if file else list(SMALL)[len(jobs) % len(SMALL)]
        if recipe not in RECIPES:
            raise command.UserError(f"--mfu-config {file}: a file's name must end in motion.yaml or appearance.yaml")
        settings = (*(() if file else SMALL[recipe]), *COMMON, f"shards={folder / recipe}")
        job = Job("loop", recipe, file, settings)
        if recipe == "motion":
            job = job.told(f"window.min_frames={job.config().window.max_frames}", "identity=")
        else:
            job = job.told("adversarial_from_step=0")
        jobs.append(job)
    return [at_micro_batch(job, micro) for job in jobs for micro in args.micro_batches]


def at_micro_batch(job: Job, micro_batch: int) -> Job:
    """The job with exactly this micro-batch, and about as many examples a step."""
    accumulation = max(1, round(job.config().global_batch / micro_batch))
    return job.told(f"max_micro_batch={micro_batch}", f"global_batch={micro_batch * accumulation}")


def write_shards(folder: Path, jobs: list[Job]) -> None:
    """Talkers whose clips are long enough for every window; a few with videos where the appearance is measured."""
    windows = [job.config().window for job in jobs if job.recipe == "motion"]
    frames = max(length for window in windows for length in (window.max_frames, window.source_frames))
    talkers.write(folder / "motion", None, 12, frames + 50)
    if any(job.recipe == "appearance" for job in jobs):
        talkers.write(folder / "appearance", folder / "files", 8, 60)


def described(job: Job) -> str:
    made = job.config()
    divided = divide(made.global_batch, made.max_micro_batch, 1)
    return f"motion of {divided.accumulation} micro-batches of {divided.micro_batch} in {made.precision}"
