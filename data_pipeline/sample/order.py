"""The slot contract: what training example n holds is a pure function of (selection, repeats, seed, n).

Slot n belongs to step n // global_batch. Neither rank, world size, worker count nor the time of day enters,
so the data cursor of a run is one integer, and seeking to any slot costs the same.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.sample import filter as filters
from data_pipeline.sample.mixture import Deal, refuse_unknown, shares
from data_pipeline.shards.manifest import Manifest, texts
from mytalk.command import UserError

BLOCK_SHARDS = 8  # samples are permuted inside blocks of this many shards, so that reads stay near each other
MOST_CORPORA = 2**15  # a clip's is kept in 16 bits
MISSING = -(2**63)  # hashed in the place of a whole number that is missing
OFFSET = "sync_offset"  # frames of 25 Hz by which the sound is late; a column that annotating adds


@dataclass(frozen=True)
class Selection:
    """The clips a run may draw, in manifest order, and the digest that names them."""

    rows_n: np.ndarray  # rows of the manifest, ascending
    shards_s: np.ndarray  # the manifest's shards, and
    first_row_s: np.ndarray  # the first row of each: rows are in the order of shards
    digest: str
    corpus_n: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))  # empty: all of one corpus
    corpora: tuple[str, ...] = ("",)
    dropped: dict[str, int] = field(default_factory=dict)  # by each term of the filter alone, of the split's clips

    def __len__(self) -> int:
        return len(self.rows_n)

    @property
    def clips(self) -> dict[str, int]:
        """Clips of each corpus."""
        if not len(self.corpus_n):
            return {self.corpora[0]: len(self)}
        counts = np.bincount(self.corpus_n, minlength=len(self.corpora)).tolist()
        return {name: count for name, count in zip(self.corpora, counts) if count}

    def of_corpus(self, name: str) -> np.ndarray:
        """Rows of a corpus's clips."""
        return self.rows_n[self.corpus_n == self.corpora.index(name)] if len(self.corpus_n) else self.rows_n

    def shard(self, row: int) -> int:
        """The shard of a row."""
        return int(self.shards_s[np.searchsorted(self.first_row_s, row, "right") - 1])

    def facts(self) -> dict[str, Any]:
        """What a resumed run must find as it was."""
        return {"digest": self.digest, "clips": self.clips}


