"""Dropout whose masks are a function of the example's key, the layer, the frame and the feature, and of nothing else.

Torch's generator would draw other masks for another division of the batch. A counter-based generator, Philox 4x32-10
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), gives an example the same masks at any world size,
micro-batch and padding, on any device.

Shape suffixes: B batch, T frames, D features, W blocks of 8 features.
"""

from __future__ import annotations

import torch

WORD = 0xFFFFFFFF
MULTIPLIERS, WEYL, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10
STEPS = 1 << 16  # of a rate: each mask value is 16 of a block's 128 bits
Words = tuple[torch.Tensor, ...]


def philox(counter: Words, key: Words) -> Words:
    """Philox 4x32-10: four words of counter and two of key, int64 tensors in [0, 2^32), to four such words.

    Products of 32 bits pass the sign bit of int64 and wrap; their halves are right all the same.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> 32) & WORD ^ c1 ^ k0, second & WORD, (first >> 32) & WORD ^ c3 ^ k1, first & WORD
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def kept(keys_B: torch.Tensor, layer: int, frames: int, features: int, rate: float) -> torch.Tensor:
    """Which values a layer keeps: (B, T, D) bool, each with probability 1 - `rate`, to 1/65 536.

    Frame t of an example has the same mask whatever the number of frames.
    """
    blocks = -(-features // 8)
    place_TW = torch.arange(frames * blocks, device=keys_B.device).view(1, frames, blocks)
    zero = torch.zeros_like(place_TW)
    key_B = keys_B.view(-1, 1, 1)
    words = philox((place_TW, zero + layer, zero, zero), (key_B & WORD, (key_B >> 32) & WORD))
    halves = [half for word in words for half in (word & (STEPS - 1), word >> 16)]
    drawn_BTD = torch.stack(torch.broadcast_tensors(*halves), dim=-1).flatten(2)[..., :features]
    return drawn_BTD >= round(rate * STEPS)


class SlotDropout:
    """Dropout of one pass through a network: called for its layers in the order in which they are computed."""

    def __init__(self, keys_B: torch.Tensor, rate: float):
        self.keys_B, self.rate, self.layer = keys_B, rate, 0

    def __call__(self, x_BTD: torch.Tensor) -> torch.Tensor:
        _, frames, features = x_BTD.shape
        keep_BTD = kept(self.keys_B, self.layer, frames, features, self.rate)
        self.layer += 1
        return x_BTD * keep_BTD / (1 - round(self.rate * STEPS) / STEPS)


def no_dropout(x_BTD: torch.Tensor) -> torch.Tensor:
    """What takes its place outside of training."""
    return x_BTD
