"""The manifest: one row per clip in shard order, and what the shards hold and how they were made.

`manifest.parquet` holds the rows: key, identity, corpus, split, frames, shard, `<member>_offset` and
`<member>_size` for landmarks, audio, facts and video (where the member's data lies in its tar), and every
fact. `manifest.json` holds the format version, the protocol, size and SHA-256 of every shard, and the
digest of the table; it is written last, so a table it does not name is not the manifest.

The table is never in memory as a whole: a run reads the columns that it plans with, and the place of a clip's bytes
with its group of rows. So ten million clips take some hundred MB.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import tempfile
import time
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.shards.facts import FACTS
from data_pipeline.shards.layout import HAS_AUDIO, MEMBERS, SPEAKS, WHY_SILENT, sums_name, tar_name
from data_pipeline.storage.store import Store
from mytalk.command import RunAgain, UserError

FORMAT = 3  # 3: landmarks have a depth, 478 x 3
TABLE, HEADER = "manifest.parquet", "manifest.json"
INDEXED = "indexed"  # in the header of an index: the tars, or folders and shards, that it is of
ANNOTATIONS = "annotations"  # in the header: name -> its columns, what made them, its digest
SPLITS = ("train", "val", "unseen", "held_out")  # the last: whole corpora, out of domain
GROUP_ROWS = 4096  # of the table; what is read to find one clip's bytes
BATCH_GROUPS = 16  # row groups that are read at once where all rows are wanted
RENAMES_S = 0.5
HELD_GROUPS = 256  # (row group, column) pairs kept for the next clip
REPEATING = ["identity", "corpus", "split", "source", "source_sha256", "duplicate_group", WHY_SILENT]

PLACES = [(f"{member}_{what}", pa.int64()) for member in MEMBERS for what in ("offset", "size")]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.string()),
        ("corpus", pa.string()),
        ("split", pa.string()),
        ("frames", pa.int32()),
        ("shard", pa.int32()),
        *PLACES,
        ("source", pa.string()),
        ("track", pa.int32()),
        ("start_frame", pa.int32()),
        ("stop_frame", pa.int32()),
        ("source_fps", pa.float64()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_sha256", pa.string()),
        ("crop", pa.list_(pa.float64(), 6)),
        ("crop_px", pa.int32()),
        *((fact.name, fact.type) for fact in FACTS),
        (SPEAKS, pa.bool_()),
        (WHY_SILENT, pa.string()),
    ]
)


@dataclass(frozen=True)
class ShardFile:
    """The tar of a shard's column: names inside the manifest's folder, and bytes (None: not stated)."""

    name: str
    sums: str | None
    bytes: int | None


class Manifest:
    """A loaded manifest: its folder, the header (manifest.json) and the table, a row per clip.

    `folder` is a path or a URL. `table` may be given where it is in memory already.
    """

    def __init__(
        self,
        folder: str | Path,
        header: dict[str, Any],
        table: pa.Table | None = None,
        opened: IO[bytes] | None = None,
        store: Store | None = None,
    ):
        self.folder, self.header, self.store = folder, header, store or Store(folder)
        self.blank = False  # clips are read as blank ones of their length, without touching a shard
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
        self._shards = {entry["shard"]: entry for entry in header.get("shards", [])}
        self._shard_files: dict[tuple[str, int], ShardFile] = {}

    @classmethod
    def load(cls, folder: str | Path, store: Store | None = None) -> Manifest:
        """Open and check a manifest. `store` says how its folder, or URL, is read (default: as it is).

        Raises UserError where it is missing, of another format, torn, or has one person (or one source, or
        one duplicate group) in two splits. OSError.
        """
        store = store or Store(folder)
        folder = Path(folder) if store.local else store.shown
        for wait_s in (RENAMES_S, 0):  # a writer may be between its two renames
            header = read_header(store)
            opened, digest = open_table(store)
            if digest == header["table"]["sha256"]:
                break
            time.sleep(wait_s)
        else:
            raise UserError(
                f"{folder}: manifest.json and manifest.parquet are not of one write; type the command that "
                "wrote them (extract, index, column or split) again"
            )
        manifest = cls(folder, header, opened=opened, store=store)
        refuse_leaks(manifest, folder)
        return manifest

    def __reduce__(self) -> tuple:
        """A process that does not share memory loads it again; the digest must be the same."""
        if self._table is not None:
            return Manifest, (self.folder, self.header, self._table, None, self.store)
        return _again, (self.store, self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the table."""
        return self.header["table"]["sha256"]

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
            self._columns[name] = _filled(len(self), (_numbers(batch[name]) for batch in self.batches([name])))
        return self._columns[name]

    def codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """A column of strings as numbers: places in the list of its values, which are in order of appearance."""
        if name not in self._codes:
            values: dict[str, int] = {}
            self._codes[name] = _filled(len(self), self._coded(name, values)), list(values)
        return self._codes[name]

    def _coded(self, name: str, values: dict[str, int]) -> Iterator[np.ndarray]:
        for batch in self.batches([name]):
            distinct, index_n = texts(_dictionary(batch[name]))
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

    def with_speech(self) -> np.ndarray:
        """Which clips can teach speech: bool (rows,). Not those without sound, nor those whose person does not speak.

        What the manifest does not say of a clip counts as yes.
        """
        return self._not_false(HAS_AUDIO) & self._not_false(SPEAKS)

    def silent_by_reason(self, rows: np.ndarray) -> dict[str, int]:
        """How many of some rows have no speech, by the rule that says so; where none is named, by the column."""
        silent = rows[~self.with_speech()[rows]]
        codes, names = self.codes(WHY_SILENT) if self.has(WHY_SILENT) else (np.zeros(len(self), np.int32), [""])
        sounding = self._not_false(HAS_AUDIO)
        reasons = (names[codes[row]] or ("not_speaking" if sounding[row] else "no_sound") for row in silent)
        return dict(sorted(Counter(reasons).items()))

    def _not_false(self, name: str) -> np.ndarray:
        """Where a column of truth values, if there is one, is true or missing: bool (rows,)."""
        if not self.has(name):
            return np.ones(len(self), bool)
        batches = (batch[name].fill_null(True) for batch in self.batches([name]))
        return _filled(len(self), (values.to_numpy() for values in batches)).astype(bool)

    def rows(self, split: str, shards_until: int = 0, with_speech: bool = False) -> np.ndarray:
        """Indices of the rows of a split, in order, of shards below `shards_until` (0: of all).

        `with_speech`: only those that can teach speech. Raises UserError where there are none.
        """
        if split not in SPLITS:
            raise UserError(f"no split '{split}'; there are: {', '.join(SPLITS)}")
        codes, values = self.codes("split")
        rows = np.flatnonzero(codes == values.index(split)) if split in values else np.zeros(0, np.int64)
        if shards_until:
            rows = rows[self.column("shard")[rows] < shards_until]
        if not len(rows):
            raise UserError(
                f"{self.folder}: no clip is in split '{split}'; assign people with: "
                f"python -m data_pipeline split {self.folder}"
            )
        if with_speech:
            rows = rows[self.with_speech()[rows]]
            if not len(rows):
                raise UserError(
                    f"{self.folder}: no clip of split '{split}' has speech; extract videos of people who speak"
                )
        return rows

    def rows_of_people(self, split: str, shards_until: int = 0, with_speech: bool = False) -> dict[str, list[int]]:
        """Rows of each person of a split, in manifest order; `with_speech` and errors as for `rows`."""
        codes, people = self.codes("identity")
        rows: dict[str, list[int]] = {}
        for row in self.rows(split, shards_until, with_speech).tolist():
            rows.setdefault(people[codes[row]], []).append(row)
        return rows

    @property
    def shards_until(self) -> int:
        """The number past the last shard."""
        return 1 + max(self._shards, default=-1) if self._shards else 1 + int(self.column("shard").max())

    def entry(self, shard: int) -> dict[str, Any]:
        """What the header says of a shard; empty where it says nothing."""
        return self._shards.get(shard, {})

    def shard_file(self, column: str, shard: int) -> ShardFile:
        """The tar of a shard's column (`motion`, `frames`, or a later one)."""
        if (column, shard) not in self._shard_files:
            self._shard_files[column, shard] = self._shard_file(column, shard)
        return self._shard_files[column, shard]

    def _shard_file(self, column: str, shard: int) -> ShardFile:
        stated = self._shards.get(shard, {}).get(column)
        if stated is None:
            return ShardFile(tar_name(column, shard), None, None)
        return ShardFile(
            stated.get("file", tar_name(column, shard)), stated.get("crc", sums_name(column, shard)), stated["bytes"]
        )

    def shard_path(self, column: str, shard: int) -> Path:
        """Where that tar lies, of a manifest in a local folder."""
        return Path(self.folder) / self.shard_file(column, int(shard)).name

    def column_of(self, member: str) -> str:
        """The column of the shards that holds a member. Raises UserError for a member that no column holds."""
        if member in MEMBERS:
            return MEMBERS[member][0]
        return self.later(member)["column"]

    def later(self, member: str) -> dict[str, Any]:
        """What the header says of a later column's member: its `column`, `width` in values a frame, what it is `of`.

        Raises UserError for a member that no column holds.
        """
        later = self.header.get("members", {})
        if member not in later:
            raise UserError(f"{self.folder}: no column holds '{member}'; there are: {', '.join([*MEMBERS, *later])}")
        return later[member]


