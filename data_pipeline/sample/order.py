"""Slot -> row of the manifest: a pure function of (selection, repeats, seed, slot).

Slot n belongs to step n // global_batch. Neither rank, world size, worker count nor the time of day enters,
so the data cursor of a run is one integer, and seeking to any slot costs the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from data_pipeline.sample.mixture import Deal, shares
from data_pipeline.sample.selection import Selection
from data_pipeline.sample.slot_random import Purpose, slot_random

BLOCK_SHARDS = 8  # samples are permuted inside blocks of this many shards, so that reads stay near each other


class Order:
    """Slot -> row of the manifest: slots are dealt to corpora (sample/mixture.py), and each corpus is shuffled.

    `repeats`: how often a corpus's clips come while a clip of a corpus of 1 repeat comes once. Raises UserError for
    impossible repeats.
    """

    def __init__(
        self,
        selection: Selection,
        seed: int,
        block_shards: int = BLOCK_SHARDS,
        repeats: Mapping[str, float] | None = None,
    ):
        if not len(selection):
            raise ValueError("an order needs at least one clip")
        self.selection, self.seed, self.block_shards, self.repeats = selection, seed, block_shards, repeats
        self.used_repeats = {name: times for name, times in (repeats or {}).items() if name in selection.clips}
        names, slots, _ = shares(selection.clips, self.used_repeats)
        self.deal = Deal(slots)
        self.shuffled = [
            ShuffledCorpus(selection.of_corpus(name), selection.first_row_s, block_shards, self._random(name))
            for name in names
        ]

    def _random(self, corpus: str) -> Callable[[int, int], np.random.Generator]:
        """(epoch, block) -> random numbers of a corpus's order."""
        digest = f"{self.selection.digest}:{corpus}" if len(self.selection.corpus_n) else self.selection.digest
        return lambda epoch, block: slot_random(digest, self.seed, epoch, Purpose.ORDER, block)

    def row(self, slot: int) -> int:
        """The manifest row of a slot."""
        corpus, number = self.deal(slot)
        return self.shuffled[corpus].row(number)

    def substitute(self, slot: int, attempt: int) -> int:
        """The row that replaces a slot's damaged clip: the `attempt`th draw (1, 2, ...) among those of its corpus."""
        corpus, _ = self.deal(slot)
        rows_n = self.shuffled[corpus].rows_n
        random = slot_random(self.selection.digest, self.seed, slot, Purpose.SUBSTITUTE)
        return int(rows_n[random.integers(len(rows_n), size=attempt)[-1]])

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("selection", "seed", "block_shards", "repeats")}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)  # type: ignore[misc]


class ShuffledCorpus:
    """The order of one corpus: number -> row. Each clip comes once in every epoch.

    Shards are permuted anew in each epoch, then the samples inside each block of shards. Only the blocks that are
    asked for are computed.
    """

    def __init__(
        self,
        rows_n: np.ndarray,
        first_row_s: np.ndarray,
        block_shards: int,
        random: Callable[[int, int], np.random.Generator],
    ):
        self.rows_n, self.block_shards, self.random = rows_n, block_shards, random
        self.starts = np.unique(np.append(np.searchsorted(rows_n, first_row_s), len(rows_n)))  # of shards with clips
        self._epoch = functools.lru_cache(maxsize=2)(self._shards)
        self._block = functools.lru_cache(maxsize=4)(self._samples)

    def row(self, number: int) -> int:
        """The row of the corpus's example `number` since the start of the run."""
        epoch, place = divmod(number, len(self.rows_n))
        _, ends = self._epoch(epoch)
        block = int(np.searchsorted(ends, place, "right"))
        return int(self._block(epoch, block)[place - (int(ends[block - 1]) if block else 0)])

    def _shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards in the epoch's order, and the number of samples up to the end of each block of them."""
        order = self.random(epoch, 0).permutation(len(self.starts) - 1)
        ends = np.cumsum((self.starts[1:] - self.starts[:-1])[order])
        last = np.arange(self.block_shards, len(order) + self.block_shards, self.block_shards) - 1
        return order, ends[np.minimum(last, len(order) - 1)]

    def _samples(self, epoch: int, block: int) -> np.ndarray:
        """Rows of a block of shards in the epoch's order."""
        order, _ = self._epoch(epoch)
        shards = order[block * self.block_shards : (block + 1) * self.block_shards]
        rows_n = np.concatenate([self.rows_n[self.starts[s] : self.starts[s + 1]] for s in shards])
        return self.random(epoch, block + 1).permutation(rows_n)


def examples_of_epoch(selection: Selection, repeats: Mapping[str, float]) -> float:
    """Slots in which a clip of a corpus of 1 repeat comes once, and others as often as their repeats say."""
    return sum(count * repeats.get(name, 1) for name, count in selection.clips.items())
