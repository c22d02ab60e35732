"""Checkpoints: every network, its Adam moments, its EMA and the slot cursor, free of ZeRO stage and world size.

    step-000300/
      checkpoint.json              format, step, cursor, shapes, counters, files with digests
      rank-00000-of-00002.safetensors   this rank's fragments, named player/kind/parameter@start

Each rank writes its own fragments; assembling happens when loading. The folder is made under a temporary name
and renamed when it is whole, so an incomplete one is never loaded. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mytalk import atomic
from mytalk.command import UserError
from mytalk.digest import sha256_of

FORMAT = 1
KINDS = ("weight", "exp_avg", "exp_avg_sq", "ema")
NAME = re.compile(r"step-(\d{6,})")


@dataclass
class Checkpoint:
    """A checkpoint in memory: `tensors[player][kind][parameter]` whole, fp32, on CPU."""

    step: int
    facts: dict[str, Any]
    tensors: dict[str, dict[str, dict[str, torch.Tensor]]]


def folder_name(step: int) -> str:
    """The folder of the checkpoint taken after `step` steps."""
    return f"step-{step:06d}"


def temporary(run: Path, step: int) -> Path:
    """Where the ranks write before the checkpoint gets its name."""
    return run / "checkpoints" / f"{atomic.TEMPORARY}{folder_name(step)}"


def write_fragments(
    folder: Path,
    rank: int,
    world_size: int,
    pieces: dict[str, dict[str, list[tuple[str, int, torch.Tensor]]]],
) -> None:
    """Write one rank's share: `pieces[player][kind]` is a list of (parameter, start, stretch)."""
    flat = {
        f"{player}/{kind}/{name}@{start}": piece.detach().float().cpu().clone()
        for player, kinds in pieces.items()
        for kind, stretches in kinds.items()
        for name, start, piece in stretches
    }
    path = folder / f"rank-{rank:05d}-of-{world_size:05d}.safetensors"
    try:
        save_file(flat, path)
    except SafetensorError as error:  # it wraps the machine's errors; the disk may be full
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number.group(1)), str(error), str(path)) if number else error from error
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def commit(run: Path, step: int, facts: dict[str, Any], world_size: int) -> Path:
    """Give a checkpoint its name, once every rank has written its share. Called by one rank."""
    folder = temporary(run, step)
    files = {}
    for rank in range(world_size):
        path = folder / f"rank-{rank:05d}-of-{world_size:05d}.safetensors"
        files[path.name] = sha256_of(path)
    atomic.write_json(folder / "checkpoint.json", {"format": FORMAT, "step": step, **facts, "files": files})
    final = run / "checkpoints" / folder_name(step)
    atomic.rename_folder(folder, final)
    return final


def newest(run: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None."""
    found = complete(run)
    return found[-1] if found else None


def complete(run: Path) -> list[Path]:
    """The complete checkpoints of a run, by step."""
    found = [path for path in (run / "checkpoints").glob("step-*") if NAME.fullmatch(path.name)]
    return sorted((path for path in found if (path / "checkpoint.json").is_file()), key=step_of)


def step_of(folder: Path) -> int:
    """The step of a checkpoint's folder name."""
    match = NAME.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder.name} is not the name of a checkpoint")
    return int(match.group(1))


def read_facts(folder: Path) -> dict[str, Any]:
    """The checkpoint.json of a checkpoint; UserError where it is damaged or its format is not ours."""
    try:
        facts = json.loads((folder / "checkpoint.json").read_text())
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise UserError(f"{folder / 'checkpoint.json'} is damaged; remove {folder} to resume from the one before it")
    if facts.get("format") != FORMAT:
        raise UserError(f"{folder} has checkpoint format {facts.get('format')}, this version reads {FORMAT}")
    return facts


def load(folder: Path) -> Checkpoint:
    """Read and assemble a checkpoint; UserError where a file is missing or damaged, or a tensor not whole."""
    facts = read_facts(folder)
    shapes: dict[str, dict[str, list[int]]] = facts["shapes"]
    tensors = {
        player: {
            kind: {name: torch.full((_numel(shape),), torch.nan) for name, shape in named.items()} for kind in KINDS
        }
        for player, named in shapes.items()
    }
    stretches: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for name, expected in facts["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise UserError(f"{path} is missing or damaged; remove {folder} to resume from the one before it")
        with safe_open(path, framework="pt") as reader:
            for key in reader.keys():  # noqa: SIM118  not a dict
                player, kind, rest = key.split("/", 2)
                parameter, _, start = rest.rpartition("@")
                piece = reader.get_tensor(key)
                stretch = int(start), int(start) + piece.numel()
                tensors[player][kind][parameter][slice(*stretch)] = piece
                stretches.setdefault((player, kind, parameter), []).append(stretch)
    for player, named in shapes.items():
        for kind in KINDS:
            for name, shape in named.items():
                if not _whole(stretches.get((player, kind, name), []), _numel(shape)):
                    raise UserError(
                        f"{folder} does not hold {player}/{kind}/{name} whole; remove it to resume from the one before"
                    )
                tensors[player][kind][name] = tensors[player][kind][name].view(shape)
    return Checkpoint(facts["step"], facts, tensors)


def prune(run: Path, keep_last: int, keep_every: int) -> None:
    """Remove old checkpoints, but never the last `keep_last`, nor multiples of `keep_every` steps."""
    for path in complete(run)[:-keep_last]:
        if not keep_every or step_of(path) % keep_every:
            doomed = path.with_name(f"{atomic.TEMPORARY}old-{path.name}")
            os.replace(path, doomed)  # a kill from here on leaves nothing that looks like a checkpoint
            shutil.rmtree(doomed)


def _whole(stretches: list[tuple[int, int]], numel: int) -> bool:
    """Whether stretches cover [0, numel) without a gap or an overlap."""
    at = 0
    for start, stop in sorted(stretches):
        if start != at:
            return False
        at = stop
    return at == numel


def _numel(shape: list[int]) -> int:
    return torch.Size(shape).numel()
