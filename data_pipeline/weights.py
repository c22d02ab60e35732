"""Weights of others that lie inside installed packages, by configs/weights.yaml."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mytalk.command import UserError

REGISTRY = Path(__file__).resolve().parent.parent / "configs" / "weights.yaml"


@dataclass(frozen=True)
class WeightFile:
    """An entry of the registry: a file inside a Python package, its use, origin, licence and digest."""

    use: str
    package: str
    file: str
    install: str  # the command that brings it
    source: str
    licence: str
    sha256: str


def registered(registry: Path = REGISTRY) -> dict[str, WeightFile]:
    """Every entry of the registry by name."""
    entries: Any = OmegaConf.to_container(OmegaConf.load(registry))
    return {name: WeightFile(**entry) for name, entry in entries.items()}


def content(weights: WeightFile) -> bytes | None:
    """The file's bytes; None where its package is not installed. The package is found, not imported.

    Raises UserError where the package holds another file than the registry names.
    """
    spec = importlib.util.find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / weights.file
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise UserError(
            f"{weights.file} of the installed package {weights.package} is not the one that configs/weights.yaml "
            f"names; type: {weights.install}"
        )
    return data
