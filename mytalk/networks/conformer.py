"""The Conformer-like block of the paper's Fig. 2a, used by the speech encoder, identity encoder and denoiser.

Shape suffixes: B batch, T frames, M condition tokens, D features, H heads.
Nothing couples the examples of a batch, and padded frames change nothing: LayerNorm only, masked
attention, masked convolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from mytalk.networks.slot_dropout import no_dropout

Drop = Callable[[torch.Tensor], torch.Tensor]  # of what a module adds to its input, see slot_dropout.py


def check_sizes(width: int, heads: int, kernel: int) -> None:
    """Raises ValueError for sizes of a model that no block can have."""
    if width % (2 * heads):
        raise ValueError(f"model.width {width} must be a multiple of 2 x model.heads ({heads})")
    if kernel % 2 == 0:
        raise ValueError(f"model.kernel must be odd, not {kernel}")


class FeedForward(nn.Module):
    """Half-step feed-forward, pre-norm: x + 1/2 FFN(x)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, hidden)
        self.back = nn.Linear(hidden, width)

    def forward(self, x_BTD: torch.Tensor, drop: Drop = no_dropout) -> torch.Tensor:
        return x_BTD + 0.5 * drop(self.back(F.silu(self.wide(self.norm(x_BTD)))))


class Attention(nn.Module):
    """Multi-head attention, pre-norm, residual; keys and values from `context` where it is given.

    Self-attention turns queries and keys by rotary position angles, so that what matters is how far two
    frames are apart.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None):
        super().__init__()
        self.heads = heads
        self.cross = context_width is not None
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        # No bias: softmax cancels one on the keys, and one on the values is the output's bias again.
        self.key_value = nn.Linear(context_width or width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x_BTD: torch.Tensor,
        mask_BM: torch.Tensor,
        context_BMD: torch.Tensor | None = None,
        drop: Drop = no_dropout,
    ) -> torch.Tensor:
        normed = self.norm(x_BTD)
        source = normed if context_BMD is None else context_BMD
        query = self._split(self.query(normed))
        key, value = (self._split(part) for part in self.key_value(source).chunk(2, dim=-1))
        if not self.cross:
            query, key = rotate(query), rotate(key)
        mixed_BHTd = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_BM[:, None, None, :] > 0)
        return x_BTD + drop(self.out(mixed_BHTd.transpose(1, 2).flatten(2)))

    def _split(self, x_BTD: torch.Tensor) -> torch.Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def rotate(x_BHTd: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (RoFormer): pairs of features turned by frame number times frequency."""
    frames, half = x_BHTd.shape[-2], x_BHTd.shape[-1] // 2
    cos, sin = _turns(frames, half, x_BHTd.device, x_BHTd.dtype)
    a, b = x_BHTd[..., :half], x_BHTd[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


@functools.lru_cache(maxsize=16)
def _turns(frames: int, half: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of every frame's angles, (T, d / 2) each; the same in every layer, and no layer changes them."""
    with torch.inference_mode(False), torch.no_grad():
        pairs = torch.arange(half, device=device, dtype=torch.float32)
        frequency = torch.exp(pairs * (-math.log(10_000.0) / half))
        angle_Td = torch.arange(frames, device=device, dtype=torch.float32)[:, None] * frequency
        return angle_Td.cos().to(dtype), angle_Td.sin().to(dtype)


class Convolution(nn.Module):
    """Convolution module: gated pointwise, depthwise over time, pointwise; padded frames count as zero."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.middle_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BTD: torch.Tensor, mask_BT: torch.Tensor, drop: Drop = no_dropout) -> torch.Tensor:
        gated_BTD = F.glu(self.gate(self.norm(x_BTD)), dim=-1) * mask_BT[..., None].to(x_BTD.dtype)
        mixed_BTD = self.depthwise(gated_BTD.transpose(1, 2)).transpose(1, 2)
        return x_BTD + drop(self.out(F.silu(self.middle_norm(mixed_BTD))))


class Block(nn.Module):
    """Half-step FFN; + speech; self-attention; convolution; cross-attention; FiLM of t; half-step FFN.

    The order is the paper's (Fig. 2a). The plain Conformer of the encoders is the same block without
    speech, cross-attention and FiLM. t is added at the block's input and, as in InstructAvatar, scales and
    shifts the features after the cross-attention.
    """

    def __init__(self, width: int, heads: int, hidden: int, kernel: int, conditioned: bool = False):
        super().__init__()
        self.first = FeedForward(width, hidden)
        self.attention = Attention(width, heads)
        self.convolution = Convolution(width, kernel)
        self.last = FeedForward(width, hidden)
        self.norm = nn.LayerNorm(width)
        if conditioned:
            self.speech = nn.Linear(width, width)
            self.time = nn.Linear(width, width)
            self.cross = Attention(width, heads, context_width=width)
            self.film = nn.Linear(width, 2 * width)
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(
        self,
        x_BTD: torch.Tensor,
        mask_BT: torch.Tensor,
        speech_BTD: torch.Tensor | None = None,
        time_BD: torch.Tensor | None = None,
        identity_BMD: torch.Tensor | None = None,
        identity_mask_BM: torch.Tensor | None = None,
        drop: Drop = no_dropout,
    ) -> torch.Tensor:
        if time_BD is not None:
            x_BTD = x_BTD + self.time(time_BD)[:, None]
        x_BTD = self.first(x_BTD, drop)
        if speech_BTD is not None:
            x_BTD = x_BTD + self.speech(speech_BTD)
        x_BTD = self.attention(x_BTD, mask_BT, drop=drop)
        x_BTD = self.convolution(x_BTD, mask_BT, drop)
        if identity_BMD is not None and identity_mask_BM is not None:
            x_BTD = self.cross(x_BTD, identity_mask_BM, identity_BMD, drop)
        if time_BD is not None:
            scale_BD, shift_BD = self.film(time_BD).chunk(2, dim=-1)
            x_BTD = x_BTD * (1 + scale_BD[:, None]) + shift_BD[:, None]
        return self.norm(self.last(x_BTD, drop))
