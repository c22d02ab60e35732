"""A trained network on disk: a folder of config.json (kind of network, sizes, facts) and model.safetensors.

Nothing is unpickled. A folder that holds another model, an unknown setting, or weights of another size is
refused in one line. What a folder says is read without torch, which only `save` and `load` need.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mytalk import atomic
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.intervals import proven

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
EXTRACTOR = "identity"  # folder of the identity encoder within that of a motion model
Network = TypeVar("Network", bound="nn.Module")


def save(
    state: dict[str, torch.Tensor], kind: str, config: Any, folder: str | Path, facts: dict[str, Any] | None = None
) -> None:
    """Write a network's weights, each file atomically, weights first. `facts` are measured values to keep with it."""
    from safetensors.torch import save as to_bytes

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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

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
        fix = f"made by another version of mytalk? train it again with: python -m train {kind}"
        raise UserError(f"the weights in {folder} do not fit its config ({why.rstrip('.')}); {fix}") from None
    return model.to(device).eval()


def describe(folder: str | Path, kind: str) -> dict[str, Any]:
    """The content of a folder's config.json, checked to be of a model `kind` of this format. Raises UserError."""
    folder = Path(folder)
    try:
        described = json.loads((folder / CONFIG).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise absent(folder, kind) from None
    except ValueError:
        raise UserError(f"{folder / CONFIG} is not JSON; copy or export the model again") from None
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        raise UserError(f"{folder / CONFIG} describes no model; name another folder")
    if described.get("model") != kind or described.get("format") != FORMAT:
        article = "an" if kind[0] in "aeiou" else "a"
        raise UserError(
            f"{folder} holds model '{described.get('model')}' format {described.get('format')}, not {article} {kind} "
            f"model of format {FORMAT}; name another folder"
        )
    return described


def absent(folder: Path, kind: str) -> UserError:
    """The error for a folder without a model: it is one folder deeper, or how to train one."""
    if (folder / "model" / CONFIG).is_file():
        return UserError(f"no model in {folder}, which is the folder of a run; name {folder / 'model'}")
    return UserError(f"no model in {folder}: {CONFIG} is missing; train one with: python -m train {kind}")


def digest(folder: str | Path) -> str:
    """SHA-256 of a model's weights. Raises OSError."""
    return sha256_of(Path(folder) / WEIGHTS)


def above_chance(folder: str | Path, kind: str, measure: str) -> tuple[bool, str]:
    """Whether a model is above chance on people it was not trained on, and that in words.

    `measure` names the fact of its validation that is compared with chance. Raises UserError where the folder holds
    no such model.
    """
    validation = facts_of(folder, kind).get("validation")
    return proven(validation.get(measure) if isinstance(validation, dict) else None)


def facts_of(folder: str | Path, kind: str) -> dict[str, Any]:
    """The facts of a model. Raises UserError where the folder holds no such model."""
    facts = describe(folder, kind).get("facts")
    return facts if isinstance(facts, dict) else {}


def own_steps(folder: str | Path) -> int | None:
    """The sampler's steps that a distilled motion model is for; None for any other. Raises UserError."""
    steps = facts_of(folder, "motion").get("sampling_steps")
    return steps if type(steps) is int and steps >= 1 else None
