"""Tars that others made, indexed where they lie, and folders of ours, merged: one manifest, and no byte moved.

The manifest's header lists what became which shard, in the order in which it came: what is on the list keeps its
number, what is new comes last, so that a run pinned to the first shards stays what it was. OUT/parts holds what was
found in each tar, with the tar's size and time, so that only tars that are new or changed are read.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import glob
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import column, foreign, sums
from data_pipeline import manifest as manifests
from data_pipeline.foreign import Rules, Unusable
from data_pipeline.layout import COLUMNS
from data_pipeline.manifest import HEADER, SCHEMA, Manifest
from mytalk import atomic, command, config
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.landmarks import FRAME_HZ, SAMPLE_HZ
from mytalk.machine import cores, sole_user
from mytalk.progress import Progress

LISTED = "indexed"  # in the header
LEDGER, PARTS, SUMS = "ledger.jsonl", "parts", "sums"
FORMAT = 1  # of the parts
KEPT, REJECTED = "kept", "rejected"
DECIDED = ("duplicate_group",)  # of OUT, once it is there; never what a source says later


class LedgerError(AssertionError):
    """The books do not balance: something was lost or counted twice."""


@dataclass(frozen=True)
class Unit:
    """What becomes one shard. A tar, and the tar of its videos where that is another; or a shard of a folder of ours.

    Names are relative to OUT where the file lies below OUT's parent, else absolute.
    """

    tar: str = ""
    frames: str = ""
    folder: str = ""
    shard: int = 0

    def listed(self) -> dict[str, Any]:
        """As the list holds it."""
        return {name: value for name, value in vars(self).items() if value != "" and (self.folder or name != "shard")}


def arguments() -> argparse.ArgumentParser:
    made = command.parser(
        "python -m data_pipeline index",
        "Make a manifest over shards that are there already; none is copied or written. A SOURCE is a tar written\n"
        "with webdataset (a path, or a pattern in quotes), or a folder that extract or index wrote. Folders are\n"
        "merged; their splits are kept. Each sample of a tar must have landmarks (.npy, fp16, T x 478 x 2, px of\n"
        "its crop) and sound (.wav, 16-bit mono, 16 kHz, 640 samples a frame); each ends in one named state\n"
        "(OUT/ledger.jsonl). The same command again reads only what is new; shards added later come last.",
        "python -m data_pipeline index data/all 'others/*.tar' data/hdtf --landmarks lm.npy --identity 'key:^([^_]+)_'",
    )
    made.add_argument("out", type=Path, help="folder of the manifest")
    made.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="tars, patterns of tars, and folders with a manifest"
    )
    made.add_argument("--config", type=Path, help="YAML with the options below as keys; options go before it")
    defaults = Rules()
    for name in ("landmarks", "audio", "video", "facts"):
        told = f"extension of a clip's {name} (default {getattr(defaults, name)})"
        made.add_argument(f"--{name}", metavar="EXT", help=told)
    told = "who is shown: facts.NAME, key:REGEX (its first group), or file, the tar's name (default facts.identity)"
    made.add_argument("--identity", metavar="RULE", help=told)
    made.add_argument("--corpus", metavar="NAME", help="default: the facts' own, else the name of the tar's folder")
    made.add_argument("--crop-px", type=int, help="side of the crops whose facts do not say (default 256)")
    told = "tars that hold the videos, with equal keys in equal order; paired with the sources' in order"
    made.add_argument("--frames-tars", nargs="+", default=[], metavar="GLOB", help=told)
    told = "leave out the splits of folders: split then assigns all people anew"
    made.add_argument("--unsplit", action="store_true", help=told)
    made.add_argument("--workers", type=int, default=cores(), help="tars read at a time (default: one per core)")
    return made


def run(args: argparse.Namespace) -> int:
    out: Path = args.out
    asked = _rules(args)
    order = _sources(args, out)
    out.mkdir(parents=True, exist_ok=True)
    with sole_user(out, "index"):
        for folder in (out, out / PARTS, out / SUMS):
            atomic.sweep(folder)
        held, rules = _list(out, asked, any(isinstance(one, Unit) for one in order))
        if rules is None and asked != Rules():
            raise UserError("member names, identity and corpus are told of tars, and no tar is named; leave them out")
        folders = dict.fromkeys(
            [*(u.folder for u in held if u.folder), *(one for one in order if isinstance(one, str))]
        )
        of_folders = {name: Manifest.load(out / name) for name in folders}
        units = _appended(held, order, of_folders)
        parts = _scanned(out, [unit for unit in units if unit.tar], rules or Rules(), max(args.workers, 1))
        for unit in held:
            if unit.tar and "samples" not in parts[unit]:
                why = parts[unit]["message"]
                raise UserError(f"{unit.tar} was indexed and is damaged now: {why}; bring it back, or name another OUT")
        return _close(out, units, parts, of_folders, rules, args.unsplit)


# What is asked for -----------------------------------------------------------------------------------


def _rules(args: argparse.Namespace) -> Rules:
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Rules)}
    try:
        return dataclasses.replace(config.load(Rules, args.config), **{k: v for k, v in given.items() if v is not None})
    except ValueError as error:
        raise UserError(f"{error}; see: python -m data_pipeline index --help") from None


def _sources(args: argparse.Namespace, out: Path) -> list[Unit | str]:
    """Tars and (by name) folders in the order in which they are named, each once. Raises UserError."""
    order: list[Path] = []
    for source in args.sources:
        path = Path(source)
        if not path.is_dir():
            order += _tars(source)
        elif path.resolve() == out.resolve():
            raise UserError(f"{source} is OUT itself; name what it is to be made of")
        elif not (path / HEADER).is_file():
            raise UserError(f"{source} has no {HEADER}; name its tars, in quotes: '{path / '*.tar'}'")
        else:
            order.append(path)
    tars = [path for path in dict.fromkeys(order) if not path.is_dir()]
    frames = list(dict.fromkeys(path for pattern in args.frames_tars for path in _tars(pattern)))
    if frames and len(frames) != len(tars):
        raise UserError(f"{len(tars)} tars and {len(frames)} --frames-tars cannot be paired; name as many of each")
    for path in (*tars, *frames):
        with open(path, "rb") as handle:
            how = foreign.compression(handle.read(512))
        if how:
            raise UserError(f"{path} is compressed ({how}) and reading byte ranges needs plain tars; unpack it first")
    beside = dict(zip(tars, (_named(path, out) for path in frames))) if frames else {}
    made: list[Unit | str] = []
    for path in order:
        name = _named(path, out)
        made.append(name if path.is_dir() else Unit(name, "" if beside.get(path) == name else beside.get(path, "")))
    return list(dict.fromkeys(made))


def _tars(source: str) -> list[Path]:
    """The files that a path or a pattern names, sorted. Raises UserError."""
    if "://" in source:
        raise UserError(f"{source} is a URL, and index reads local files; copy it, or mount what holds it")
    found = (
        [Path(source)] if os.path.isfile(source) else sorted(Path(name) for name in glob.glob(source, recursive=True))
    )
    found = [path for path in found if path.is_file()]
    if not found:
        raise UserError(f"no file {source}; name tars, or a folder that extract or index wrote")
    return found


def _named(path: Path, out: Path) -> str:
    """A file's or folder's name as OUT refers to it: relative where it lies below OUT's parent, else absolute."""
    real, base = path.parent.resolve() / path.name, out.resolve()
    if path.name in ("", ".", ".."):
        real = path.resolve()
    return Path(os.path.relpath(real, base)).as_posix() if real.is_relative_to(base.parent) else str(real)


