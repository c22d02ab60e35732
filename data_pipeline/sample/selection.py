"""The clips that a run may draw, and the digest that names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.sample.filter import keep, parse, refuse_unknown
from data_pipeline.sample.mixture import refuse_unknown_corpora
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.columns import texts
from mytalk.command import UserError

MAX_CORPORA = 2**15  # a clip's corpus is stored in 16 bits
MISSING = -(2**63)  # hashed in the place of a missing integer


@dataclass(frozen=True)
class Selection:
    """The clips that a run may draw, in manifest order, and the digest that names them."""

    rows_n: np.ndarray  # rows of the manifest, ascending
    shards_s: np.ndarray  # the manifest's shards, and
    first_row_s: np.ndarray  # the first row of each: rows are in the order of shards
    digest: str
    corpus_n: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))  # empty: all of one corpus
    corpora: tuple[str, ...] = ("",)
    dropped: dict[str, int] = field(default_factory=dict)  # clips of the split that each filter term alone drops

    def __len__(self) -> int:
        return len(self.rows_n)

    @property
    def clips(self) -> dict[str, int]:
        """Number of clips of each corpus."""
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
        """What must be the same when a run resumes."""
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
    column nor shards appended later change it. Corpora of 0 `repeats` and rows that are not `usable` are left out.
    Raises UserError where no clip is left, or the filter cannot be read.
    """
    builder = SelectionBuilder(manifest, split, columns, where, shards_until, repeats, usable)
    for batch in manifest.batches(builder.columns):
        builder.update(batch)
    return builder.finish()


class SelectionBuilder:
    """Builds a selection from batches of the manifest's rows, so that no column is loaded whole. See `select`."""

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        columns: Sequence[str],
        where: str,
        shards_until: int,
        repeats: Mapping[str, float] | None,
        usable: np.ndarray | None,
    ):
        self.manifest, self.split, self.shards_until, self.usable = manifest, split, shards_until, usable
        self.filter = parse(where)
        refuse_unknown(self.filter, manifest.names)
        if repeats:
            refuse_unknown_corpora(repeats, manifest.codes("corpus")[1] if manifest.has("corpus") else [])
        self.excluded_corpora = [name for name, times in (repeats or {}).items() if times == 0]
        hashed = list(dict.fromkeys(["key", "shard", *columns]))
        used = dict.fromkeys([*hashed, "split", "corpus", *self.filter.columns])
        self.columns = [name for name in used if name != "corpus" or manifest.has("corpus")]
        self.digests = {name: ColumnDigest() for name in hashed}
        self.dropped = dict.fromkeys(self.filter.terms, 0)
        self.clips_in_split = self.clips_usable = self.clips_before_filter = 0
        self.corpora: dict[str, int] = {}  # name -> code, in order of appearance
        self.rows: list[np.ndarray] = []  # one array for each batch, as `corpus_codes`
        self.corpus_codes: list[np.ndarray] = []
        self.shards: list[int] = []
        self.first_rows: list[int] = []
        self.rows_read = 0
        self.row_type = np.int32 if len(manifest) < 2**31 else np.int64

    def update(self, batch: pa.Table) -> None:
        """Add the next rows of the manifest."""
        code = np.zeros(len(batch), np.int16)
        if "corpus" in self.columns:
            code = _codes(batch["corpus"], self.corpora)
        selected = self._before_filter(batch, code)
        if self.filter.terms and selected.any():
            candidates = batch.filter(pa.array(selected))
            values = {name: candidates[name] for name in self.filter.columns}
            kept, dropped = keep(self.filter, values, len(candidates))
            selected[selected] = kept
            for term, count in dropped.items():
                self.dropped[term] += count
        selected_rows = batch.filter(pa.array(selected))
        for name, digest in self.digests.items():
            digest.update(selected_rows[name])
        self.rows.append((np.flatnonzero(selected) + self.rows_read).astype(self.row_type))
        self.corpus_codes.append(code[selected].astype(np.int16))
        shard = batch["shard"].to_numpy()
        begins = np.flatnonzero(np.diff(shard, prepend=self.shards[-1] if self.shards else -1))
        self.shards += shard[begins].tolist()
        self.first_rows += (begins + self.rows_read).tolist()
        self.rows_read += len(batch)

    def _before_filter(self, batch: pa.Table, code: np.ndarray) -> np.ndarray:
        """Which rows of a batch all but the filter keep: bool (rows,). `code` is each row's corpus."""
        selected = _equal(batch["split"], self.split)
        self.clips_in_split += int(selected.sum())
        if self.usable is not None:
            selected &= self.usable[self.rows_read : self.rows_read + len(batch)]
        self.clips_usable += int(selected.sum())
        if self.shards_until:
            selected &= batch["shard"].to_numpy() < self.shards_until
        if self.excluded_corpora:
            selected &= ~np.isin(code, [self.corpora[name] for name in self.excluded_corpora if name in self.corpora])
        self.clips_before_filter += int(selected.sum())
        return selected

    def finish(self) -> Selection:
        """The selection of all rows. Raises UserError where no clip is left, or the manifest is not in shard order."""
        rows_n, code_n = _joined(self.rows), _joined(self.corpus_codes)
        folder = self.manifest.folder
        if (np.diff(self.shards) < 0).any():
            raise UserError(
                f"{folder}: the manifest's rows are not in the order of shards; index or extract the folder again"
            )
        if not len(rows_n):
            raise UserError(f"{folder}: {self._why_empty()}")
        if len(self.corpora) > MAX_CORPORA:
            raise UserError(f"{folder}: {len(self.corpora)} corpora are more than {MAX_CORPORA}; merge some")
        corpus_n, corpora = _used_corpora(code_n, list(self.corpora) or [""])
        digest = hashlib.blake2b(digest_size=16)
        for name, column_digest in self.digests.items():
            digest.update(f"{name}:{column_digest.hexdigest()}\n".encode())
        if len(corpus_n):
            digest.update(repr(corpora).encode() + corpus_n.tobytes())
        shards_s, first_row_s = np.array(self.shards), np.array(self.first_rows)
        return Selection(rows_n, shards_s, first_row_s, digest.hexdigest(), corpus_n, corpora, self.dropped)

    def _why_empty(self) -> str:
        """Why no clip is left. Raises UserError where the split is empty."""
        if not self.clips_in_split:
            self.manifest.rows(self.split)
        if not self.clips_usable:
            return (
                f"no clip of split '{self.split}' is as long as is needed, and has speech where it is read; extract "
                "others"
            )
        if not self.clips_before_filter:
            return f"nothing of split '{self.split}' is left; raise shards_until, or give a corpus repeats"
        terms = ", ".join(f"'{term}' alone drops {count}" for term, count in self.dropped.items())
        return f"the filter leaves nothing of split '{self.split}' ({terms}); loosen it"


