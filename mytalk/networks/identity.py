"""The landmark identity encoder: who a person is, from the shape and the motion of the face (paper, Sec. 3.2).

One frozen network, two uses in stage 1: its features of the source landmarks condition every block of the
denoiser, and the identity loss compares its embedding of the source with that of the generated landmarks. The
paper does not give its architecture. Default: Transformer blocks with average pooling over time, trained to
tell people apart on landmark clips (train/recipes/identity.py).

Shape suffixes: B batch, T frames, N landmarks (478), D features, E embedding, 2 = (x, y) in the head's
frame (mytalk/face/pose.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mytalk.face import pose
from mytalk.face.landmarks import COUNT
from mytalk.networks import weights
from mytalk.networks.conformer import Block, check_sizes
from mytalk.settings import Settings, setting

UNIT_PX = 8.0  # px of the head's frame that count as 1: faces differ by a few px
FACE, MOTION = "face", "motion"
MOTION_UNIT = 1 / 40  # of the head's size that counts as 1: lips move by so much
MEASURED = "verification_auc"  # the fact of a model's folder that shows whether it distinguishes people


@dataclass
class IdentityConfig(Settings):
    """Size of the identity encoder."""

    part = "model"

    width: int = setting(512, "features of each frame; a multiple of 2 x heads", at_least=1)
    heads: int = setting(8, "of attention", at_least=1)
    layers: int = setting(6, "of the encoder", at_least=1)
    hidden: int = setting(2048, "width inside the feed-forward blocks", at_least=1)
    kernel: int = setting(13, "of the convolutions over time; odd", unit="frames", at_least=1)
    embedding: int = setting(256, "size of a person's embedding", at_least=1)
    sees: str = setting(
        FACE, "the face and how it moves, or the motion alone: without mean face and head size", choices=(FACE, MOTION)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.width, self.heads, self.kernel)


class IdentityEncoder(nn.Module):
    """Landmarks in the head's frame -> features of every frame, and one unit vector of the person."""

    def __init__(self, config: IdentityConfig):
        super().__init__()
        self.config = config
        self.mean_face_F = nn.Parameter(torch.zeros(2 * COUNT))  # subtracted from the input, see `centre`
        self.shape_in = nn.Linear(2 * COUNT, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.hidden, config.kernel) for _ in range(config.layers)
        )
        self.out = nn.Linear(config.width, config.embedding)

    @torch.no_grad()
    def centre(self, mean_N2: torch.Tensor) -> None:
        """Set the mean face (head frame, px) that is subtracted from the input: people differ little from it.

        A bias after the first weights does not replace it: the face is a hundred times larger than the differences
        between people, so a step of those weights moves all people alike, until they look the same. Nor can bf16
        represent the difference.
        """
        self.mean_face_F.copy_(mean_N2.flatten() / UNIT_PX)

    def features(self, head_BTN2: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """(B, T, N, 2) px in the head's frame -> (B, T, D), the condition of the motion model."""
        seen_BTN2 = moved(head_BTN2, mask_BT) if self.config.sees == MOTION else head_BTN2 / UNIT_PX
        x_BTD = self.shape_in((seen_BTN2.flatten(2) - self.mean_face_F).to(self.shape_in.weight.dtype))
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT)
        return x_BTD

    def embed(self, features_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """Features averaged over the valid frames, projected, at length 1: (B, E)."""
        return F.normalize(self.out(pose.mean_over_frames(features_BTD, mask_BT)), dim=-1)

    def forward(self, head_BTN2: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """The person's embedding, (B, E) of length 1; the cosine of two is how alike they are."""
        return self.embed(self.features(head_BTN2, mask_BT), mask_BT)


def moved(head_BTN2: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """How a face moves, whoever's it is: the landmarks about their mean over the valid frames, in shares of the head's
    size, which is the root mean square distance of the mean face's points from their centre. (B, T, N, 2).
    """
    mean_BN2 = pose.mean_over_frames(head_BTN2, mask_BT)
    size_B = (mean_BN2 - mean_BN2.mean(1, keepdim=True)).square().sum(-1).mean(-1).sqrt()
    return (head_BTN2 - mean_BN2[:, None]) / (MOTION_UNIT * size_B[:, None, None, None])


def save_model(
    state: dict[str, torch.Tensor], config: IdentityConfig, folder: str | Path, facts: dict[str, Any] | None = None
) -> None:
    """Write weights as a folder that `load_model` reads."""
    weights.save(state, "identity", config, folder, facts)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> IdentityEncoder:
    """The encoder of a folder, in evaluation mode. Raises UserError as `weights.load` does."""
    return weights.load(folder, "identity", IdentityConfig, IdentityEncoder, device)