# What is listed --------------------------------------------------------------------------------------


def _list(out: Path, rules: Rules, tars: bool) -> tuple[list[Unit], Rules | None]:
    """What OUT was made of, in the order of its shards, and the rules of its tars; None where it has none.

    Raises UserError where OUT holds something else, or `tars` are to be added by other rules.
    """
    try:
        kept = json.loads((out / HEADER).read_text()).get(LISTED)
    except FileNotFoundError:
        return [], rules if tars else None
    except (ValueError, AttributeError):
        raise UserError(f"{out / HEADER} is damaged; remove {out} and type the same command") from None
    if kept is None:
        raise UserError(f"{out} holds shards that index did not make; name another folder")
    before = None if kept["rules"] is None else Rules(**kept["rules"])
    for field in dataclasses.fields(Rules) if tars and before is not None else ():
        was, now = getattr(before, field.name), getattr(rules, field.name)
        if was != now:
            raise UserError(
                f"{out} was made with {field.name} = {was}, now {now}; index these into a folder of their own, and "
                "name that folder as a source"
            )
    return [Unit(**row) for row in kept["shards"]], before or (rules if tars else None)


def _appended(held: list[Unit], order: list[Unit | str], of_folders: dict[str, Manifest]) -> list[Unit]:
    """The list with what is new behind it. Raises UserError where a tar on it now has another beside it."""
    units = dict.fromkeys(held)
    frames_of = {unit.tar: unit.frames for unit in held if unit.tar}
    there = {name: _shards(made) for name, made in of_folders.items()}
    for unit in held:
        if unit.folder and unit.shard not in there[unit.folder]:
            raise UserError(f"{unit.folder} has no shard {unit.shard} any more; bring it back, or name another OUT")
    for one in order:
        if isinstance(one, str):
            units.update(dict.fromkeys(Unit(folder=one, shard=shard) for shard in there[one]))
        elif frames_of.get(one.tar, one.frames) != one.frames:
            was = frames_of[one.tar] or "none"
            raise UserError(f"{one.tar} was indexed with --frames-tars {was}; name that one, or another OUT")
        else:
            units[one] = None
    twice = [tar for tar, count in collections.Counter(unit.tar for unit in units if unit.tar).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice, with other --frames-tars; name it once")
    return list(units)


def _shards(made: Manifest) -> list[int]:
    return np.unique(made.column("shard")).tolist()


# Tars ------------------------------------------------------------------------------------------------


def _scanned(out: Path, units: Sequence[Unit], rules: Rules, workers: int) -> dict[Unit, dict[str, Any]]:
    """What is in each tar, read anew where it is not known. Raises UserError for a pair that differs, OSError."""
    parts = {unit: _known(out, unit, rules) for unit in units}
    todo = [unit for unit, part in parts.items() if part is None]
    if todo:
        progress = Progress("index", len(units), "tars", done=len(units) - len(todo))
        with ThreadPoolExecutor(workers) as threads:
            waiting = {threads.submit(_scan, out, unit, rules): unit for unit in todo}
            try:
                for done in as_completed(waiting):
                    parts[waiting[done]] = done.result()
                    progress.step()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        progress.finish()
    return {unit: part for unit, part in parts.items() if part is not None}


def _stem(name: str) -> str:
    """Name of the files about a tar: readable, and of no other tar."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).name.rpartition(".")[0])[:48].strip("-")
    return f"{readable or 'tar'}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:10]}"


def _part_path(out: Path, unit: Unit) -> Path:
    return out / PARTS / f"{_stem(unit.tar)}.json"


def _crc_name(name: str) -> str:
    return f"{SUMS}/{_stem(name)}.crc"


def _files(out: Path, unit: Unit) -> dict[str, dict[str, Any]]:
    """Size and time of a unit's files. Raises UserError where one is gone."""
    made = {}
    for name in filter(None, (unit.tar, unit.frames)):
        try:
            stat = os.stat(out / name)
        except FileNotFoundError:
            raise UserError(f"{name} is gone since it was indexed; bring it back, or name another OUT") from None
        made[name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return made


def _known(out: Path, unit: Unit, rules: Rules) -> dict[str, Any] | None:
    """What was found in a tar, if that was by these rules and no file of it has changed since."""
    asked = {"format": FORMAT, "rules": dataclasses.asdict(rules), "unit": unit.listed(), "files": _files(out, unit)}
    try:
        part = json.loads(_part_path(out, unit).read_text())
        if {name: part.get(name) for name in asked} != asked:
            return None
        for name in part["columns"].values():
            (out / name["crc"]).stat()
    except (FileNotFoundError, ValueError, AttributeError, KeyError):
        return None
    return part


def _scan(out: Path, unit: Unit, rules: Rules) -> dict[str, Any]:
    """Read a tar, and keep what was found in it. `samples` is missing from a damaged tar's."""
    files = _files(out, unit)
    part = {"format": FORMAT, "rules": dataclasses.asdict(rules), "unit": unit.listed(), "files": files, "columns": {}}
    try:
        found = foreign.judged(out / unit.tar, out / unit.frames if unit.frames else None, rules)
    except Unusable as unusable:
        part.update(reason=unusable.reason, message=str(unusable))
    except ValueError as error:
        raise UserError(f"{error}; name pairs of tars in equal order") from None
    else:
        stated = {name: _summed(out, name) for name in files}
        part["columns"] = dict(zip(COLUMNS, (stated[unit.tar], stated[unit.frames or unit.tar])))
        part["samples"] = found
    if _files(out, unit) != files:
        raise UserError(f"{unit.tar} was changed while it was read; type the same command when its writer is done")
    atomic.write_json(_part_path(out, unit), part)
    return part


def _summed(out: Path, name: str) -> dict[str, Any]:
    """Write a tar's checksums; what the manifest's header says of it."""
    crc = _crc_name(name)
    sums.write(out / name, out / crc)
    return {"bytes": os.stat(out / name).st_size, "sha256": sha256_of(out / name), "file": name, "crc": crc}


# The manifest ----------------------------------------------------------------------------------------


def _close(
    out: Path,
    units: Sequence[Unit],
    parts: dict[Unit, dict[str, Any]],
    of_folders: dict[str, Manifest],
    rules: Rules | None,
    unsplit: bool,
) -> int:
    """Put the table together, balance the books, write both and print the sums."""
    books = _Books(out, of_folders)
    for unit in units:
        if unit.folder:
            books.merge(unit)
        else:
            books.judge(unit, parts[unit])
    table = books.united(unsplit)
    books.balance(table)
    if len(table):
        listed = {"rules": rules and dataclasses.asdict(rules), "shards": [unit.listed() for unit in books.units]}
        fresh = {**books.header(unsplit, rules), LISTED: listed}
        old = manifests.pending(out)
        if old is not None:
            table, fresh = _as_before(table, fresh, old[0], old[1])
            fresh = {**old[1], **fresh}
        table = table.combine_chunks().replace_schema_metadata(None)
        if old is None or not old[2] or not old[0].equals(table) or old[1] != fresh:
            try:
                manifests.save(out, table, fresh)
            except UserError as error:
                if old is not None:
                    raise
                leak = str(error).partition("; assign people")[0]
                raise UserError(f"{leak}; add --unsplit, and assign people of all anew with split") from None
    books.write()
    print(books.in_words(table))
    for unit, part in books.damaged:
        print(f"left out {unit.tar}: {part['message']}; bring it whole and type the same command", file=sys.stderr)
    if not len(table):
        print(f"nothing was indexed; the reasons are in {out / LEDGER}", file=sys.stderr)
        return command.EXIT_NOT_DONE
    return command.EXIT_DONE


class _Books:
    """Tables and ledger of an index, as they grow shard by shard. A unit that is listed is the shard of its place."""

    def __init__(self, out: Path, of_folders: dict[str, Manifest]):
        self.out, self.of_folders = out, of_folders
        self.units: list[Unit] = []
        self.tables: list[pa.Table] = []
        self.shards: list[dict[str, Any]] = []
        self.members: dict[str, Any] = {}
        self.lines: list[dict[str, Any]] = []
        self.damaged: list[tuple[Unit, dict[str, Any]]] = []
        self.states: collections.Counter[str] = collections.Counter()
        self.found = 0
        self._owner: dict[str, Unit] = {}  # of each key
        self._kinds: dict[str, tuple[str, str]] = {}  # of columns that extract does not know: kind, where from
        for name, made in of_folders.items():
            for member, stated in made.header.get("members", {}).items():
                self.members[member] = column.merged_member(self.members, member, stated, name)

    # A tar

    def judge(self, unit: Unit, part: dict[str, Any]) -> None:
        """Take what was found in a tar: each sample is kept, or rejected with a reason."""
        if "samples" not in part:
            self.damaged.append((unit, part))
            self.lines.append(
                {"tar": unit.tar, "state": REJECTED} | {name: part[name] for name in ("reason", "message")}
            )
            return
        shard = len(self.units)
        self.units.append(unit)
        rows, lines = [], []
        for sample in part["samples"]:
            line = {"key": sample["key"], "shard": shard, "state": KEPT}
            if "reason" in sample:
                line |= {"state": REJECTED, "reason": sample["reason"], "message": sample["message"]}
            elif sample["key"] in self._owner:
                owner = self._owner[sample["key"]]
                message = f"its key is that of a clip in {owner.tar or owner.folder}"
                line |= {"state": REJECTED, "reason": "duplicate_key", "message": message}
            else:
                self._owner[sample["key"]] = unit
                rows.append({**sample, "shard": shard})
            lines.append(line)
        self.found += len(lines)
        self.states.update(line.get("reason", KEPT) for line in lines)
        self.lines.append({"tar": unit.tar, "shard": shard, "state": "indexed", "kept": len(rows), "found": len(lines)})
        self.lines += lines
        if rows:
            self.shards.append({"shard": shard, **part["columns"]})
            self.tables.append(self._extended(pa.Table.from_pylist(rows, schema=SCHEMA), unit, rows))

    def _extended(self, table: pa.Table, unit: Unit, rows: list[dict[str, Any]]) -> pa.Table:
        """With a column for each further fact. The first clip that has one says of which kind it is."""
        for name in dict.fromkeys(name for row in rows for name in row["extra"]):
            if name not in self._kinds and len(self._kinds) >= foreign.MOST_EXTRA:
                continue
            values = [row["extra"].get(name) for row in rows]
            first = next(value for value in values if value is not None)
            kind, _ = self._kinds.setdefault(name, (_kind_of(first), unit.tar))
            values = [value if value is not None and _kind_of(value) == kind else None for value in values]
            if any(isinstance(value, float) for value in values):
                values = [None if value is None else float(value) for value in values]
            table = table.append_column(name, pa.array(values))
        return table

    # A shard of a folder

    def merge(self, unit: Unit) -> None:
        """Take a shard of a folder of ours. Raises UserError for a key that is there already."""
        shard, made = len(self.units), self.of_folders[unit.folder]
        self.units.append(unit)
        shard_n = made.column("shard")
        start, stop = np.searchsorted(shard_n, [unit.shard, unit.shard + 1]).tolist()
        table = made.table.slice(start, stop - start)
        for key in table["key"].to_pylist():
            if key in self._owner:
                owner = self._owner[key]
                raise UserError(
                    f"clip {key} is in {owner.folder or owner.tar} and in {unit.folder}; leave one of them out, or "
                    "make one anew with another --corpus"
                )
            self._owner[key] = unit
        entry: dict[str, Any] = next((one for one in made.header["shards"] if one["shard"] == unit.shard), {})
        stated = {name: self._moved(unit, name, told) for name, told in entry.items() if name != "shard"}
        self.shards.append({"shard": shard, **stated})
        self.tables.append(self._of_ours(table, unit, shard))
        self.states["merged"] += len(table)
        self.lines.append(
            {"folder": unit.folder, "shard": shard, "of": unit.shard, "state": "merged", "clips": len(table)}
        )

    def _moved(self, unit: Unit, name: str, told: dict[str, Any]) -> dict[str, Any]:
        """What a header says of a tar, with file and checksums named from OUT."""
        file = self.of_folders[unit.folder].shard_file(name, unit.shard)
        made = {**told, "file": self._from_out(unit, file.name)}
        return made if file.sums is None else {**made, "crc": self._from_out(unit, file.sums)}

    def _from_out(self, unit: Unit, name: str) -> str:
        if "://" in name or os.path.isabs(name):
            return name
        return _named(self.out / unit.folder / name, self.out)

    def _of_ours(self, table: pa.Table, unit: Unit, shard: int) -> pa.Table:
        """Rows of a folder with our shard's number, and columns of the types of ours. Raises UserError."""
        columns = {}
        for field in SCHEMA:
            columns[field.name] = table[field.name].cast(field.type)
        columns["shard"] = pa.array(np.full(len(table), shard, np.int32))
        for name in table.column_names:
            if name in columns:
                continue
            values = table[name]
            if pa.types.is_dictionary(values.type):
                values = values.cast(values.type.value_type)
            kind = _kind(values.type)
            known, where = self._kinds.setdefault(name, (kind, unit.folder))
            if kind != known:
                raise UserError(
                    f"column '{name}' holds {known} in {where} and {kind} in {unit.folder}; annotate one of them anew"
                )
            columns[name] = values
        return pa.table(columns)

    # All of it

    def united(self, unsplit: bool) -> pa.Table:
        """All rows; what a source does not know is missing, and a later column's place is one of 0 bytes."""
        if not self.tables:
            return SCHEMA.empty_table()
        table = pa.concat_tables(self.tables, promote_options="permissive")
        for member in self.members:
            for what in ("offset", "size"):
                table = column.placed(table, f"{member}_{what}", table[f"{member}_{what}"].fill_null(0))
        if unsplit:
            table = column.placed(table, "split", pa.array([""] * len(table)))
            table = table.drop_columns([name for name in ("duplicate_group",) if name in table.column_names])
        return table

    def header(self, unsplit: bool, rules: Rules | None) -> dict[str, Any]:
        """What the shards are and how they were made. The split is as the first folder that has one states it."""
        protocol: dict[str, Any] = {"frame_hz": FRAME_HZ, "sample_hz": SAMPLE_HZ}
        if rules is not None:
            protocol["crop_px"] = rules.crop_px
        folders = {name: made.header.get("protocol", {}) for name, made in self.of_folders.items()}
        made: dict[str, Any] = {"protocol": {**protocol, "folders": folders}, "shards": self.shards}
        if self.members:
            made["members"] = self.members
        splits = [made.header["split"] for made in self.of_folders.values() if "split" in made.header]
        return {**made, "split": splits[0]} if splits and not unsplit else made

    def balance(self, table: pa.Table) -> None:
        """Raises LedgerError unless every sample ended in one state and every kept one is a row."""
        rejected = sum(count for state, count in self.states.items() if state not in (KEPT, "merged"))
        if self.found != self.states[KEPT] + rejected:
            raise LedgerError(f"{self.found} samples, {self.states[KEPT]} kept and {rejected} rejected")
        if len(table) != self.states[KEPT] + self.states["merged"] or len(table) != len(self._owner):
            raise LedgerError(f"{len(table)} rows, {self.states[KEPT]} kept and {self.states['merged']} merged")

    def write(self) -> None:
        """Write OUT/ledger.jsonl: a line for a tar, then one for each of its samples; a line for a folder's shard."""
        with atomic.file(self.out / LEDGER, "w") as handle:
            for line in self.lines:
                handle.write(json.dumps(line, sort_keys=True) + "\n")

    def in_words(self, table: pa.Table) -> str:
        """The closing lines: tars and samples by state, clips and hours."""
        lines = []
        tars = sum(bool(unit.tar) for unit in self.units)
        if tars or self.damaged:
            why = _counted(collections.Counter(part["reason"] for _, part in self.damaged))
            lines.append(f"tars     {tars + len(self.damaged)} = {tars} indexed + {len(self.damaged)} rejected{why}")
            reasons = {state: count for state, count in self.states.items() if state not in (KEPT, "merged")}
            kept = self.states[KEPT]
            lines.append(f"samples  {self.found} = {kept} kept + {self.found - kept} rejected{_counted(reasons)}")
        if self.of_folders:
            lines.append(f"folders  {len(self.of_folders)}, {self.states['merged']} clips")
        hours = (pc.sum(table["frames"]).as_py() or 0) / FRAME_HZ / 3600
        return "\n".join([*lines, f"clips    {len(table)}, {hours:.3g} hours"])


def _as_before(
    table: pa.Table, header: dict[str, Any], old: pa.Table, old_header: dict[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """Fresh rows with what OUT knew of them: splits, and of tars that stayed the same annotations and later columns."""
    shas = {entry["shard"]: entry["motion"]["sha256"] for entry in old_header["shards"] if "motion" in entry}
    same = [entry["shard"] for entry in header["shards"] if shas.get(entry["shard"]) == entry["motion"]["sha256"]]
    stays = pa.array(np.isin(table["shard"].to_numpy(), same))
    place = {key: index for index, key in enumerate(old["key"].to_pylist())}
    indices = pa.array([place.get(key) for key in table["key"].to_pylist()], pa.int64())
    later = {f"{member}_{what}" for member in old_header.get("members", {}) for what in ("offset", "size")}
    split = old["split"].take(indices)
    split = pc.if_else(pc.equal(split, ""), None, split)
    table = column.placed(table, "split", pc.coalesce(split, table["split"], ""))
    for name in old.column_names:
        if name in SCHEMA.names or name in later:
            continue
        was = old[name].take(indices)
        if name in table.column_names:
            now = table[name]
            if _kind(was.type) != _kind(now.type):
                continue
            first = pc.coalesce(was, now)
            was = first if name in DECIDED else pc.if_else(stays, first, pc.coalesce(now, was))
        table = column.placed(table, name, was)
    return column.kept(table, header, old, old_header)


def _kind_of(value: Any) -> str:
    return _kind(pa.scalar(value).type)


def _kind(given: pa.DataType) -> str:
    if pa.types.is_boolean(given):
        return "true or false"
    if pa.types.is_integer(given) or pa.types.is_floating(given):
        return "numbers"
    return "text" if pa.types.is_string(given) or pa.types.is_large_string(given) else str(given)


def _counted(reasons: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f" ({listed})" if listed else ""
