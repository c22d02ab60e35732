"""The recipe that makes a trained motion model quick: what it samples in many steps, a copy learns to say in one.

The teacher solves the probability-flow ODE of mytalk/networks/diffusion.py from a start noise; the student begins as
the teacher and predicts the end of that path from the same noise (Luhman & Luhman 2021, "Knowledge distillation in
iterative generative models"). The guidance of speech that the teacher is sampled with is learnt as well. Clips are
needed for their speech and sources alone: the truth of their mouths teaches nothing here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from data_pipeline.examples.motion import MotionBatch
from data_pipeline.sample.windows import WindowConfig
from mytalk import config
from mytalk.command import UserError
from mytalk.networks import diffusion, weights
from mytalk.networks.motion import generation
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import load_model
from mytalk.networks.motion.network import MotionModel
from mytalk.networks.slot_dropout import no_dropout
from mytalk.settings import setting
from train import cli
from train.config import LoopConfig
from train.recipe import Loss, Networks
from train.recipes.motion import MotionRecipe, MotionTrainConfig

STEPS = 1  # of a student


@dataclass
class DistilTrainConfig(LoopConfig):
    """Keys of `python -m train distil` beyond those of every recipe; sizes and identity encoder are the teacher's."""

    run: str = "runs/distil"
    teacher: str = setting("", "model folder of the trained motion model (run/model of train motion)")
    teacher_steps: int = setting(16, "of its sampler, which the student says in one", unit="steps", at_least=2)
    teacher_guidance: float = setting(1.0, "of its speech, see dub --guidance", at_least=1)
    pictured_clips: int = setting(2, "validation clips drawn in TensorBoard", unit="clips", at_least=0)
    scored_clips: int = setting(
        24, "validation clips generated to be scored as eval motion does, evenly over people", unit="clips", at_least=0
    )
    voice_stretch: float = setting(0.1, "as in motion", at_least=0, below=0.5)
    recorded: float = setting(0.0, "as in motion", at_least=0, at_most=1)
    source_sound_dropout: float = setting(0.0, "as in motion", at_least=0, below=1)
    source_dropout: float = setting(0.0, "as in motion", at_least=0, below=1)
    window: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.init_from = self.init_from or self.teacher

    def of_motion(self, teacher: MotionConfig) -> MotionTrainConfig:
        """The settings of the motion recipe, with what follows from the teacher's."""
        shared = {one.name: getattr(self, one.name) for one in fields(self) if one.name in _SHARED}
        return MotionTrainConfig(
            **shared,
            model=replace(teacher, extractor_width=0, features_width=0),
            identity=str(Path(self.teacher) / weights.EXTRACTOR) if teacher.extractor_width else "",
            identity_loss=0.0,
            scoring_steps=STEPS,
            sampling_steps=STEPS,
        )


_SHARED = {one.name for one in fields(MotionTrainConfig)}


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train distil`."""
    words = "Train a motion model that says in one step what its teacher samples in many."
    example = "teacher=runs/motion/model shards=data/shards run=runs/distil steps=200"
    return cli.arguments("distil", words, example, DistilTrainConfig)


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(DistilTrainConfig, args.config, args.settings)

    def refuse_missing() -> None:
        teacher_of(settings)

    return cli.start(settings, lambda: DistilRecipe(settings), args, refuse_missing)


def teacher_of(settings: DistilTrainConfig) -> MotionModel:
    """The teacher, guided as it is asked for.

    Raises UserError where there is none, or where speech or source are to miss that it was never without.
    """
    if not settings.teacher:
        raise UserError("name the trained motion model that is to become quick: teacher=runs/motion/model")
    teacher = load_model(settings.teacher).requires_grad_(False)
    if settings.teacher_guidance != 1 and not teacher.knows_no_speech:
        raise UserError(
            f"teacher_guidance needs a teacher trained with speech_dropout, which {settings.teacher} was not; leave it "
            "out"
        )
    if settings.source_dropout and not teacher.knows_no_source:
        raise UserError(f"source_dropout: {settings.teacher} was trained without it and cannot teach it; leave it out")
    teacher.guidance = settings.teacher_guidance
    return teacher


class DistilRecipe(MotionRecipe):
    """One player, the student; the loss is L1 between what it says of a noise in one step and the teacher's end."""

    name = "distil"

    def __init__(self, settings: DistilTrainConfig):
        self.own, self.teacher = settings, teacher_of(settings)
        of_motion = settings.of_motion(self.teacher.config)
        super().__init__(of_motion)
        settings.shards_until = of_motion.shards_until  # pinned by reading the manifest

    def deviation(self) -> torch.Tensor | None:
        return self.teacher.deviation_K2

    def fixed(self) -> dict[str, Any]:
        own = {"teacher": weights.digest(self.own.teacher), "teacher_steps": self.own.teacher_steps}
        return {**super().fixed(), **own, "teacher_guidance": self.own.teacher_guidance}

    def teachers(self) -> dict[str, str]:
        return {**super().teachers(), "teacher": self.own.teacher}

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "sampling_steps": STEPS}

    def loss(self, networks: Networks, batch: MotionBatch) -> Loss:
        conditions, _ = self.conditions(batch)
        self.teacher.to(batch.noise_BTK2)
        with torch.no_grad():
            denoise = generation.denoiser(self.teacher, replace(conditions, drop=no_dropout))
            times, sampler = self.model.times, self.model.sampler
            wanted_BTK2 = diffusion.sample(denoise, batch.noise_BTK2, self.own.teacher_steps, times, sampler)
        first_B = torch.ones_like(batch.t_B)
        said_BTK2 = networks["motion"](batch.noise_BTK2 / diffusion.START_TEMPERATURE, first_B, conditions)
        unit_K2 = self.unit(wanted_BTK2)
        return Loss(diffusion.x0_error(wanted_BTK2 * unit_K2, said_BTK2 * unit_K2, batch.mask_BT))
