"""The manifest: one row per clip in shard order, and what the shards hold and how they were made.

`manifest.parquet` holds the rows: key, identity, corpus, split, frames, shard, `<member>_offset` and
`<member>_size` for landmarks, audio, facts and video (where the member's data lies in its tar), and every
fact. `manifest.json` holds the format version, the protocol, size and SHA-256 of every shard, and the
digest of the table; it is written last, so a table it does not name is not the manifest.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from data_pipeline.shards.layout import FRAMES_PX, HAS_AUDIO, MEMBERS, SPEAKS, WHY_SILENT, sums_name, tar_name
from data_pipeline.shards.table import files, leaks
from data_pipeline.shards.table.columns import Columns, filled
from data_pipeline.shards.table.schema import SPLITS
from data_pipeline.storage.store import Store
from mytalk.command import RunAgain, UserError

RENAMES_S = 0.5


@dataclass(frozen=True)
class ShardFile:
    """The tar of a shard's column: names inside the manifest's folder, and bytes (None: not stated)."""

    name: str
    sums: str | None
    bytes: int | None


class Manifest(Columns):
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
        super().__init__(folder, table, opened)
        self.header, self.store = header, store or Store(folder)
        self.blank = False  # clips are read as blank ones of their length, without touching a shard
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
            header = files.read_header(store)
            opened, digest = files.open_table(store)
            if digest == header["table"]["sha256"]:
                break
            time.sleep(wait_s)
        else:
            raise UserError(
                f"{folder}: manifest.json and manifest.parquet are not of one write; type the command that "
                "wrote them (extract, index, column or split) again"
            )
        manifest = cls(folder, header, opened=opened, store=store)
        leaks.refuse_leaks(manifest, folder)
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
        return filled(len(self), (values.to_numpy() for values in batches)).astype(bool)

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

    def frames_px(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The side of the pictures of some clips, px: the crop's side where the manifest has no other."""
        crops = self.column("crop_px")[rows]
        if not self.has(FRAMES_PX):
            return crops
        sides = self.column(FRAMES_PX)[rows].astype(np.float64)
        return np.where(np.isfinite(sides), sides, crops).astype(int)

    @property
    def shards_until(self) -> int:
        """The number past the last shard."""
        return 1 + max(self._shards, default=-1) if self._shards else 1 + int(self.column("shard").max())

    def ranges(self) -> list[tuple[int, int, int]]:
        """Of each shard its number and its rows, [start, stop)."""
        shard_n = self.column("shard")
        first = np.flatnonzero(np.diff(shard_n, prepend=-1))
        return [*zip(shard_n[first].tolist(), first.tolist(), [*first[1:].tolist(), len(shard_n)])]

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
