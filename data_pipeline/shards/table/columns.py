"""The columns of a manifest's table, read as they are asked for: the table is never in memory as a whole.

A run reads the columns that it plans with, and the place of a clip's bytes with its group of rows. So ten million clips
take some hundred MB.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.shards.layout import WHY_SILENT
from data_pipeline.shards.table.schema import TABLE
from mytalk.command import UserError

BATCH_GROUPS = 16  # row groups that are read at once where all rows are wanted
HELD_GROUPS = 256  # (row group, column) pairs kept for the next clip
REPEATING = ["identity", "corpus", "split", "source", "source_sha256", "duplicate_group", WHY_SILENT]


class Columns:
    """A table of a folder, which is named in messages: a file that is open, or one in memory."""

    def __init__(self, folder: str | Path, table: pa.Table | None = None, opened: IO[bytes] | None = None):
        self.folder = folder
        self._table, self._opened = table, opened
        self._file = None if opened is None else _parquet(opened)
        self._names = table.column_names if self._file is None else self._file.schema_arrow.names  # type: ignore
        self._columns: dict[str, np.ndarray] = {}
        self._codes: dict[str, tuple[np.ndarray, list[str]]] = {}
        self._groups: OrderedDict[tuple[int, str], Any] = OrderedDict()
        if self._file is None:
            self._starts = [0]
        else:
            counts = [self._file.metadata.row_group(g).num_rows for g in range(self._file.num_row_groups)]
            self._starts = [0, *np.cumsum(counts, dtype=np.int64).tolist()]

    @property
    def table(self) -> pa.Table:
        """The whole table, for commands that rewrite it."""
        if self._table is None:
            assert self._opened is not None
            self._opened.seek(0)
            self._table = pq.ParquetFile(pa.PythonFile(self._opened, "r")).read(use_threads=False)
        return self._table

    def in_place(self) -> bool:
        """Whether the table's file that is open is still that of the folder."""
        assert self._opened is not None
        try:
            return os.path.samestat(os.fstat(self._opened.fileno()), os.stat(Path(self.folder) / TABLE))
        except FileNotFoundError:
            return False

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self._names

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Types of the columns by name."""
        schema = self._table.schema if self._file is None else self._file.schema_arrow  # type: ignore[union-attr]
        return dict(zip(schema.names, schema.types))

    def __len__(self) -> int:
        return self._table.num_rows if self._file is None else self._starts[-1]  # type: ignore[union-attr]

    def batches(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """All rows of some columns, in order, some ten thousand at a time; REPEATING ones as dictionaries.

        Raises UserError for a column that is not there.
        """
        for name in names:
            self.has(name, needed=True)
        if self._file is None:
            assert self._table is not None
            yield self._table.select(list(names))
            return
        for first in range(0, self._file.num_row_groups, BATCH_GROUPS):
            groups = range(first, min(first + BATCH_GROUPS, self._file.num_row_groups))
            yield self._file.read_row_groups(list(groups), columns=list(names), use_threads=False)
        pa.default_memory_pool().release_unused()  # of ten million rows, some 40 MB

    def has(self, name: str, needed: bool = False) -> bool:
        """Whether there is such a column. Raises UserError where it is `needed` and is not."""
        if name in self.names:
            return True
        if needed:
            known = ", ".join(known for known in self.names if not known.endswith(("_offset", "_size")))
            raise UserError(f"{self.folder}: the manifest has no column '{name}'; there are: {known}")
        return False

    def column(self, name: str) -> np.ndarray:
        """A whole column as an array (strings as objects). Raises UserError for a column that is not there."""
        if name not in self._columns:
            self._columns[name] = filled(len(self), (_numbers(batch[name]) for batch in self.batches([name])))
        return self._columns[name]

    def codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column of strings as numbers: places in the list of its values, which are in order of appearance."""
        if name not in self._codes:
            values: dict[str, int] = {}
            self._codes[name] = filled(len(self), self._coded(name, values)), list(values)
        return self._codes[name]

    def _coded(self, name: str, values: dict[str, int]) -> Iterator[np.ndarray]:
        for batch in self.batches([name]):
            distinct, index_n = texts(dictionary(batch[name]))
            yield np.array([values.setdefault(value, len(values)) for value in distinct], np.int32)[index_n]

    def at(self, row: int, name: str) -> Any:
        """One value of the table; its group of rows is kept for the next clips."""
        if self._file is None:
            return self.column(name)[row]
        group = bisect_right(self._starts, row) - 1
        values = self._groups.get((group, name))
        if values is None:
            self.has(name, needed=True)
            values = _numbers(self._file.read_row_group(group, columns=[name], use_threads=False)[name])
            self._groups[group, name] = values
            if len(self._groups) > HELD_GROUPS:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end((group, name))
        return values[row - self._starts[group]]


def _parquet(opened: IO[bytes]) -> pq.ParquetFile:
    """Reads in one thread, for the processes that are forked later."""
    there = pq.read_schema(pa.PythonFile(opened, "r")).names
    opened.seek(0)
    repeating = [name for name in REPEATING if name in there]
    return pq.ParquetFile(pa.PythonFile(opened, "r"), read_dictionary=repeating, pre_buffer=False)


def texts(values: pa.DictionaryArray) -> tuple[list[str], np.ndarray]:
    """The distinct texts of some rows, and the index of each row's text. A missing one is the empty text."""
    distinct = [value or "" for value in values.dictionary.to_pylist()]
    if not values.null_count:
        return distinct, values.indices.to_numpy()
    return [*distinct, ""], values.indices.fill_null(len(distinct)).to_numpy()


def dictionary(values: pa.ChunkedArray) -> pa.DictionaryArray:
    """As one array of codes with the distinct values."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    return values.unify_dictionaries().combine_chunks() if values.num_chunks != 1 else values.chunk(0)


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """As an array; texts and lists as objects."""
    return (values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values).to_numpy()


def filled(count: int, pieces: Iterator[np.ndarray]) -> np.ndarray:
    """The pieces as one array of `count`, filled one after the other to save memory."""
    whole, at = np.zeros(count), 0
    for piece in pieces:
        if at == 0:
            whole = np.empty(count, piece.dtype)
        elif piece.dtype != whole.dtype:  # a batch with missing values comes as float
            whole = whole.astype(np.promote_types(whole.dtype, piece.dtype))
        whole[at : at + len(piece)] = piece
        at += len(piece)
    return whole