def _again(store: Store, digest: str) -> Manifest:
    manifest = Manifest.load(store.root, store)
    if manifest.digest != digest:
        raise UserError(
            f"{manifest.folder}: the manifest was rewritten while the run began; run the same command again"
        )
    return manifest


@functools.lru_cache(maxsize=1)
def pinned(folder: Path, digest: str) -> Manifest:
    """The manifest of a task, one for the life of a process. Raises RunAgain where it is another one meanwhile."""
    manifest = Manifest.load(folder)
    if manifest.digest != digest:
        raise RunAgain(f"{folder}: the manifest was rewritten meanwhile; type the same command again")
    return manifest


def read_header(store: Store) -> dict[str, Any]:
    """manifest.json of a folder. Raises UserError where it is missing, no JSON, or of another format. OSError."""
    try:
        header = json.loads(store.whole(HEADER))
    except FileNotFoundError:
        raise UserError(_make_one(store, HEADER)) from None
    except ValueError:
        raise UserError(f"{store.shown}/{HEADER} is not JSON; type the extract command again") from None
    if header.get("format") != FORMAT:
        raise UserError(
            f"{store.shown}/{HEADER} has format {header.get('format')}, this version reads {FORMAT}; "
            "extract into another folder"
        )
    return header


class _Positioned(io.RawIOBase):
    """A file read by `pread`, so that forked processes which share it do not move each other's place."""

    def __init__(self, descriptor: int):
        self.descriptor, self.place = descriptor, 0
        self.bytes = os.fstat(descriptor).st_size

    def fileno(self) -> int:
        return self.descriptor

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.bytes}[whence]
        return self.place

    def readinto(self, target: Any) -> int:
        data = os.pread(self.descriptor, len(target), self.place)
        target[: len(data)] = data
        self.place += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self.descriptor)
        super().close()


