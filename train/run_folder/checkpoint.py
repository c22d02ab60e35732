"""Checkpoints: every network, its Adam moments, its EMA and the slot cursor, free of ZeRO stage and world size.

    step-000300/
      checkpoint.json              format, step, cursor, shapes, counters, files with digests
      rank-00000-of-00002.safetensors   this rank's fragments, named player/kind/parameter@start

Each rank writes its own fragments; assembling happens when loading. The folder is made under a temporary name
and renamed when it is whole, so an incomplete one is never loaded. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mytalk import atomic
from mytalk.command import UserError
from mytalk.digest import sha256_of

FORMAT = 1
FACTS = "checkpoint.json"
KINDS = ("weight", "exp_avg", "exp_avg_sq", "ema")
NAME = re.compile(r"step-(\d{6,})")
BLOCK_BYTES = 8 << 20
SYNC_BLOCKS = 64  # flushed to disk after so many

Piece = tuple[str, torch.Tensor]  # player/kind/parameter@start, and its values


def folder_name(step: int) -> str:
    """The folder of the checkpoint taken after `step` steps."""
    return f"step-{step:06d}"


def temporary(run: Path, step: int, token: str = "") -> Path:
    """Where the ranks write before the checkpoint gets its name; `token` tells the writers of one start from others."""
    return run / "checkpoints" / f"{atomic.TEMPORARY}{folder_name(step)}{token and f'-{token}'}"


def rank_file(rank: int, world_size: int) -> str:
    """The name of a rank's file."""
    return f"rank-{rank:05d}-of-{world_size:05d}.safetensors"


# Writing


class HostCopy:
    """A copy of a rank's fragments in one buffer of host memory, to be written while training goes on.

    The buffer is allocated once, page-locked where there is a GPU, and has the layout of the file: a header of
    safetensors, then the values, fp32, little-endian.
    """

    def __init__(self, pieces: Sequence[Piece]):
        self.pieces = pieces
        pinned = any(values.device.type == "cuda" for _, values in pieces)
        total = sum(values.numel() for _, values in pieces)
        self.values = torch.empty(total, dtype=torch.float32, pin_memory=pinned)
        self.views, header, at = [], {}, 0
        for name, values in pieces:
            stop = at + values.numel()
            self.views.append(self.values[at:stop])
            header[name] = {"dtype": "F32", "shape": [values.numel()], "data_offsets": [4 * at, 4 * stop]}
            at = stop
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # values begin at a multiple of 8 bytes
        self.header = len(text).to_bytes(8, "little") + text

    def take(self) -> None:
        """Copy the current fragments."""
        for view, (_, values) in zip(self.views, self.pieces):
            view.copy_(values, non_blocking=True)
        if self.values.is_pinned():
            torch.cuda.synchronize()

    def write(self, path: Path, tick: Callable[[], None] = lambda: None) -> str:
        """Write and flush the copy; returns its SHA-256. Hashing and writing release the GIL.

        `tick` is called between blocks. Raises OSError.
        """
        body = memoryview(self.values.view(torch.uint8).numpy())  # type: ignore[arg-type]
        blocks = (body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))
        digest = hashlib.sha256()
        with open(path, "wb", buffering=0) as handle:
            for number, block in enumerate((memoryview(self.header), *blocks), 1):
                tick()
                digest.update(block)
                while block:
                    block = block[handle.write(block) :]
                if number % SYNC_BLOCKS == 0:
                    os.fsync(handle.fileno())  # so that the last flush is short
            os.fsync(handle.fileno())
        return digest.hexdigest()


