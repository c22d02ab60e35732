"""The recipe of stage 1: train the speech-to-motion diffusion model (mytalk/motion.py)."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from data_pipeline import clips
from data_pipeline.examples import MotionBatch, MotionExamples, WindowConfig
from data_pipeline.manifest import Manifest
from mytalk import config, diffusion, motion
from mytalk.motion import MotionConfig, MotionModel
from train import loop, pictures
from train.config import LoopConfig
from train.ranks import Ranks


@dataclass
class MotionTrainConfig(LoopConfig):
    """Keys of `python -m train motion` beyond those of every recipe."""

    shards: str = "data/shards"
    train_split: str = "train"
    validation_split: str = "val"
    pictured_clips: int = 2
    sampling_steps: int = 30
    voice_stretch: float = 0.1  # augmentation: frequencies of a training voice are stretched by up to +- this
    window: WindowConfig = field(default_factory=WindowConfig)
    model: MotionConfig = field(default_factory=MotionConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.voice_stretch < 0.5:
            raise ValueError(f"voice_stretch must lie in [0, 0.5), not {self.voice_stretch}")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train motion`."""
    return loop.arguments(
        "motion",
        "Train the speech-to-motion diffusion model from shards.",
        "shards=data/shards run=runs/mine steps=500",
    )


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(MotionTrainConfig, args.config, args.settings)
    return loop.start(settings, lambda: MotionRecipe(settings))


class MotionRecipe:
    """One player, the denoiser with its encoders; the loss is L1 on x0 and on the noise derived from it."""

    name = "motion"

    def __init__(self, settings: MotionTrainConfig):
        self.settings = settings
        self.manifest = Manifest.load(Path(settings.shards))
        self.examples = MotionExamples(
            self.manifest, settings.train_split, settings.window, settings.seed, settings.voice_stretch
        )
        self.validation = MotionExamples(self.manifest, settings.validation_split, settings.window, seed=0)

    def modules(self) -> dict[str, nn.Module]:
        return {"motion": MotionModel(self.settings.model)}

    def make_batch(self) -> MotionExamples:
        return self.examples

    def fixed(self) -> dict[str, Any]:
        return {
            "selection": self.examples.selection.digest,
            "window": asdict(self.settings.window),
            "voice_stretch": self.settings.voice_stretch,
            "model": asdict(self.settings.model),
        }

    def loss(self, player: str, networks: loop.Networks, batch: MotionBatch) -> torch.Tensor:
        made = motion.prepare(
            batch.landmarks_BTN2, batch.mask_BT, batch.source_BUN2, batch.source_mask_BU, self.settings.model
        )
        noised_BTK2 = diffusion.add_noise(made.motion_BTK2, batch.t_B, batch.noise_BTK2)
        predicted_BTK2 = networks[player](
            noised_BTK2,
            batch.t_B,
            made,
            batch.mask_BT,
            batch.audio_BS,
            batch.source_mask_BU,
            batch.source_audio_BS,
            batch.voice_B,
        )
        return diffusion.x0_eps_loss(made.motion_BTK2, predicted_BTK2, batch.t_B, batch.mask_BT)

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        """The loss on every validation clip once, each at a time and noise of its own that never change."""
        total = torch.zeros((), dtype=torch.float64, device=ranks.device)
        for slot in range(ranks.rank, len(self.validation), ranks.world_size):
            batch = self.validation([slot]).to(ranks.device)
            total += self.loss("motion", models, batch).double().sum()
        dist.all_reduce(total)
        return {"loss": total.item() / len(self.validation)}

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """Clips of people who are not trained on, one a person: truth, result, and their opening curves."""
        model = models["motion"]
        assert isinstance(model, MotionModel)
        shown = {}
        people = sorted(self.validation.rows_of)[: self.settings.pictured_clips]
        for person in people:
            row = self.validation.rows_of[person][0]
            source = self.validation.source_place(0, row)
            truth_TN2 = clips.read_landmarks(self.manifest, row, 0, int(self.validation.frames[row]))
            audio_S = clips.read_audio(self.manifest, row, 0, len(truth_TN2))
            source_UN2 = clips.read_landmarks(self.manifest, *source)
            heard_S = clips.read_audio(self.manifest, *source)
            result_TN2 = motion.generate(
                model, truth_TN2, source_UN2, audio_S, 0, self.settings.sampling_steps, source_audio_S=heard_S
            )
            shown[f"{self.settings.validation_split}/{person}"] = pictures.compare(truth_TN2, result_TN2)
        return shown

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path) -> None:
        motion.save_model(states["motion"], self.settings.model, folder)
