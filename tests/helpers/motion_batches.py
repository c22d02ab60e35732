"""What tests do with batches of the motion recipe, and with its network."""

from __future__ import annotations

from dataclasses import replace

import torch

from data_pipeline.examples.motion import MotionBatch
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks.motion.network import MotionModel
from train.recipes.motion import MotionRecipe


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every weight drawn anew: none is zero, as the fresh model's output is."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.15 * torch.randn(weight.shape, generator=random))
    return model


def padded(batch: MotionBatch, frames: int, source_frames: int) -> MotionBatch:
    """The batch with more padding, which holds anything but, as the contract has it, silence."""
    random = torch.Generator().manual_seed(8)

    def more(tensor: torch.Tensor, count: int, garbage: float) -> torch.Tensor:
        shape = (tensor.shape[0], count, *tensor.shape[2:])
        added = garbage * torch.rand(shape, dtype=tensor.dtype, generator=random)
        return torch.cat([tensor, added], dim=1)

    return replace(
        batch,
        landmarks_BTN3=more(batch.landmarks_BTN3, frames, 256.0),
        mask_BT=more(batch.mask_BT, frames, 0.0),
        audio_BS=more(batch.audio_BS, frames * SAMPLES_PER_FRAME, 0.0),
        noise_BTK2=more(batch.noise_BTK2, frames, 5.0),
        source_BUN3=more(batch.source_BUN3, source_frames, 256.0),
        source_mask_BU=more(batch.source_mask_BU, source_frames, 0.0),
        source_audio_BS=more(batch.source_audio_BS, source_frames * SAMPLES_PER_FRAME, 0.0),
    )


def predict_and_learn(recipe: MotionRecipe, model: MotionModel, batch: MotionBatch):
    """Predictions on valid frames, per-example losses, and every gradient."""
    kept = []

    def forward(*inputs):
        kept.append(model(*inputs))
        return kept[0]

    loss_B = recipe.loss({"motion": forward}, batch).total_B
    gradients = torch.autograd.grad(loss_B.mean(), list(model.parameters()))
    return kept[0].detach(), loss_B.detach(), gradients
