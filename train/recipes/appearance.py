"""The recipe of stage 2: train the appearance generator (mytalk/networks/appearance), against a PatchGAN or alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from data_pipeline.examples.appearance import AppearanceBatch, AppearanceExamples, ReferenceConfig
from data_pipeline.examples.previous_frame import PreviousConfig
from data_pipeline.examples.windows import PREDICTED
from data_pipeline.sample.selection import select
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import requirements
from mytalk import config
from mytalk.networks.appearance import inputs
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.discriminator import Discriminator
from mytalk.networks.appearance.files import save_model
from mytalk.networks.appearance.generator import Generator
from mytalk.settings import setting
from train import cli, validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Loss, Networks, Player, Recipe, Validated
from train.recipes.adversary import Adversary
from train.recipes.appearance_inputs import GeneratorInputs, prepare
from train.recipes.appearance_losses import (
    LossConfig,
    Perceptual,
    Reading,
    Sync,
    between_lips,
    masked_mean,
    mouth_box,
    pyramid_l1,
    refuse_missing,
    with_gradient,
)


@dataclass
class AppearanceTrainConfig(LoopConfig):
    """Keys of `python -m train appearance` beyond those of every recipe."""

    run: str = "runs/appearance"
    pictured_people: int = setting(2, "people of the validation split drawn in TensorBoard", at_least=1)
    references: ReferenceConfig = field(default_factory=ReferenceConfig)
    mouth_weight: float = setting(1.0, "of L1 in the box round the mouth, beside L1 in the region", at_least=0)
    adversarial_weight: float = setting(
        0.5, "times the ratio of gradients (latent-diffusion); 0: there is no discriminator", at_least=0
    )
    discriminator_lr: float = setting(0.0, "its learning rate; 0: optimizer.lr is both players'", at_least=0)
    adversarial_from_step: int = setting(
        0, "from which the generator plays against the discriminator", unit="steps", at_least=0
    )
    discriminator_from_step: int = setting(
        0, "from which the discriminator learns; before, its loss is 0", unit="steps", at_least=0
    )
    predicted_landmarks: float = setting(
        0.0, "share of examples that show the column `predicted` in place of true landmarks", at_least=0, at_most=1
    )
    wide_mouths: float = setting(
        0.0,
        "share of examples that show, of a few frames drawn from their clip, that with the widest open mouth",
        at_least=0,
        at_most=1,
    )
    previous: PreviousConfig = field(default_factory=PreviousConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    model: AppearanceConfig = field(default_factory=AppearanceConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.losses.sync and self.model.previous_frame:
            raise ValueError("losses.sync paints a window at once, and model.previous_frame one frame after another")
        if self.losses.wrong_landmarks and not self.model.discriminator_landmarks:
            raise ValueError("losses.wrong_landmarks needs model.discriminator_landmarks=true")
        if not self.adversarial_weight and (self.losses.feature_matching or self.losses.wrong_landmarks):
            raise ValueError(
                "losses.feature_matching and losses.wrong_landmarks need a discriminator, which "
                "adversarial_weight=0 leaves out"
            )
        if self.discriminator_from_step > self.adversarial_from_step:
            raise ValueError(
                f"discriminator_from_step {self.discriminator_from_step} lies after adversarial_from_step "
                f"{self.adversarial_from_step}: the generator would play against an untrained one"
            )


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train appearance`."""
    words = "Train the generator that paints a lower face from landmarks and reference frames."
    return cli.arguments("appearance", words, "shards=data/shards run=runs/mine steps=500", AppearanceTrainConfig)


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(AppearanceTrainConfig, args.config, args.settings)
    return cli.start(
        settings,
        lambda: AppearanceRecipe(settings),
        args,
        lambda: refuse_missing(settings.losses, settings.model.shape),
    )