def select(
    manifest: Manifest,
    split: str,
    columns: Sequence[str],
    where: str = "",
    shards_until: int = 0,
    repeats: Mapping[str, float] | None = None,
    usable: np.ndarray | None = None,
) -> Selection:
    """The clips of a split that a filter keeps (sample/filter.py), from shards below `shards_until` (0: all).

    The digest covers their ordered keys, corpora and shards, and the `columns` that examples use: neither another
    column nor shards appended later change it. A corpus of 0 `repeats` is left out, and rows that are not `usable`.
    Raises UserError where nothing is left, or the filter cannot be read.
    """
    wanted = filters.parse(where)
    filters.refuse_unknown(wanted, manifest.names)
    if repeats:
        refuse_unknown(repeats, manifest.codes("corpus")[1] if manifest.has("corpus") else [])
    left_out = {name for name, times in (repeats or {}).items() if times == 0}
    hashed = list(dict.fromkeys(["key", "shard", *columns]))
    names = list(dict.fromkeys([*hashed, "split", "corpus", *wanted.columns]))
    names = [name for name in names if name != "corpus" or manifest.has("corpus")]
    digests = {name: _Hashed() for name in hashed}
    rows, kinds, dropped, before = [], [], dict.fromkeys(wanted.terms, 0), 0
    shards: list[int] = []
    first_rows: list[int] = []
    corpora: dict[str, int] = {}
    left = {"in it": 0, "usable": 0, "asked": 0}
    row_kind = np.int32 if len(manifest) < 2**31 else np.int64
    for batch in manifest.batches(names):
        taken = _texts_equal(batch["split"], split)
        left["in it"] += int(taken.sum())
        if usable is not None:
            taken &= usable[before : before + len(batch)]
        left["usable"] += int(taken.sum())
        if shards_until:
            taken &= batch["shard"].to_numpy() < shards_until
        kind = _places(batch["corpus"], corpora) if "corpus" in names else np.zeros(len(batch), np.int16)
        if left_out:
            taken &= ~np.isin(kind, [corpora[name] for name in left_out if name in corpora])
        left["asked"] += int(taken.sum())
        if wanted.terms and taken.any():
            asked = batch.filter(pa.array(taken))
            kept, alone = filters.keep(wanted, {name: asked[name] for name in wanted.columns}, len(asked))
            taken[taken] = kept
            for term, count in alone.items():
                dropped[term] += count
        chosen = batch.filter(pa.array(taken))
        for name, digest in digests.items():
            digest.update(chosen[name])
        rows.append((np.flatnonzero(taken) + before).astype(row_kind))
        shard = batch["shard"].to_numpy()
        begins = np.flatnonzero(np.diff(shard, prepend=shards[-1] if shards else -1))
        shards += shard[begins].tolist()
        first_rows += (begins + before).tolist()
        kinds.append(kind[taken].astype(np.int16))
        before += len(batch)
    rows_n, corpus_n = _joined(rows), _joined(kinds)
    if (np.diff(shards) < 0).any():
        raise UserError(f"{manifest.folder}: the manifest's rows are not in the order of shards; make it anew")
    if not len(rows_n):
        raise UserError(f"{manifest.folder}: {_why(manifest, split, left, dropped)}")
    if len(corpora) > MOST_CORPORA:
        raise UserError(f"{manifest.folder}: {len(corpora)} corpora, and {MOST_CORPORA} is the most; merge some")
    corpus_n, drawn = _of_drawn(corpus_n, list(corpora) or [""])
    named = hashlib.blake2b(digest_size=16)
    for name, digest in digests.items():
        named.update(f"{name}:{digest.hexdigest()}\n".encode())
    if len(corpus_n):
        named.update(repr(drawn).encode() + corpus_n.tobytes())
    held = np.array(shards), np.array(first_rows)
    return Selection(rows_n, *held, named.hexdigest(), corpus_n, drawn, dropped)


def _of_drawn(corpus_n: np.ndarray, corpora: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Corpora that clips are drawn from, sorted, and each clip's among them (none where there is one).

    The others are forgotten: they may come with shards that are appended while a run keeps to those it began with.
    """
    there = [i for i, count in enumerate(np.bincount(corpus_n, minlength=len(corpora)).tolist()) if count]
    there.sort(key=lambda i: corpora[i])
    if len(there) == 1:
        return corpus_n[:0], (corpora[there[0]],)
    place = np.zeros(len(corpora), np.int16)
    place[there] = np.arange(len(there))
    return place[corpus_n], tuple(corpora[i] for i in there)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """All pieces as one array; they are given up, so that no column is held twice for longer than it takes."""
    joined = np.concatenate(pieces)
    pieces.clear()
    return joined


def _why(manifest: Manifest, split: str, left: Mapping[str, int], dropped: Mapping[str, int]) -> str:
    """Why nothing is left of a split. Raises UserError where nobody is in it."""
    if not left["in it"]:
        manifest.rows(split)
    if not left["usable"]:
        return f"no clip of split '{split}' is as long as is needed; extract longer clips"
    if not left["asked"]:
        return f"nothing of split '{split}' is left; raise shards_until, or give a corpus repeats"
    told = ", ".join(f"'{term}' alone drops {count}" for term, count in dropped.items())
    return f"the filter leaves nothing of split '{split}' ({told}); loosen it"


def _texts_equal(values: pa.ChunkedArray, text: str) -> np.ndarray:
    codes: dict[str, int] = {}
    places = _places(values, codes)
    return places == codes.get(text, -2)


def _places(values: pa.ChunkedArray, known: dict[str, int]) -> np.ndarray:
    """Texts as numbers in order of appearance, which `known` holds from one batch of rows to the next."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    pieces = []
    for chunk in values.chunks:
        held, place_n = texts(chunk)
        pieces.append(np.array([known.setdefault(value, len(known)) for value in held], np.int32)[place_n])
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)