def open_file(path: str | Path) -> IO[bytes]:
    """A table's file, open for the processes of this machine."""
    return _Positioned(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # type: ignore[return-value]


def open_table(store: Store) -> tuple[IO[bytes], str]:
    """The table's file, open, and its SHA-256. A remote one is brought to a temporary file that has no name.

    What is open stays as it is while another command puts a new table in its place.
    """
    if store.local:
        try:
            descriptor = os.open(Path(store.root) / TABLE, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UserError(_make_one(store, TABLE)) from None
    else:
        with tempfile.TemporaryFile() as brought:
            try:
                brought.write(store.whole(TABLE))
            except FileNotFoundError:
                raise UserError(_make_one(store, TABLE)) from None
            brought.flush()
            descriptor = os.dup(brought.fileno())
    opened = _Positioned(descriptor)
    digest = hashlib.sha256()
    while piece := opened.read(1 << 20):
        digest.update(piece)
    opened.seek(0)
    return opened, digest.hexdigest()  # type: ignore[return-value]


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


def _dictionary(values: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    return values.unify_dictionaries().combine_chunks() if values.num_chunks != 1 else values.chunk(0)


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """As an array; texts and lists as objects."""
    return (values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values).to_numpy()


def _filled(count: int, pieces: Iterator[np.ndarray]) -> np.ndarray:
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


def _make_one(store: Store, name: str) -> str:
    return f"{store.shown}/{name} is missing; make it with: python -m data_pipeline extract VIDEOS {store.shown}"


def refuse_leaks(manifest: Manifest, folder: str | Path) -> None:
    """No identity, no identical source and no group of what a split joins is in two splits (invariant 3).

    `duplicate_group` holds all that was joined; what a later annotation would join, only where the header says so.
    """
    joined = (manifest.header.get("split") or {}).get("joined", [])
    for name in ("identity", "source_sha256", "duplicate_group", *joined):
        if not manifest.has(name):
            continue
        pairs = np.concatenate([_pairs(batch[name], batch["split"]) for batch in manifest.batches([name, "split"])])
        pairs.sort()
        twice = np.flatnonzero((pairs[1:] >> 2 == pairs[:-1] >> 2) & (pairs[1:] != pairs[:-1]))
        if len(twice):
            raise UserError(_leak(manifest, folder, name, int(pairs[twice[0]] >> 2)))


def _hashed(text: str) -> int:
    """62 bits, the same in this process only."""
    return hash(text) >> 2


def _pairs(values: pa.ChunkedArray, splits: pa.ChunkedArray) -> np.ndarray:
    """The distinct pairs of value and split, of some rows that are assigned and have a value: hash * 4 + split."""
    value, (names, split_n) = _dictionary(values), texts(_dictionary(splits))
    hashes = np.array([_hashed(text) for text in value.dictionary.to_pylist()], np.int64)
    places = np.array([SPLITS.index(name) if name in SPLITS else -1 for name in names], np.int64)
    there = value.is_valid().to_numpy(zero_copy_only=False)
    pair = value.indices.fill_null(0).to_numpy().astype(np.int64) * len(SPLITS)
    where = places[split_n]
    seen = np.zeros(len(hashes) * len(SPLITS), bool)
    seen[(pair + where)[there & (where >= 0)]] = True
    pair = np.flatnonzero(seen)
    return hashes[pair // len(SPLITS)] << 2 | pair % len(SPLITS)


def _leak(manifest: Manifest, folder: str | Path, name: str, wanted: int) -> str:
    splits: list[str] = []
    for value, split in zip(manifest.column(name), manifest.column("split")):
        if value is not None and _hashed(value) == wanted and split and split not in splits:
            splits.append(split)
            leaked = value
    return (
        f"{folder}: {name} '{leaked}' is in splits '{splits[0]}' and '{splits[1]}'; assign people "
        f"again with: python -m data_pipeline split {folder} --force"
    )
