"""The tensors of a torch file that a user brings, read without running anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mytalk.command import UserError

if TYPE_CHECKING:
    import torch


def read(path: Path, network: str) -> dict[str, torch.Tensor]:
    """Tensors by name. Raises UserError where the file holds anything else, OSError."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # bytes that are no torch file raise whatever they lead its reader to
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path} is not {network}: {words[0]}") from None
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"{path} is not {network}: it holds something else than tensors by name")
    return state
