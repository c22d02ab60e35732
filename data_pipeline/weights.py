"""Weights of others by configs/weights.yaml: they lie inside installed packages, or the user brings them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mytalk.command import UserError
from mytalk.digest import sha256_of

REGISTRY = Path(__file__).resolve().parent.parent / "configs" / "weights.yaml"
FOLDER = "MYTALK_WEIGHTS"  # environment variable: the folder of the files that the user brings


@dataclass(frozen=True)
class WeightFile:
    """An entry of the registry: a file or folder of weights, its use, origin, licence and digest.

    `file` lies inside the installed Python package `package`; without one the user brings it into $MYTALK_WEIGHTS.
    Where `sha256` is empty no digest is known; a report records that of the file which was used.
    """

    use: str
    file: str
    install: str  # what to type, or where it comes from
    source: str
    licence: str
    package: str = ""
    sha256: str = ""


def registered() -> dict[str, WeightFile]:
    """Every entry of the registry by name."""
    entries: Any = OmegaConf.to_container(OmegaConf.load(REGISTRY))
    return {name: WeightFile(**entry) for name, entry in entries.items()}


def located(weights: WeightFile) -> tuple[Path, str] | None:
    """Where the weights lie, and their SHA-256; None where they do not. A package is found, not imported.

    Raises UserError where there are other weights than the registry names.
    """
    path = _path(weights)
    if path is None or not (path.exists() or weights.package):
        return None
    found = digest_of(path) if path.exists() else ""
    if weights.sha256 and found != weights.sha256:
        where = f"the installed package {weights.package}" if weights.package else f"${FOLDER}"
        raise UserError(
            f"{weights.file} of {where} is not the one that configs/weights.yaml names; type: {weights.install}"
        )
    return path, found


def content(weights: WeightFile) -> bytes | None:
    """The file's bytes; None where it is not there. Raises UserError as `located` does."""
    found = located(weights)
    return None if found is None else found[0].read_bytes()


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its files' names and digests, a line each, by name."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = [f"{name} {sha256_of(path / name)}\n" for name in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _path(weights: WeightFile) -> Path | None:
    if not weights.package:
        folder = os.environ.get(FOLDER)
        return Path(folder) / weights.file if folder else None
    spec = importlib.util.find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / weights.file
