"""Contestants that make the same batches in turn, and what a bare reader knows beforehand of where bytes lie."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from benchmarks.harness import Row
from data_pipeline.sample.batches import Batch, Examples
from data_pipeline.shards import reader
from mytalk.face.landmarks import COUNT

MICRO_BATCH = 8
SLOTS = 256  # whose places the floors know beforehand; they come round again
ROUNDS, LEAST_ROUNDS = 15, 5


@dataclass
class Contestant:
    """Makes a batch of slots. `wall_s` and `cpu_s` are seconds an example, of every round."""

    make: Callable[[list[int]], Any]
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def take_turns(contestants: list[Contestant], args: argparse.Namespace, what: str) -> None:
    """Every contestant makes batches of the same slots, in turn, for `--seconds` in all."""
    rounds = ROUNDS if args.seconds >= 1 else LEAST_ROUNDS
    for contestant in contestants:  # warms up: files are opened, sums read, decoders made
        contestant.make(list(range(MICRO_BATCH)))
    for number in harness.turns(what, len(contestants), rounds):
        contestant = contestants[number]
        examples, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < args.seconds / rounds:
            first = examples % SLOTS
            contestant.make(list(range(first, first + MICRO_BATCH)))
            examples += MICRO_BATCH
        contestant.wall_s.append((time.perf_counter() - wall) / examples)
        contestant.cpu_s.append((time.process_time() - cpu) / examples)


def row_of(what: str, ours: Contestant, rival: Contestant, goal: float) -> Row:
    """The table's line of two contestants, in examples a second."""
    ratios = [theirs / own for own, theirs in zip(ours.wall_s, rival.wall_s)]
    own_rate, rate = (f"{1 / np.median(one.wall_s):.0f}" for one in (ours, rival))
    cpu_ratio = float(np.median(rival.cpu_s) / np.median(ours.cpu_s))
    return Row(what, own_rate, rate, ratios, f"{goal:g}", cpu_ratio)


def assert_same(ours: Batch, theirs: Batch) -> None:
    """Every tensor of two batches is equal in shape, kind and values."""
    own, other = ours.tensors(), theirs.tensors()
    assert own.keys() == other.keys()
    for name in own:
        assert own[name].dtype == other[name].dtype, name
        assert torch.equal(own[name], other[name]), name
    assert ours.keys_B == theirs.keys_B


class Known:
    """What a bare reader knows beforehand of a slot: its example, its clip's key, and byte ranges of files."""

    def __init__(self, of: Examples, numbers: range):
        self.manifest, self.opened = of.manifest, dict[str, int]()
        self.examples = {slot: of.windows.example(slot) for slot in numbers}
        self.named = {s: (str(of.manifest.at(e.window.row, "key")), e.window.start) for s, e in self.examples.items()}
        self.places = {
            slot: [self.place(reader.piece_of(of.manifest, request)) for request in of.windows.requests(example)]
            for slot, example in self.examples.items()
        }

    def place(self, piece: reader.Piece) -> tuple[int, int, int]:
        """(descriptor, size, offset) of a piece, as pread takes them."""
        path = str(self.manifest.shard_path(piece.column, int(self.manifest.at(piece.row, "shard"))))
        if path not in self.opened:
            self.opened[path] = os.open(path, os.O_RDONLY)
        return self.opened[path], piece.size, piece.offset

    def tell(self, numbers: list[int]) -> dict[str, Any]:
        """`Examples.named` without looking anything up."""
        keys, starts = zip(*(self.named[slot] for slot in numbers))
        return {"slots_B": torch.tensor(numbers), "keys_B": list(keys), "starts_B": torch.tensor(starts)}

    def close(self) -> None:
        for descriptor in self.opened.values():
            os.close(descriptor)


def as_points(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f2").reshape(-1, COUNT, 3)


def as_float(half: np.ndarray) -> np.ndarray:
    """As float32 by torch, for all alike: numpy takes 30 times as long."""
    return torch.from_numpy(half).float().numpy()