class AppearanceRecipe(Recipe):
    """The generator (L1, adversarial and the losses of LossConfig) and, with a weight, the discriminator (hinge)."""

    name = "appearance"
    scores = MappingProxyType({"l1": "lower", "psnr_db": "higher"})

    def __init__(self, settings: AppearanceTrainConfig):
        self.settings = settings
        self.adversary = Adversary(settings) if settings.adversarial_weight else None
        manifest, losses = settings.manifest(), settings.losses
        drawn = settings.sampling()
        rows_n = select(manifest, drawn.split, (), drawn.where, drawn.shards_until, drawn.repeats).rows_n
        painted = np.unique(manifest.column("corpus")[rows_n]).tolist()
        self.sync = Sync(losses, painted) if losses.sync else None
        self.examples = AppearanceExamples(
            manifest,
            settings.sampling(),
            settings.model,
            settings.references,
            losses.wrong_landmarks,
            settings.predicted_landmarks,
            settings.wide_mouths,
            settings.previous,
            sync_share=losses.sync_share if self.sync else 0.0,
            sync_frames=self.sync.window_frames if self.sync else 0,
        )
        self.perceptual = None
        if losses.perceptual:
            self.perceptual = Perceptual(losses.perceptual_step, settings.model.shape)
        self.reading = Reading(losses, settings.model.size_px) if losses.reading else None
        self.validation = AppearanceExamples(
            manifest, settings.validation_sampling(), settings.model, settings.references, previous=settings.previous
        )
        for examples in (self.examples, self.validation):
            requirements.refuse_other_crops(manifest, examples.selection.rows_n)
            requirements.refuse_small_frames(manifest, examples.selection.rows_n, settings.model.size_px)

    def players(self) -> dict[str, Player]:
        optimizer, model = self.settings.optimizer, self.settings.model
        players = {"generator": Player(Generator(model), optimizer, self.generator_loss)}
        if self.adversary is not None:
            opposite = replace(optimizer, lr=self.settings.discriminator_lr or optimizer.lr)
            discriminator = Player(Discriminator(model), opposite, self.adversary.loss, after="generator")
            players["discriminator"] = discriminator
        return players

    def fixed(self) -> dict[str, Any]:
        kept = ("mouth_weight", "adversarial_weight", "adversarial_from_step", "discriminator_from_step")
        return {
            "references": asdict(self.settings.references),
            "model": self._model(),
            "losses": self._losses(),
            **self._predicted(),
            **({"wide_mouths": self.settings.wide_mouths} if self.settings.wide_mouths else {}),
            **({"previous": asdict(self.settings.previous)} if self.settings.model.previous_frame else {}),
            **{name: getattr(self.settings, name) for name in kept},
        }

    def teachers(self) -> dict[str, str]:
        teaching = {"reader": self.reading, "syncnet": self.sync}
        return {name: getattr(self.settings.losses, name) for name, loss in teaching.items() if loss is not None}

    def _losses(self) -> dict[str, Any]:
        """Their settings; those of sync only where it has a weight, with what the manifest says of speech."""
        told = asdict(self.settings.losses)
        if self.examples.spoken is None:
            return {name: value for name, value in told.items() if name not in ("sync", "sync_share", "syncnet")}
        return {**told, "speech": self.examples.spoken.digest}

    def _model(self) -> dict[str, Any]:
        """Its settings; those of time only where it sees any, so that runs of before go on."""
        told, plain = asdict(self.settings.model), AppearanceConfig()
        unused = [name for name in ("landmark_frames", "previous_frame") if told[name] == getattr(plain, name)]
        return {name: value for name, value in told.items() if name not in unused}

    def _predicted(self) -> dict[str, Any]:
        """The share of predicted landmarks, and what wrote them; nothing without, as in runs of before."""
        share = self.settings.predicted_landmarks
        made_by = self.examples.manifest.later(PREDICTED).get("made_by") if share else None
        return {"predicted_landmarks": {"share": share, "made_by": made_by}} if share else {}

    def generator_loss(self, networks: Networks, batch: AppearanceBatch) -> Loss:
        """Reconstruction and adversarial. The output is the painted picture, (B, 3, H, W), detached.

        All losses are taken on the detached painting, so that each example's weight can be computed; their joint
        gradient then goes back through the generator once.
        """
        every, painted_F3HW = self.painted(networks["generator"], batch)
        count = len(batch.frame_B3HW)
        still, near = (part.detach().requires_grad_() for part in painted_F3HW.tensor_split([count]))
        seen = every.targets(count)
        composed = inputs.blend(still, batch.frame_B3HW, seen.soft_B1HW)
        loss_B, terms = self.reconstruction(still, composed, batch, seen)
        if self.sync is not None:
            sync_B = self.out_of_sync(torch.cat([still, near]), batch, every)
            loss_B, terms["sync"] = loss_B + self.settings.losses.sync * sync_B, sync_B
        gradient, *of_near = torch.autograd.grad(loss_B.sum(), [still, near][: 1 + bool(len(near))], retain_graph=True)
        if self.adversary is not None:
            judge = networks["discriminator"]
            played_B, push, told = self.adversary.played(judge, still, composed, gradient, batch, seen)
            loss_B, gradient, terms = loss_B + played_B, gradient + push, terms | told
        gradient_F3HW = torch.cat([gradient, *of_near])
        return Loss(with_gradient(loss_B, painted_F3HW, gradient_F3HW, every.example_B), terms, composed.detach())

    def out_of_sync(self, painted_F3HW: torch.Tensor, batch: AppearanceBatch, seen: GeneratorInputs) -> torch.Tensor:
        """How far each example's window is from its speech, 0 where it has none: (B,).

        By the share of examples that have one, so that the weight of this loss does not depend on that.
        """
        distance_B = painted_F3HW.new_zeros(len(batch.frame_B3HW))
        if batch.window_JW is None:
            return distance_B
        assert self.sync is not None
        assert batch.speech_JS is not None
        order_K, target_J = batch.window_JW.flatten(), batch.window_JW.amin(1)  # near frames come after all targets
        composed = inputs.blend(painted_F3HW, seen.frame_B3HW, seen.soft_B1HW)
        distance_J = self.sync(composed[order_K], seen.landmarks_BN2[order_K], batch.speech_JS).to(distance_B.dtype)
        return distance_B.index_add(0, target_J, distance_J / self.settings.losses.sync_share)

    def painted(self, generator: Callable[..., Any], batch: AppearanceBatch) -> tuple[GeneratorInputs, torch.Tensor]:
        """What the generator sees of a batch, and what it paints: (B, 3, H, W), not yet composed with frames."""
        with torch.autocast(batch.frame_B3HW.device.type, enabled=False):
            seen = prepare(batch, self.settings.model)
        made = generator(*seen.given())
        return seen, made.to(batch.frame_B3HW.dtype)

    def reconstruction(
        self, painted_B3HW: torch.Tensor, composed_B3HW: torch.Tensor, batch: AppearanceBatch, seen: GeneratorInputs
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum of what needs no discriminator, (B,), and its terms, (B,) each."""
        distance_B3HW = (painted_B3HW - batch.frame_B3HW).abs()
        box_B1HW = mouth_box(batch.landmarks_BN2, self.settings.model.shape)
        l1_B = masked_mean(distance_B3HW, seen.soft_B1HW)
        mouth_B = masked_mean(distance_B3HW, box_B1HW * seen.soft_B1HW)
        loss_B, terms = l1_B + self.settings.mouth_weight * mouth_B, {"l1": l1_B, "mouth_l1": mouth_B}
        losses = self.settings.losses
        if losses.inner_mouth:
            between_B1HW = between_lips(batch.landmarks_BN2, self.settings.model.shape)
            terms["inner_l1"] = masked_mean(distance_B3HW, between_B1HW * seen.soft_B1HW)
            loss_B = loss_B + losses.inner_mouth * terms["inner_l1"]
        if losses.pyramid:
            terms["pyramid"] = pyramid_l1(painted_B3HW, batch.frame_B3HW, seen.soft_B1HW)
            loss_B = loss_B + losses.pyramid * terms["pyramid"]
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(composed_B3HW, batch.frame_B3HW).to(loss_B.dtype)
            loss_B = loss_B + losses.perceptual * terms["perceptual"]
        if self.reading is not None:
            read_B = self.reading(composed_B3HW, batch.frame_B3HW, batch.landmarks_BN2)
            terms["reading"] = read_B.to(loss_B.dtype)
            loss_B = loss_B + losses.reading * terms["reading"]
        return loss_B, terms

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        """L1 (of the range -1 to 1) and PSNR in the region, a fixed frame and references of every validation clip."""

        def scores(slot: int) -> torch.Tensor:
            batch = self.validation([slot]).to(ranks.device)
            _, painted_B3HW = self.painted(models["generator"], batch)
            inside_B1HW = inputs.region_mask(batch.region_BV2, self.settings.model.shape)
            distance = (painted_B3HW - batch.frame_B3HW).abs()
            square_B = masked_mean(distance.square(), inside_B1HW).clamp(min=1e-10)
            psnr_B = 10 * torch.log10(4 / square_B)  # pixels span 2
            return torch.stack([masked_mean(distance, inside_B1HW)[0], psnr_B[0]])

        found_C2, read_C = validation.of_clips(scores, self.validation.lengths, ranks)
        return dict(zip(("l1", "psnr_db"), found_C2[read_C].mean(0).tolist()))

    def pictures(self, models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
        """One example of some people who are not trained on: references, the blacked-out frame, painting, truth."""
        slot_of: dict[str, int] = {}
        for slot, row in enumerate(self.validation.selection.rows_n.tolist()):
            slot_of.setdefault(str(self.validation.manifest.at(row, "identity")), slot)
        shown = {}
        for person in sorted(slot_of)[: self.settings.pictured_people]:
            try:
                batch = self.validation([slot_of[person]]).to(next(models["generator"].parameters()).device)
            except ClipError:  # a damaged clip has no picture
                continue
            seen, painted = self.painted(models["generator"], batch)
            tiles = [
                *seen.lips_BR3HW[0],
                seen.image_B3HW[0] * 2 - 1,
                seen.masked_B3HW[0],
                painted[0],
                batch.frame_B3HW[0],
            ]
            strip_3HW = ((torch.cat(tiles, -1) + 1) * 127.5).round().clamp(0, 255).byte()
            shown[f"{self.settings.validation_split}/{person}"] = strip_3HW.permute(1, 2, 0).cpu().numpy()
        return shown

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        save_model(states["generator"], self.settings.model, folder)