class _Hashed:
    """The digest of a column, whatever pieces it comes in. Numbers are hashed as 64 bits, texts with their lengths."""

    def __init__(self) -> None:
        self.values, self.lengths = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)

    def update(self, values: pa.ChunkedArray) -> None:
        kind = values.type
        if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            for chunk in values.cast(pa.large_string()).fill_null("").chunks:
                if len(chunk):
                    _, offsets, data = chunk.buffers()
                    ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
                    self.lengths.update(np.diff(ends).tobytes())
                    self.values.update(memoryview(data)[ends[0] : ends[-1]] if data is not None else b"")
            return
        if not pa.types.is_floating(kind):
            values = values.cast(pa.int64()).fill_null(MISSING)  # else floats, in pieces where one is missing
        numbers = values.to_numpy()
        self.values.update(numbers.astype("<f8" if numbers.dtype.kind == "f" else "<i8").tobytes())

    def hexdigest(self) -> str:
        return self.values.hexdigest() + self.lengths.hexdigest()


class _Shuffled:
    """The order of one corpus: number -> row. Each clip comes once in every epoch.

    Shards are permuted anew per epoch, then the samples inside each block of shards; only what is asked for is made.
    """

    def __init__(self, rows_n: np.ndarray, first_row_s: np.ndarray, block_shards: int, random):
        self.rows_n, self.block_shards, self.random = rows_n, block_shards, random
        self.starts = np.unique(np.append(np.searchsorted(rows_n, first_row_s), len(rows_n)))  # of shards with clips
        self._epoch = functools.lru_cache(maxsize=2)(self._shards)
        self._block = functools.lru_cache(maxsize=4)(self._samples)

    def __len__(self) -> int:
        return len(self.rows_n)

    def row(self, number: int) -> int:
        epoch, place = divmod(number, len(self))
        _, ends = self._epoch(epoch)
        block = int(np.searchsorted(ends, place, "right"))
        return int(self._block(epoch, block)[place - (int(ends[block - 1]) if block else 0)])

    def _shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Shards in the epoch's order, and past how many samples each block of them ends."""
        order = self.random(epoch, 0).permutation(len(self.starts) - 1)
        ends = np.cumsum((self.starts[1:] - self.starts[:-1])[order])
        last = np.arange(self.block_shards, len(order) + self.block_shards, self.block_shards) - 1
        return order, ends[np.minimum(last, len(order) - 1)]

    def _samples(self, epoch: int, block: int) -> np.ndarray:
        order, _ = self._epoch(epoch)
        chosen = order[block * self.block_shards : (block + 1) * self.block_shards]
        inside = np.concatenate([self.rows_n[self.starts[s] : self.starts[s + 1]] for s in chosen])
        return self.random(epoch, block + 1).permutation(inside)


