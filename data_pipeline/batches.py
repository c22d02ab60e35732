"""What every recipe's batch can do: be moved to a device, and be pinned for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Moved = TypeVar("Moved", bound="Batch")


@dataclass
class Batch:
    """The examples of some slots. A recipe's own batch adds its tensors, B first. Suffix: B batch."""

    slots_B: torch.Tensor  # int64
    keys_B: list[str]  # of the clips
    starts_B: torch.Tensor  # int64, first frame of the example in its clip

    def to(self: Moved, device: torch.device, dtype: torch.dtype = torch.float32) -> Moved:
        """The batch on a device, its floating tensors in `dtype`; integers, such as pixels, stay what they are."""
        moved: dict[str, Any] = {}
        for name, value in self._tensors().items():
            moved[name] = value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
        return dataclasses.replace(self, **moved)

    def pin_memory(self: Moved) -> Moved:
        """The batch in page-locked memory, for copies to a GPU that do not wait."""
        pinned: dict[str, Any] = {name: value.pin_memory() for name, value in self._tensors().items()}
        return dataclasses.replace(self, **pinned)

    def _tensors(self) -> dict[str, torch.Tensor]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
