"""Settings of a run: learning rates in closed form, and settings that cannot be."""

from __future__ import annotations

import math

import pytest

from train.config import LoopConfig, OptimizerConfig
from train.recipes.appearance import AppearanceTrainConfig
from train.recipes.identity import IdentityTrainConfig
from train.recipes.motion import MotionTrainConfig
from train.recipes.reader import ReaderTrainConfig
from train.recipes.syncnet import SyncTrainConfig


def test_learning_rates_in_closed_form():
    """Linear warm-up to lr; then lr sqrt(w / n), a half cosine to 0, or lr, n being the steps taken with this one."""
    for schedule in ("inverse_sqrt", "cosine", "constant"):
        rates = OptimizerConfig(lr=2.0, schedule=schedule, warmup_steps=100)
        for step in (0, 49, 98):
            assert rates.lr_at(step, 1100) == pytest.approx(2.0 * (step + 1) / 100)
        assert rates.lr_at(99, 1100) == pytest.approx(2.0)
        assert OptimizerConfig(lr=2.0, schedule=schedule, warmup_steps=0).lr_at(0, 10) == pytest.approx(2.0)
    inverse = OptimizerConfig(lr=2.0, schedule="inverse_sqrt", warmup_steps=100)
    assert inverse.lr_at(399, 1100) == pytest.approx(1.0)
    assert inverse.lr_at(9999, 1100) == pytest.approx(0.2)
    cosine = OptimizerConfig(lr=2.0, schedule="cosine", warmup_steps=100)
    assert cosine.lr_at(100 + 250, 1100) == pytest.approx(1 + math.sqrt(0.5))
    assert cosine.lr_at(100 + 500, 1100) == pytest.approx(1.0)
    assert cosine.lr_at(1100, 1100) == pytest.approx(0.0, abs=1e-12)
    assert cosine.lr_at(5000, 1100) == pytest.approx(0.0, abs=1e-12), "past the end it does not rise again"
    assert OptimizerConfig(lr=2.0, schedule="constant", warmup_steps=100).lr_at(5000, 1100) == 2.0


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: OptimizerConfig(schedule="linear"), "constant, inverse_sqrt or cosine"),
        (lambda: OptimizerConfig(lr=0), "lr must be above 0"),
        (lambda: LoopConfig(precision="fp8"), "fp32, bf16 or fp16"),
        (lambda: LoopConfig(offload_optimizer=True), "offload_optimizer needs zero_stage"),
        (lambda: LoopConfig(overlap_comm=True), "overlap_comm needs zero_stage"),
        (lambda: LoopConfig(failed_checkpoint="pray"), "failed_checkpoint must be go_on or stop"),
        (lambda: LoopConfig(loss_scale=0.5), r"loss_scale must lie in \[1, 2\^24\]"),
        (lambda: LoopConfig(watchdog_s=-1), "watchdog_s must be 0 or more"),
        (lambda: LoopConfig(loss_scale_steps=0), "loss_scale_steps must be 1 or more"),
        (lambda: LoopConfig(zero_stage=4), "0, 1, 2 or 3"),
        (lambda: LoopConfig(steps=0), "steps must be 1 or more"),
        (lambda: LoopConfig(checkpoint_every=0), "checkpoint_every must be 1 or more"),
        (lambda: LoopConfig(keep_last=0), "keep_last must be 1 or more"),
        (lambda: LoopConfig(ema_decay=1.0), r"\[0, 1\)"),
        (lambda: OptimizerConfig(clip_norm=-1), "clip_norm must be 0 or more"),
        (lambda: OptimizerConfig(clip_norm=math.nan), "clip_norm must be 0 or more"),
        (lambda: OptimizerConfig(betas=(0.9, 1.0)), r"betas must lie in \[0, 1\)"),
        (lambda: OptimizerConfig(betas=(-0.1, 0.9)), r"betas must lie in \[0, 1\)"),
        (lambda: OptimizerConfig(eps=0), "eps must be above 0"),
        (lambda: OptimizerConfig(warmup_steps=-1), "warmup_steps must be 0 or more"),
        (lambda: OptimizerConfig(weight_decay=-0.1), "weight_decay must be 0 or more"),
        (lambda: LoopConfig(workers=-1), "workers must be 0 or more"),
        (lambda: LoopConfig(keep_every=-1), "keep_every must be 0 or more"),
        (lambda: LoopConfig(max_skipped_steps=-1), "max_skipped_steps must lie in"),
        (lambda: LoopConfig(max_skipped_steps=100), "max_skipped_steps must lie in"),
        (lambda: MotionTrainConfig(sampling_steps=0), "sampling_steps must be 1 or more"),
        (lambda: MotionTrainConfig(pictured_clips=-1), "pictured_clips must be 0 or more"),
        (lambda: SyncTrainConfig(pictured_clips=-1), "pictured_clips must be 0 or more"),
    ],
)
def test_impossible_settings_are_refused(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_each_recipe_has_a_run_folder_of_its_own():
    schemas = (IdentityTrainConfig, SyncTrainConfig, MotionTrainConfig, ReaderTrainConfig, AppearanceTrainConfig)
    assert len({schema().run for schema in schemas}) == len(schemas)
