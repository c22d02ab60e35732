"""Whom a model was trained on, as hashes that travel with it, so that nobody scores it on those people.

A run folder and an exported model hold `trained_on.json`:

    format    1
    hash      how a name becomes a hash
    trained   {people: [hash, ...], sources: [hash, ...]}: whose clips the weights were trained on
    selected  the same of the validation split, by which a checkpoint is chosen
    corpora   names of the corpora of both
    unknown   what the weights also come from, of which nobody knows whom it was trained on

A person's name is that of the manifest, a source is its SHA-256 there. The hash is not salted, so that a checkpoint
from elsewhere can be checked: it keeps names out of a published model, it does not keep a guessed name from being
confirmed. What is selected is a function of the manifest and the settings, whatever the number of processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from data_pipeline.shards.manifest import Manifest
from mytalk import atomic
from mytalk.command import UserError

FORMAT, NAME = 1, "trained_on.json"
HASH = "first 8 bytes of SHA-256 of 'mytalk KIND NAME' in UTF-8, KIND being person or source, as hexadecimal digits"


@dataclass(frozen=True)
class Shown:
    """Hashes of people and of sources."""

    people: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()

    def __or__(self, other: Shown) -> Shown:
        return Shown(self.people | other.people, self.sources | other.sources)


@dataclass(frozen=True)
class TrainedOn:
    """What weights have been shown: to be trained, and to be selected by."""

    trained: Shown = field(default_factory=Shown)
    selected: Shown = field(default_factory=Shown)
    corpora: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    def __or__(self, other: TrainedOn) -> TrainedOn:
        return TrainedOn(
            self.trained | other.trained,
            self.selected | other.selected,
            self.corpora | other.corpora,
            self.unknown | other.unknown,
        )


def hashed(kind: str, name: str) -> str:
    """The hash of a `person` or a `source`, as HASH says."""
    return hashlib.sha256(f"mytalk {kind} {name}".encode()).digest()[:8].hex()


def shown(manifest: Manifest, rows: np.ndarray | list[int]) -> Shown:
    """The people and sources of some rows of a manifest; sources where it has their SHA-256."""
    return Shown(
        frozenset(hashed("person", name) for name in _distinct(manifest, "identity", rows)),
        frozenset(hashed("source", name) for name in _distinct(manifest, "source_sha256", rows)),
    )


def of_rows(manifest: Manifest, trained: np.ndarray, selected: np.ndarray) -> TrainedOn:
    """What a run is shown that trains on some rows, and is validated on others."""
    corpora = frozenset(_distinct(manifest, "corpus", np.concatenate([trained, selected])))
    return TrainedOn(shown(manifest, trained), shown(manifest, selected), corpora)


def _distinct(manifest: Manifest, column: str, rows: np.ndarray | list[int]) -> list[str]:
    """The values of a column in some rows, without those that are missing."""
    if not manifest.has(column):
        return []
    codes, values = manifest.codes(column)
    return [values[code] for code in np.unique(codes[rows]) if values[code]]


def write(folder: Path, known: TrainedOn) -> None:
    """Write `trained_on.json` into a folder, atomically."""
    described = {"format": FORMAT, "hash": HASH}
    for name, value in asdict(known).items():
        is_shown = isinstance(value, Mapping)
        described[name] = {kind: sorted(of) for kind, of in value.items()} if is_shown else sorted(value)
    atomic.write_json(folder / NAME, described)


def read(folder: Path) -> TrainedOn | None:
    """What the weights of a folder were shown; None where the folder does not say.

    Raises UserError for a file that cannot be read.
    """
    try:
        described = json.loads((folder / NAME).read_text())
        if described["format"] != FORMAT or described["hash"] != HASH:
            raise ValueError
        trained, selected = (Shown(**_sets(described[name])) for name in ("trained", "selected"))
        return TrainedOn(trained, selected, frozenset(described["corpora"]), frozenset(described["unknown"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / NAME} is damaged or of another version; copy or export the model again") from None


def _sets(lists: Mapping[str, Iterable[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(values) for name, values in lists.items()}


def inherited(what: str, folder: Path) -> TrainedOn:
    """What the weights in a folder (a model, a run, or a checkpoint in one) were shown, which another run begins with.

    `what` names them where nobody knows.
    """
    of_run = folder.parent if folder.name == "model" else folder.parent.parent
    in_run = folder.name == "model" or folder.parent.name == "checkpoints"
    for place in (folder, folder / "model", *([of_run] if in_run else [])):
        known = read(place)
        if known is not None:
            return known
    return TrainedOn(unknown=frozenset([what]))
