"""What a trained network's folder says of it, without loading the network (weights.py does).

config.json holds the kind of network, its sizes, and facts that were measured of it; model.safetensors the weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.intervals import proven

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


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
