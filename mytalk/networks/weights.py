"""A trained network on disk: a folder of config.json (kind of network, sizes, facts) and model.safetensors.

Nothing is unpickled. A folder that holds another model, an unknown setting, or weights of another size is
refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from mytalk import atomic
from mytalk.command import UserError
from mytalk.networks.model_folder import CONFIG, FORMAT, WEIGHTS, describe

Network = TypeVar("Network", bound=nn.Module)


def save(
    state: dict[str, torch.Tensor], kind: str, config: Any, folder: str | Path, facts: dict[str, Any] | None = None
) -> None:
    """Write a network's weights, each file atomically, weights first. `facts` are measured values to keep with it."""
    folder = Path(folder)
    whole = {name: value.detach().float().cpu().contiguous() for name, value in state.items()}
    atomic.write_bytes(folder / WEIGHTS, to_bytes(whole))
    described = {"format": FORMAT, "model": kind, "config": asdict(config)}
    atomic.write_json(folder / CONFIG, described | ({"facts": facts} if facts else {}))


def load(
    folder: str | Path, kind: str, config_class: Any, network: Callable[[Any], Network], device: str | torch.device
) -> Network:
    """The network of a folder, in evaluation mode: `network(config)` with its weights loaded.

    Raises UserError where the folder holds no such model, a damaged one, or weights that do not fit its config.
    """
    folder = Path(folder)
    again = "copy or export the model again"
    settings = describe(folder, kind)["config"]
    unknown = set(settings) - {field.name for field in fields(config_class)}
    if unknown:
        named = ", ".join(sorted(unknown))
        raise UserError(f"{folder / CONFIG} has keys that this version does not know: {named}; update mytalk")
    try:
        model = network(config_class(**settings))
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} is no model's: {str(error).splitlines()[0]}; {again}") from None
    weights = folder / WEIGHTS
    try:
        model.load_state_dict(load_file(weights))
    except FileNotFoundError:
        raise UserError(f"{weights} is missing; {again}") from None
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged ({str(error).splitlines()[0]}); {again}") from None
    except RuntimeError as error:
        why = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise UserError(f"the weights in {folder} do not fit its config: {why}") from None
    return model.to(device).eval()