class ColumnDigest:
    """The digest of a column's values, however they are divided into batches.

    Numbers are hashed as 64 bits, texts with their lengths.
    """

    def __init__(self) -> None:
        self.values, self.lengths = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)

    def update(self, values: pa.ChunkedArray) -> None:
        """Add the next values."""
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
            values = values.cast(pa.int64()).fill_null(MISSING)  # else a batch with a missing value becomes floats
        numbers = values.to_numpy()
        self.values.update(numbers.astype("<f8" if numbers.dtype.kind == "f" else "<i8").tobytes())

    def hexdigest(self) -> str:
        """The digest of the values so far."""
        return self.values.hexdigest() + self.lengths.hexdigest()


def _used_corpora(code_n: np.ndarray, corpora: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each clip's corpus among those that clips come from, which are sorted; empty where there is one corpus.

    Corpora without clips are left out: they may belong to shards that were appended while a run keeps to its own.
    """
    used = [code for code, count in enumerate(np.bincount(code_n, minlength=len(corpora)).tolist()) if count]
    used.sort(key=lambda code: corpora[code])
    if len(used) == 1:
        return code_n[:0], (corpora[used[0]],)
    place = np.zeros(len(corpora), np.int16)
    place[used] = np.arange(len(used))
    return place[code_n], tuple(corpora[code] for code in used)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """All pieces as one array. The list is emptied, so that memory does not hold both for long."""
    joined = np.concatenate(pieces)
    pieces.clear()
    return joined


def _equal(values: pa.ChunkedArray, text: str) -> np.ndarray:
    """Which values equal a text: bool (rows,)."""
    known: dict[str, int] = {}
    return _codes(values, known) == known.get(text, -2)


def _codes(values: pa.ChunkedArray, known: dict[str, int]) -> np.ndarray:
    """Texts as codes in order of appearance: int32 (rows,). `known` keeps the codes from one batch to the next."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    pieces = []
    for chunk in values.chunks:
        names, code_n = texts(chunk)
        pieces.append(np.array([known.setdefault(name, len(known)) for name in names], np.int32)[code_n])
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
