"""Beginning a run with trained weights: `init_from=FOLDER`, a model, a checkpoint, or a run; what fits is taken.

EMA weights of a checkpoint, those of an exported model as they are. A tensor fits if its name and shape are the same.
The first rank reads them and sends what fits; of a checkpoint every rank hashes its share of the files.
An exported model holds the one network of interest, and may lack the first part of its names (an identity encoder's are
those of the classifier's `encoder.`); both are tried.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mytalk import atomic
from mytalk.command import UserError
from mytalk.networks import weights
from train.engine.distributed import Ranks
from train.engine.train_state import learnt, put
from train.run_folder import checkpoint

REPORT = "init_from.json"
NAMED = 5  # tensors in the report's line


@dataclass
class Match:
    """Which tensors of the run's networks, `player/parameter`, were found, and which tensors found no place."""

    taken: list[str] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)  # they stay as initialised
    other_shape: dict[str, list[list[int]]] = field(default_factory=dict)  # ours, theirs
    unused: list[str] = field(default_factory=list)
    values: int = 0  # in the tensors that were taken
    all_values: int = 0

    def line(self) -> str:
        """The report in one line."""
        count = len(self.taken) + len(self.not_found) + len(self.other_shape)
        parts = [
            f"{len(self.taken)} of {count} tensors taken ({self.values / max(self.all_values, 1):.1%} of the values)"
        ]
        for name, some in (("not found", self.not_found), ("another shape", self.other_shape), ("unused", self.unused)):
            if some:
                more = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
                parts.append(f"{name}: {', '.join(list(some)[:NAMED])}{more}")
        return "; ".join(parts)


def start(folder: Path, modules: Mapping[str, nn.Module], run: Path, recipe: str, ranks: Ranks) -> None:
    """Put what fits into the networks of a new run, and report it, in a line and in the run folder.

    All ranks call it. Raises UserError where the folder holds no weights, or none that fit.
    """
    available, shapes, kind = read_once(folder, ranks)
    match, used = Match(), set[str]()
    for player, module in modules.items():
        fitting = {}
        for name, weight in learnt(module).items():  # frozen weights are loaded by the recipe: no checkpoint holds them
            full = f"{player}/{name}"
            match.all_values += weight.numel()
            place = place_of(player, name, shapes.keys() - used)  # a name that two networks share is the first one's
            if place is None:
                match.not_found.append(full)
            elif shapes[place] != tuple(weight.shape):
                match.other_shape[full] = [list(weight.shape), list(shapes[place])]
                used.add(place)
            else:
                own = available[place].float() if ranks.rank == 0 else torch.empty(weight.shape)
                fitting[name] = ranks.from_first(own)
                match.taken.append(full)
                match.values += weight.numel()
                used.add(place)
        put(module, fitting.items())
    match.unused = sorted(set(shapes) - used)
    if not match.taken:
        raise UserError(
            f"init_from={folder}, {kind}: nothing fits the networks of {recipe}: {match.line()}; name another folder"
        )
    if ranks.rank == 0:
        fields = {key: value for key, value in vars(match).items() if key not in ("values", "all_values")}
        atomic.write_json(run / REPORT, {"init_from": str(folder), "of": kind, "summary": match.line(), **fields})
        print(f"{recipe}: init_from={folder}, {kind}: {match.line()}; all in {run / REPORT}", flush=True)


def place_of(player: str, name: str, found: Set[str]) -> str | None:
    """The key of a parameter: of this player in a checkpoint, or of an exported model with or without its prefix."""
    for key in (f"{player}/{name}", name, name.partition(".")[2]):
        if key in found:
            return key
    return None


Weights = dict[str, torch.Tensor]


def read_once(folder: Path, ranks: Ranks) -> tuple[Weights, dict[str, tuple[int, ...]], str]:
    """Weights by name, on the first rank; on all ranks their shapes, and what they are. Raises UserError on all."""
    source = None if (folder / weights.WEIGHTS).is_file() else checkpoint_of(folder)
    if source is not None:
        checkpoint.refuse(source, ranks.gather(checkpoint.damaged(source, ranks.rank, ranks.world_size)))
    available: Weights = {}
    found: list[tuple[str, Any]] = []  # of the first rank: what is wrong, or what there is
    if ranks.rank == 0:
        try:
            available, kind = exported(folder) if source is None else of_checkpoint(source)
            found = [("", ({name: tuple(values.shape) for name, values in available.items()}, kind))]
        except UserError as error:
            found = [(str(error), None)]
    ((wrong, facts),) = ranks.gather(found)
    if wrong:
        raise UserError(wrong)
    return available, *facts


def checkpoint_of(folder: Path) -> Path:
    """A checkpoint, or the newest of a run. UserError where there is none."""
    source = folder if (folder / checkpoint.FACTS).is_file() else checkpoint.newest(folder)
    if source is None:
        raise UserError(f"init_from={folder}: no model, checkpoint or run with checkpoints there; name another folder")
    return source


def exported(folder: Path) -> tuple[Weights, str]:
    """Weights of an exported model by name, and which model it is. Raises UserError where it is damaged."""
    try:
        description = json.loads((folder / weights.CONFIG).read_text())
        return load_file(folder / weights.WEIGHTS), f"model '{description['model']}'"
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / weights.CONFIG} describes no model; name another folder") from None
    except SafetensorError as error:
        raise UserError(f"{folder / weights.WEIGHTS} is damaged ({error}); copy it again") from None


def of_checkpoint(source: Path) -> tuple[Weights, str]:
    """EMA weights of a checkpoint, whose files have been checked, by player/name, and of which run they are."""
    loaded = checkpoint.index(source).check()
    found = {f"{p}/{name}": values for p in loaded.shapes for name, values in loaded.whole(p, "ema").items()}
    return found, f"run of '{loaded.facts['fixed']['recipe']}'"
