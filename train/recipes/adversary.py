"""What the discriminator adds to the appearance generator's loss, and its own loss.

Shape suffixes: B batch, P patches of scores, C channels, H height, W width, N landmarks, 3 = RGB from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from data_pipeline.examples.appearance import AppearanceBatch
from mytalk.networks.appearance import inputs
from train.recipe import Loss, Networks
from train.recipes.appearance_inputs import GeneratorInputs
from train.recipes.appearance_losses import adaptive_weight, feature_distance

if TYPE_CHECKING:
    from train.recipes.appearance import AppearanceTrainConfig

SMALL_GRADIENTS = 2.0**12  # of a picture's pixels: without it they vanish in fp16; a power of 2 is exact


class Adversary:
    """When the discriminator plays, how much its gradient weighs, and what it learns from (hinge)."""

    def __init__(self, settings: AppearanceTrainConfig):
        self.settings = settings
        self.plays = False  # whether it takes part in the generator's loss yet

    def played(
        self,
        discriminator: Callable[..., Any],
        still: torch.Tensor,
        composed: torch.Tensor,
        gradient: torch.Tensor,
        batch: AppearanceBatch,
        seen: GeneratorInputs,
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """What the discriminator adds to the loss, (B,), to its gradient, (B, 3, H, W), and its terms, (B,) each.

        `gradient` is that of the other losses by the painting `still`, of which `composed` was made. All 0 before
        `adversarial_from_step`.
        """
        plays_B = self._reached(batch, self.settings.adversarial_from_step).to(gradient.dtype)
        self.plays = self.plays or bool(plays_B.any())  # once true, not asked again: a GPU would have to be waited for
        matching = self.settings.losses.feature_matching
        names = ["adversarial", "adversarial_weight", *(["feature_matching"] if matching else [])]
        if not self.plays:
            zeros_B = torch.zeros_like(plays_B)
            return zeros_B, torch.zeros_like(gradient), dict.fromkeys(names, zeros_B)
        fooling_B, matching_B = self._judged(discriminator, composed, batch, seen)
        (against,) = torch.autograd.grad(SMALL_GRADIENTS * fooling_B.sum(), still, retain_graph=bool(matching))
        against = against / SMALL_GRADIENTS
        weight_B = plays_B * self.settings.adversarial_weight * adaptive_weight(gradient, against)
        loss_B, push = weight_B * fooling_B, weight_B[:, None, None, None] * against
        if matching:
            (towards,) = torch.autograd.grad(SMALL_GRADIENTS * matching_B.sum(), still)
            loss_B = loss_B + matching * plays_B * matching_B
            push = push + (matching * plays_B)[:, None, None, None] * towards / SMALL_GRADIENTS
        return loss_B, push, dict(zip(names, (fooling_B, weight_B, matching_B)))

    def _judged(
        self, discriminator: Callable[..., Any], composed: torch.Tensor, batch: AppearanceBatch, seen: GeneratorInputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Minus the discriminator's score of the result, and its features' distance from the frame's: (B,) each."""
        dtype = composed.dtype
        if not self.settings.losses.feature_matching:
            score_BP = discriminator(composed, seen.image_B3HW).flatten(1)
            return -score_BP.mean(1).to(dtype), torch.zeros_like(score_BP[:, 0], dtype=dtype)
        with torch.no_grad():
            *true, _ = discriminator.features(batch.frame_B3HW, seen.image_B3HW)  # type: ignore[attr-defined]
        *made, score_B1HW = discriminator.features(composed, seen.image_B3HW)  # type: ignore[attr-defined]
        return -score_B1HW.flatten(1).mean(1).to(dtype), feature_distance(made, true).to(dtype)

    def loss(self, networks: Networks, batch: AppearanceBatch, painted_B3HW: torch.Tensor) -> Loss:
        """Hinge on the true frames and on those that the generator painted of the same batch: (B,).

        With `losses.wrong_landmarks`, half of the second is on true frames with another frame's mouth as landmarks
        (GAN-CLS, Reed et al. 2016), as far as that mouth is another one.
        """
        shape, dtype = self.settings.model.shape, batch.frame_B3HW.dtype
        image_B3HW = inputs.landmark_dots(batch.landmarks_BN2, shape)
        pictures, images = [batch.frame_B3HW, painted_B3HW], [image_B3HW, image_B3HW]
        if self.settings.losses.wrong_landmarks:
            assert batch.wrong_landmarks_BN2 is not None
            pictures.append(batch.frame_B3HW)
            images.append(inputs.landmark_dots(batch.wrong_landmarks_BN2, shape))
        scores = networks["discriminator"](torch.cat(pictures), torch.cat(images)).flatten(1).to(dtype)
        real_BP, painted_BP, *wrong_BP = scores.split(len(batch.frame_B3HW))
        real_B, fake_B = torch.relu(1 - real_BP).mean(1), torch.relu(1 + painted_BP).mean(1)
        refused_B, terms = fake_B, {"real": real_B, "fake": fake_B}
        if wrong_BP:
            assert batch.wrong_B is not None
            terms["wrong"] = batch.wrong_B * torch.relu(1 + wrong_BP[0]).mean(1)
            refused_B = 0.5 * (fake_B + terms["wrong"])
        learns_B = self._reached(batch, self.settings.discriminator_from_step).to(dtype)
        return Loss(learns_B * 0.5 * (real_B + refused_B), terms)

    def _reached(self, batch: AppearanceBatch, step: int) -> torch.Tensor:
        """Whether the step of each example is this one or later: (B,) bool."""
        return batch.slots_B // self.settings.global_batch >= step