class Order:
    """Slot -> row of the manifest: the corpora are dealt (sample/mixture.py), each has an order of its own.

    `repeats`: how often a corpus's clips come while one of another, of 1 repeat, comes once. Raises UserError for
    repeats that cannot be.
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
        self.given = {name: times for name, times in (repeats or {}).items() if name in selection.clips}
        names, slots, _ = shares(selection.clips, self.given)
        self.deal = Deal(slots)
        self.shuffled = [
            _Shuffled(selection.of_corpus(name), selection.first_row_s, block_shards, self._random(name))
            for name in names
        ]

    def _random(self, corpus: str):
        digest = f"{self.selection.digest}:{corpus}" if len(self.selection.corpus_n) else self.selection.digest
        return lambda epoch, block: slot_random(digest, self.seed, epoch, ORDER, block)

    def row(self, slot: int) -> int:
        """The manifest row of a slot."""
        corpus, number = self.deal(slot)
        return self.shuffled[corpus].row(number)

    def substitute(self, slot: int, attempt: int) -> int:
        """The row that takes a slot's place where its own cannot be read: the `attempt`th draw (1, 2, ...)."""
        corpus, _ = self.deal(slot)
        among = self.shuffled[corpus]
        random = slot_random(self.selection.digest, self.seed, slot, SUBSTITUTE)
        return int(among.rows_n[random.integers(len(among), size=attempt)[-1]])

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("selection", "seed", "block_shards", "repeats")}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)  # type: ignore[misc]


# What random numbers are for; each purpose has a stream of its own, so that a new use disturbs no old one.
ORDER, WINDOW, SOURCE, NOISE, VOICE = range(5)
SYNC_WINDOW, SYNC_VOICE, IDENTITY_WINDOW = range(5, 8)
REFERENCES, SUBSTITUTE = 8, 9


def slot_random(digest: str, seed: int, slot: int, purpose: int, block: int = 0) -> np.random.Generator:
    """Random numbers that belong to one slot and purpose: Philox, keyed by (digest, seed), counted by the others."""
    return np.random.Generator(np.random.Philox(_key(digest, seed), counter=[0, block, slot, purpose]))


class _Key(np.random.bit_generator.ISeedSequence):
    """A key of Philox, as a seed: given as `key`, numpy first asks the system for a seed of its own, at four times the
    cost of all the rest. The numbers are the same.
    """

    def __init__(self, key: int):
        self.words = np.array([key & (2**64 - 1), key >> 64], np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        assert (n_words, dtype) == (2, np.uint64), "what Philox asks for"
        return self.words


@functools.lru_cache(maxsize=64)
def _key(digest: str, seed: int) -> Any:  # numpy's types name no other ISeedSequence than its own
    return _Key(int.from_bytes(hashlib.blake2b(f"{digest}:{seed}".encode(), digest_size=16).digest(), "big"))


def examples_of_epoch(selection: Selection, repeats: Mapping[str, float]) -> float:
    """Slots in which a clip of a corpus of 1 repeat comes once, and the others as often as their repeats say."""
    return sum(count * repeats.get(name, 1) for name, count in selection.clips.items())


def micro_batches(
    global_batch: int, micro_batch: int, rank: int, world_size: int, start_step: int, stop_step: int
) -> Iterator[list[int]]:
    """Slots of each micro-batch of a rank, in order. Every step covers its global batch exactly once."""
    per_round = micro_batch * world_size
    assert global_batch % per_round == 0, "data_pipeline.sample.batch_plan derives a micro-batch that divides"
    for step in range(start_step, stop_step):
        for first in range(step * global_batch, (step + 1) * global_batch, per_round):
            start = first + rank * micro_batch
            yield list(range(start, start + micro_batch))


def shared_once(costs_n: Sequence[float] | np.ndarray, world_size: int) -> list[np.ndarray]:
    """Items shared out among ranks for validation and scoring: each by exactly one, the costs nearly even.

    The longest first, each to the rank that has least so far: no rank has more than the least one by more than one
    item's cost. A rank may have none. Places are ascending.
    """
    ranks: list[tuple[float, int]] = [(0.0, rank) for rank in range(world_size)]
    held: list[list[int]] = [[] for _ in range(world_size)]
    for item in np.argsort(-np.asarray(costs_n, float), kind="stable").tolist():
        cost, rank = ranks[0]
        heapq.heapreplace(ranks, (cost + float(costs_n[item]), rank))
        held[rank].append(item)
    return [np.array(sorted(items), np.int64) for items in held]
