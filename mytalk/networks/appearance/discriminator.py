"""The discriminator, which training alone needs. Shape suffixes: see mytalk/networks/appearance/__init__.py."""

from __future__ import annotations

import torch
from torch import nn

from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.parts import groups


class Discriminator(nn.Module):
    """PatchGAN of 3 layers (pix2pix), with GroupNorm: a score for every patch of a picture, (B, 1, H', W').

    With `discriminator_landmarks` it sees the landmarks too, and so whether the mouth is the one that was asked for.
    """

    def __init__(self, config: AppearanceConfig):
        super().__init__()
        width = config.discriminator_channels
        self.sees_landmarks = config.discriminator_landmarks
        layers: list[nn.Module] = [nn.Conv2d(6 if self.sees_landmarks else 3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for times, stride in ((1, 2), (2, 2), (4, 1)):
            inner = nn.Conv2d(times * width, 2 * times * width, 4, stride, 1, bias=False)
            layers += [inner, groups(2 * times * width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))

    def forward(self, picture_B3HW: torch.Tensor, landmark_image_B3HW: torch.Tensor) -> torch.Tensor:
        return self.layers(self._seen(picture_B3HW, landmark_image_B3HW))

    def features(self, picture_B3HW: torch.Tensor, landmark_image_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """After each activation, (B, D, H', W') each, and last the scores of `forward`."""
        x, found = self._seen(picture_B3HW, landmark_image_B3HW), []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                found.append(x)
        return [*found, x]

    def _seen(self, picture_B3HW: torch.Tensor, landmark_image_B3HW: torch.Tensor) -> torch.Tensor:
        if self.sees_landmarks:
            picture_B3HW = torch.cat([picture_B3HW, landmark_image_B3HW.to(picture_B3HW.dtype)], 1)
        return picture_B3HW.contiguous(memory_format=torch.channels_last)
