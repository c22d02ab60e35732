"""The slot contract: what training example n holds is a pure function of (selection, seed, n).

Slot n belongs to step n // global_batch. Neither rank, world size, worker count nor the time of day enters,
so the data cursor of a run is one integer, and seeking to any slot costs the same.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.manifest import Manifest

BLOCK_SHARDS = 8  # samples are permuted inside blocks of this many shards, so that reads stay near each other


@dataclass(frozen=True)
class Selection:
    """The clips a run may draw, in manifest order, and the digest that names them."""

    rows_n: np.ndarray  # rows of the manifest
    shards_n: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.rows_n)


def select(manifest: Manifest, split: str, columns: Sequence[str]) -> Selection:
    """The clips of a split. The digest covers their ordered keys, shards, and the `columns` that examples use."""
    rows = manifest.rows(split)
    digest = hashlib.blake2b(digest_size=16)
    for name in ("key", "shard", *columns):
        digest.update(name.encode() + b"\0")
        for value in manifest.column(name)[rows].tolist():
            digest.update(str(value).encode() + b"\0")
    return Selection(rows, manifest.column("shard")[rows], digest.hexdigest())


class Order:
    """Slot -> row of the manifest. Each clip comes once in every epoch.

    Shards are permuted anew per epoch, then the samples inside each block of shards.
    """

    def __init__(self, selection: Selection, seed: int, block_shards: int = BLOCK_SHARDS):
        if not len(selection):
            raise ValueError("an order needs at least one clip")
        self.selection, self.seed, self.block_shards = selection, seed, block_shards
        self._epoch = functools.lru_cache(maxsize=2)(self._permuted)

    def row(self, slot: int) -> int:
        """The manifest row of a slot."""
        epoch, place = divmod(slot, len(self.selection))
        return int(self._epoch(epoch)[place])

    def _permuted(self, epoch: int) -> np.ndarray:
        random = slot_random(self.selection.digest, self.seed, epoch, purpose=ORDER)
        members: dict[int, list[int]] = {}
        for row, shard in zip(self.selection.rows_n.tolist(), self.selection.shards_n.tolist()):
            members.setdefault(shard, []).append(row)
        shards = random.permutation(sorted(members))
        blocks = []
        for start in range(0, len(shards), self.block_shards):
            block = [row for shard in shards[start : start + self.block_shards] for row in members[int(shard)]]
            blocks.append(random.permutation(np.array(block)))
        return np.concatenate(blocks)

    def __getstate__(self) -> dict:
        return {"selection": self.selection, "seed": self.seed, "block_shards": self.block_shards}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)  # type: ignore[misc]


# What random numbers are for; each purpose has a stream of its own, so that a new use disturbs no old one.
ORDER, WINDOW, SOURCE, NOISE, VOICE = range(5)
SYNC_WINDOW, SYNC_VOICE, IDENTITY_WINDOW = range(5, 8)
REFERENCES = 8


def slot_random(digest: str, seed: int, slot: int, purpose: int) -> np.random.Generator:
    """Random numbers that belong to one slot and purpose: Philox, keyed by (digest, seed), counted by both."""
    return np.random.Generator(np.random.Philox(key=_key(digest, seed), counter=[0, 0, slot, purpose]))


@functools.lru_cache(maxsize=16)
def _key(digest: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{digest}:{seed}".encode(), digest_size=16).digest(), "big")


def micro_batches(
    global_batch: int, micro_batch: int, rank: int, world_size: int, start_step: int, stop_step: int
) -> Iterator[list[int]]:
    """Slots of each micro-batch of a rank, in order. Every step covers its global batch exactly once."""
    per_round = micro_batch * world_size
    assert global_batch % per_round == 0, "train.batching derives a micro-batch that divides"
    for step in range(start_step, stop_step):
        for first in range(step * global_batch, (step + 1) * global_batch, per_round):
            start = first + rank * micro_batch
            yield list(range(start, start + micro_batch))
