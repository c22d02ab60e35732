"""The folder of a trained generator: written and read."""

from __future__ import annotations

from pathlib import Path

import torch

from mytalk.networks import weights
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.appearance.generator import Generator


def save_model(state: dict[str, torch.Tensor], config: AppearanceConfig, folder: str | Path) -> None:
    """Write a generator for `load_model`."""
    weights.save(state, "appearance", config, folder)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator that `save_model` wrote, in evaluation mode. Raises UserError where there is none."""
    return weights.load(folder, "appearance", AppearanceConfig, Generator, device)
