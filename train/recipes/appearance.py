"""The recipe of stage 2: train the appearance generator against a PatchGAN (mytalk/networks/appearance.py)."""

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
from data_pipeline.shards import reader
from data_pipeline.shards.reader import ClipError
from mytalk import config
from mytalk.face.landmarks import MOUTH
from mytalk.networks import appearance
from mytalk.networks import appearance_inputs as inputs
from mytalk.networks.appearance import AppearanceConfig, Discriminator, Generator
from mytalk.settings import setting
from train import cli, validation
from train.config import LoopConfig
from train.engine.distributed import Ranks
from train.recipe import Loss, Networks, Player, Recipe, Validated

LARGEST_FACTOR = 1e4  # of the adaptive weight (latent-diffusion)
SMALL_GRADIENTS = 2.0**12  # of a picture's pixels: without it they vanish in fp16; a power of 2 is exact
MOUTH_MARGIN = 0.15  # of the mouth's width, round its landmarks


@dataclass
class AppearanceTrainConfig(LoopConfig):
    """Keys of `python -m train appearance` beyond those of every recipe."""

    run: str = "runs/appearance"
    pictured_people: int = setting(2, "people of the validation split drawn in TensorBoard", at_least=1)
    references: ReferenceConfig = field(default_factory=ReferenceConfig)
    mouth_weight: float = setting(1.0, "of L1 in the box round the mouth, beside L1 in the region", at_least=0)
    adversarial_weight: float = setting(0.5, "times the ratio of gradients (latent-diffusion)", at_least=0)
    discriminator_lr: float = setting(0.0, "its learning rate; 0: optimizer.lr is both players'", at_least=0)
    adversarial_from_step: int = setting(
        0, "from which the generator plays against the discriminator", unit="steps", at_least=0
    )
    model: AppearanceConfig = field(default_factory=AppearanceConfig)


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m train appearance`."""
    words = "Train the generator that paints a lower face from landmarks and reference frames."
    return cli.arguments("appearance", words, "shards=data/shards run=runs/mine steps=500", AppearanceTrainConfig)


def run(args: argparse.Namespace) -> int:
    """Train until done, stopped or refused; the exit code tells which."""
    settings = config.load(AppearanceTrainConfig, args.config, args.settings)
    return cli.start(settings, lambda: AppearanceRecipe(settings), args)


@dataclass(frozen=True)
class GeneratorInputs:
    """What the networks see of a batch, drawn and blacked out on its device. Shapes: mytalk/networks/appearance.py."""

    image_B3HW: torch.Tensor  # the landmarks
    lips_BR3HW: torch.Tensor
    masked_B3HW: torch.Tensor
    soft_B1HW: torch.Tensor  # 1 in the region, with the edge that the final picture has


def prepare(batch: AppearanceBatch, model: AppearanceConfig) -> GeneratorInputs:
    """Draw the landmarks and black out what each encoder may not see."""
    inside_B1HW = inputs.region_mask(batch.region_BV2, model.shape)
    lower_R1HW = inputs.region_mask(batch.reference_regions_BRV2.flatten(0, 1), model.shape)
    lips_R3HW = inputs.keep_region(batch.references_BR3HW.flatten(0, 1), lower_R1HW)
    return GeneratorInputs(
        image_B3HW=inputs.landmark_dots(batch.landmarks_BN2, model.shape),
        lips_BR3HW=lips_R3HW.unflatten(0, batch.references_BR3HW.shape[:2]),
        masked_B3HW=inputs.black_out(batch.frame_B3HW, inside_B1HW),
        soft_B1HW=inputs.soften(inside_B1HW, model.size_px),
    )


def mouth_box(landmarks_BN2: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """1 in the box round each mouth, with a margin: (B, 1, H, W). Landmarks in px of the picture."""
    mouth_BM2 = landmarks_BN2[:, MOUTH]
    low_B2, high_B2 = mouth_BM2.amin(1), mouth_BM2.amax(1)
    margin_B1 = MOUTH_MARGIN * (high_B2 - low_B2)[:, :1]
    low_B2, high_B2 = low_B2 - margin_B1, high_B2 + margin_B1
    box_BHW = torch.ones(len(mouth_BM2), *shape, device=mouth_BM2.device, dtype=mouth_BM2.dtype)
    for axis, length in ((0, shape[1]), (1, shape[0])):
        at_L = torch.arange(length, device=mouth_BM2.device) + 0.5
        within_BL = (at_L > low_B2[:, axis, None]) & (at_L < high_B2[:, axis, None])
        box_BHW = box_BHW * (within_BL[:, None, :] if axis == 0 else within_BL[:, :, None])
    return box_BHW[:, None]


def masked_mean(values_B3HW: torch.Tensor, weight_B1HW: torch.Tensor) -> torch.Tensor:
    """The weighted mean of each example over its channels and pixels: (B,)."""
    total_B = weight_B1HW.flatten(1).sum(1).clamp(min=1e-6)
    return (values_B3HW.mean(1, keepdim=True) * weight_B1HW).flatten(1).sum(1) / total_B


def adaptive_weight(reconstruction_B3HW: torch.Tensor, adversarial_B3HW: torch.Tensor) -> torch.Tensor:
    """Ratio of the norms of the gradients of both losses with respect to the picture, per example: (B,).

    Latent-diffusion's factor, there from the last layer's weights over the whole batch; from each picture
    instead, no example knows another, and no engine's hooks are passed.
    """
    norms = (gradient.flatten(1).norm(dim=1) for gradient in (reconstruction_B3HW, adversarial_B3HW))
    ours_B, theirs_B = norms
    return (ours_B / (theirs_B + 1e-6)).clamp(0, LARGEST_FACTOR)


def with_gradient(value_B: torch.Tensor, picture_B3HW: torch.Tensor, gradient_B3HW: torch.Tensor) -> torch.Tensor:
    """Losses of these values whose gradient with respect to the picture is the one given: (B,)."""
    surrogate_B = (picture_B3HW * gradient_B3HW).flatten(1).sum(1)
    return surrogate_B - surrogate_B.detach() + value_B.detach()


class AppearanceRecipe(Recipe):
    """Two players: the generator (L1 in the region, L1 at the mouth, adversarial) and the discriminator (hinge)."""

    name = "appearance"
    scores = MappingProxyType({"l1": "lower", "psnr_db": "higher"})

    def __init__(self, settings: AppearanceTrainConfig):
        self.settings = settings
        self.plays = False  # whether the discriminator takes part yet
        manifest = settings.manifest()
        self.examples = AppearanceExamples(manifest, settings.sampling(), settings.model, settings.references)
        self.validation = AppearanceExamples(
            manifest, settings.validation_sampling(), settings.model, settings.references
        )
        for examples in (self.examples, self.validation):
            reader.refuse_other_crops(manifest, examples.selection.rows_n)

    def players(self) -> dict[str, Player]:
        optimizer, model = self.settings.optimizer, self.settings.model
        opposite = replace(optimizer, lr=self.settings.discriminator_lr or optimizer.lr)
        return {
            "generator": Player(Generator(model), optimizer, self.generator_loss),
            "discriminator": Player(Discriminator(model), opposite, self.discriminator_loss, after="generator"),
        }

    def fixed(self) -> dict[str, Any]:
        kept = ("mouth_weight", "adversarial_weight", "adversarial_from_step")
        return {
            "references": asdict(self.settings.references),
            "model": asdict(self.settings.model),
            **{name: getattr(self.settings, name) for name in kept},
        }

    def generator_loss(self, networks: Networks, batch: AppearanceBatch) -> Loss:
        """L1 and adversarial. The output is the painted picture, (B, 3, H, W), detached.

        Both losses are taken on the detached painting, so that each example's weight can be computed; their joint
        gradient then goes back through the generator once.
        """
        seen, painted_B3HW = self.painted(networks["generator"], batch)
        still = painted_B3HW.detach().requires_grad_()
        composed = inputs.blend(still, batch.frame_B3HW, seen.soft_B1HW)
        l1_B, mouth_B = self.reconstruction(still, batch, seen)
        loss_B = l1_B + self.settings.mouth_weight * mouth_B
        fooling_B = weight_B = torch.zeros_like(loss_B)
        (gradient,) = torch.autograd.grad(loss_B.sum(), still)
        step_B = batch.slots_B // self.settings.global_batch
        plays_B = (step_B >= self.settings.adversarial_from_step).to(loss_B.dtype) * self.settings.adversarial_weight
        self.plays = self.plays or bool(plays_B.any())  # once true, not asked again: a GPU would have to be waited for
        if self.plays:
            fooling_B = -networks["discriminator"](composed).flatten(1).mean(1).to(loss_B.dtype)
            (against,) = torch.autograd.grad(SMALL_GRADIENTS * fooling_B.sum(), still)
            against = against / SMALL_GRADIENTS
            weight_B = plays_B * adaptive_weight(gradient, against)
            loss_B = loss_B + weight_B * fooling_B
            gradient = gradient + weight_B[:, None, None, None] * against
        terms = {"l1": l1_B, "mouth_l1": mouth_B, "adversarial": fooling_B, "adversarial_weight": weight_B}
        return Loss(with_gradient(loss_B, painted_B3HW, gradient), terms, composed.detach())

    def painted(self, generator: Callable[..., Any], batch: AppearanceBatch) -> tuple[GeneratorInputs, torch.Tensor]:
        """What the generator sees of a batch, and what it paints: (B, 3, H, W), not yet composed with the frame."""
        with torch.autocast(batch.frame_B3HW.device.type, enabled=False):
            seen = prepare(batch, self.settings.model)
        made = generator(seen.image_B3HW, seen.lips_BR3HW, seen.masked_B3HW)
        return seen, made.to(batch.frame_B3HW.dtype)

    def reconstruction(
        self, painted_B3HW: torch.Tensor, batch: AppearanceBatch, seen: GeneratorInputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """L1 in the region and L1 at the mouth, each a mean over its own pixels: (B,) each."""
        distance_B3HW = (painted_B3HW - batch.frame_B3HW).abs()
        box_B1HW = mouth_box(batch.landmarks_BN2, self.settings.model.shape)
        return masked_mean(distance_B3HW, seen.soft_B1HW), masked_mean(distance_B3HW, box_B1HW * seen.soft_B1HW)

    def discriminator_loss(self, networks: Networks, batch: AppearanceBatch, painted_B3HW: torch.Tensor) -> Loss:
        """Hinge on the true frames and on those that the generator painted of the same batch: (B,)."""
        both = networks["discriminator"](torch.cat([batch.frame_B3HW, painted_B3HW])).flatten(1)
        real_BP, painted_BP = both.to(batch.frame_B3HW.dtype).chunk(2)
        real_B, fake_B = torch.relu(1 - real_BP).mean(1), torch.relu(1 + painted_BP).mean(1)
        return Loss(0.5 * (real_B + fake_B), {"real": real_B, "fake": fake_B})

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
        appearance.save_model(states["generator"], self.settings.model, folder)