def write_rank(
    copy: HostCopy, folder: Path, rank: int, world_size: int, tick: Callable[[], None] = lambda: None
) -> None:
    """Write one rank's share, and its digest into a JSON file. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / rank_file(rank, world_size)
    atomic.write_json(path.with_suffix(".json"), {"sha256": copy.write(path, tick)})


def written(folder: Path, rank: int, world_size: int) -> bool:
    """Whether a rank has written its share."""
    return (folder / rank_file(rank, world_size)).with_suffix(".json").is_file()


def commit(run: Path, step: int, facts: dict[str, Any], world_size: int, token: str = "") -> Path:
    """Give a checkpoint its name, once every rank has written its share. Called by one rank. Raises OSError."""
    folder, files = temporary(run, step, token), {}
    for rank in range(world_size):
        path = folder / rank_file(rank, world_size)
        digest = path.with_suffix(".json")
        files[path.name] = json.loads(digest.read_text())["sha256"]
        digest.unlink()
    atomic.write_json(folder / FACTS, {"format": FORMAT, "step": step, **facts, "files": files})
    final = run / "checkpoints" / folder_name(step)
    atomic.rename_folder(folder, final)
    return final


def discard(run: Path, step: int, token: str = "") -> None:
    """Remove the files of an abandoned checkpoint."""
    shutil.rmtree(temporary(run, step, token), ignore_errors=True)


def prune(run: Path, keep_last: int, keep_every: int, tick: Callable[[], None] = lambda: None) -> None:
    """Remove old checkpoints, but never the last `keep_last`, the best that one of these names, or multiples of
    `keep_every` steps.
    """
    whole = complete(run)
    best = {best_of(path) for path in whole[-keep_last:]}
    for path in whole[:-keep_last]:
        step = step_of(path)
        if step not in best and not (keep_every and step and step % keep_every == 0):
            tick()
            doomed = path.with_name(f"{atomic.TEMPORARY}old-{path.name}")
            os.replace(path, doomed)  # after a kill nothing is left that looks like a checkpoint
            shutil.rmtree(doomed)


# Finding


def newest(run: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None."""
    checkpoints = complete(run)
    return checkpoints[-1] if checkpoints else None


def complete(run: Path) -> list[Path]:
    """The complete checkpoints of a run, by step."""
    folders = [path for path in (run / "checkpoints").glob("step-*") if NAME.fullmatch(path.name)]
    return sorted((path for path in folders if (path / FACTS).is_file()), key=step_of)


def step_of(folder: Path) -> int:
    """The step of a checkpoint's folder name."""
    match = NAME.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder.name} is not the name of a checkpoint")
    return int(match.group(1))


def read_facts(folder: Path) -> dict[str, Any]:
    """The checkpoint.json of a checkpoint. Raises UserError where it is damaged or of another format."""
    try:
        facts = json.loads((folder / FACTS).read_text())
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise UserError(f"{folder / FACTS} is damaged; remove {folder} to resume from the one before it")
    if facts.get("format") != FORMAT:
        raise UserError(f"{folder} has checkpoint format {facts.get('format')}, this version reads {FORMAT}")
    return facts


def best_of(folder: Path) -> int | None:
    """The step that a checkpoint names as the best before it; None where it names none, or is damaged."""
    try:
        return read_facts(folder).get("best", {}).get("step")
    except UserError:
        return None


# Reading


def damaged(folder: Path, rank: int = 0, world_size: int = 1) -> list[str]:
    """Files of a checkpoint that are missing or damaged; each rank checks its share of them."""
    files = sorted(read_facts(folder)["files"].items())
    return [
        str(folder / name)
        for name, expected in files[rank::world_size]
        if not (folder / name).is_file() or sha256_of(folder / name) != expected
    ]


def refuse(folder: Path, files: list[str]) -> None:
    """Raises UserError for the files that `damaged` returned, if any."""
    if files:
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        raise UserError(f"{files[0]}{more} is missing or damaged; remove {folder} to resume from the one before it")


@dataclass
class Checkpoint:
    """A checkpoint on disk, read in parts: a file is opened when something is needed that those before did not hold.

    All values are fp32, on CPU. `near` (0 to 1) is where in the order of ranks the reader stands: a rank that goes on
    where it was finds what it needs in one file.
    """

    folder: Path
    step: int
    facts: dict[str, Any]
    shapes: dict[str, dict[str, tuple[int, ...]]]  # of every player's parameters
    unopened: list[str]  # names of files, the next one last
    stretches: dict[str, list[tuple[int, int, Any]]] = field(default_factory=dict, repr=False)
    # player/kind/parameter -> start, stop, reader

    def stretch(self, player: str, kind: str, name: str, start: int, stop: int) -> torch.Tensor:
        """Values [start, stop) of a flattened tensor. UserError where the files do not hold each of them once."""
        full, result = f"{player}/{kind}/{name}", torch.empty(stop - start)
        while not _whole(self._within(full, start, stop), stop - start):
            if not self.unopened:
                raise UserError(f"{self.folder} does not hold {full} whole; remove it to resume from the one before")
            self._open(self.unopened.pop())
        for begins, ends, reader in self.stretches.get(full, []):
            low, high = max(start, begins), min(stop, ends)
            if low < high:
                values = reader.get_slice(f"{full}@{begins}")[low - begins : high - begins]
                result[low - start : high - start] = values
        return result

    def _within(self, full: str, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of [start, stop), counted from start, that open files hold."""
        parts = [(max(start, a) - start, min(stop, b) - start) for a, b, _ in self.stretches.get(full, [])]
        return [(low, high) for low, high in parts if low < high]

    def _open(self, name: str) -> None:
        """Read the header of a file. UserError where it is damaged."""
        try:
            reader = safe_open(self.folder / name, framework="pt")
        except (SafetensorError, OSError):
            refuse(self.folder, [str(self.folder / name)])
        for key in reader.keys():  # noqa: SIM118  not a dict
            full, _, start = key.rpartition("@")
            (numel,) = reader.get_slice(key).get_shape()
            self.stretches.setdefault(full, []).append((int(start), int(start) + numel, reader))

    def check(self) -> Checkpoint:
        """Open every file. UserError where a tensor is not whole."""
        while self.unopened:
            self._open(self.unopened.pop())
        for player, named in self.shapes.items():
            for kind in KINDS:
                for name, shape in named.items():
                    full = f"{player}/{kind}/{name}"
                    if not _whole([(a, b) for a, b, _ in self.stretches.get(full, [])], math.prod(shape)):
                        raise UserError(
                            f"{self.folder} does not hold {full} whole; remove it to resume from the one before"
                        )
        return self

    def whole(self, player: str, kind: str) -> dict[str, torch.Tensor]:
        """All tensors of a kind, by the parameter's name."""
        return {
            name: self.stretch(player, kind, name, 0, math.prod(shape)).view(shape)
            for name, shape in self.shapes[player].items()
        }

    @cached_property
    def tensors(self) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
        """Everything in memory: `tensors[player][kind][parameter]`."""
        return {player: {kind: self.whole(player, kind) for kind in KINDS} for player in self.shapes}


def load(folder: Path) -> Checkpoint:
    """A checkpoint whose files are what was written; UserError where one is not, or a tensor is not whole."""
    refuse(folder, damaged(folder))
    return index(folder).check()


def index(folder: Path, rank: int = 0, world_size: int = 1) -> Checkpoint:
    """A checkpoint whose files have been checked already, for a rank that reads its part of it."""
    facts = read_facts(folder)
    shapes = {p: {n: tuple(shape) for n, shape in named.items()} for p, named in facts["shapes"].items()}
    names = sorted(facts["files"])
    middle = (rank + 0.5) / world_size * len(names) - 0.5
    nearest_last = sorted(range(len(names)), key=lambda number: -abs(number - middle))
    return Checkpoint(folder, facts["step"], facts, shapes, [names[number] for number in nearest_last])


def _whole(stretches: list[tuple[int, int]], numel: int) -> bool:
    """Whether stretches cover [0, numel) without a gap or an overlap."""
    at = 0
    for start, stop in sorted(stretches):
        if start != at:
            return False
        at = stop
    return at == numel
