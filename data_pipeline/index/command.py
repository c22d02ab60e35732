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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.index import third_party
from data_pipeline.index.merge import LEDGER, IndexBuilder, ShardSource, named
from data_pipeline.index.third_party import FieldMapping, Unusable
from data_pipeline.shards import checksums, manifest_update
from data_pipeline.shards.layout import COLUMNS
from data_pipeline.shards.manifest import HEADER, Manifest
from mytalk import atomic, command, config
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.machine import cores, sole_user
from mytalk.progress import Progress

LISTED = "indexed"  # in the header
PARTS, SUMS = "parts", "sums"
FORMAT = 1  # of the parts


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
    defaults = FieldMapping()
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
        held, rules = _list(out, asked, any(isinstance(one, ShardSource) for one in order))
        if rules is None and asked != FieldMapping():
            raise UserError("member names, identity and corpus are told of tars, and no tar is named; leave them out")
        folders = dict.fromkeys(
            [*(u.folder for u in held if u.folder), *(one for one in order if isinstance(one, str))]
        )
        of_folders = {name: Manifest.load(out / name) for name in folders}
        units = _appended(held, order, of_folders)
        heads = _scanned(out, [unit for unit in units if unit.tar], rules or FieldMapping(), max(args.workers, 1))
        for unit in held:
            if unit.tar and "reason" in heads[unit]:
                why = heads[unit]["message"]
                raise UserError(f"{unit.tar} was indexed and is damaged now: {why}; bring it back, or name another OUT")
        if args.unsplit and (out / HEADER).exists():
            raise UserError(
                f"--unsplit is for a new folder and {out} is there; assign its people anew with: "
                f"python -m data_pipeline split {out} --force"
            )
        return _close(out, units, heads, of_folders, rules, args.unsplit)


# What is asked for -----------------------------------------------------------------------------------


def _rules(args: argparse.Namespace) -> FieldMapping:
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(FieldMapping)}
    try:
        return dataclasses.replace(
            config.load(FieldMapping, args.config), **{k: v for k, v in given.items() if v is not None}
        )
    except ValueError as error:
        raise UserError(f"{error}; see: python -m data_pipeline index --help") from None


def _sources(args: argparse.Namespace, out: Path) -> list[ShardSource | str]:
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
            how = third_party.compression(handle.read(512))
        if how:
            raise UserError(f"{path} is compressed ({how}) and reading byte ranges needs plain tars; unpack it first")
    beside = dict(zip(tars, (named(path, out) for path in frames))) if frames else {}
    made: list[ShardSource | str] = []
    for path in order:
        name = named(path, out)
        made.append(
            name if path.is_dir() else ShardSource(name, "" if beside.get(path) == name else beside.get(path, ""))
        )
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


# What is listed --------------------------------------------------------------------------------------


def _list(out: Path, rules: FieldMapping, tars: bool) -> tuple[list[ShardSource], FieldMapping | None]:
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
    before = None if kept["rules"] is None else FieldMapping(**kept["rules"])
    for field in dataclasses.fields(FieldMapping) if tars and before is not None else ():
        was, now = getattr(before, field.name), getattr(rules, field.name)
        if was != now:
            raise UserError(
                f"{out} was made with {field.name} = {was}, now {now}; index these into a folder of their own, and "
                "name that folder as a source"
            )
    return [ShardSource(**row) for row in kept["shards"]], before or (rules if tars else None)


def _appended(
    held: list[ShardSource], order: list[ShardSource | str], of_folders: dict[str, Manifest]
) -> list[ShardSource]:
    """The list with what is new behind it. Raises UserError where a tar on it now has another beside it."""
    units = dict.fromkeys(held)
    frames_of = {unit.tar: unit.frames for unit in held if unit.tar}
    there = {name: _shards(made) for name, made in of_folders.items()}
    for unit in held:
        if unit.folder and unit.shard not in there[unit.folder]:
            raise UserError(f"{unit.folder} has no shard {unit.shard} any more; bring it back, or name another OUT")
    for one in order:
        if isinstance(one, str):
            units.update(dict.fromkeys(ShardSource(folder=one, shard=shard) for shard in there[one]))
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


def _scanned(
    out: Path, units: Sequence[ShardSource], rules: FieldMapping, workers: int
) -> dict[ShardSource, dict[str, Any]]:
    """What is known of each tar, which is read where nothing is. Raises UserError for a pair that differs, OSError."""
    heads = {unit: _known(out, unit, rules) for unit in units}
    todo = [unit for unit, head in heads.items() if head is None]
    if todo:
        progress = Progress("index", len(units), "tars", done=len(units) - len(todo))
        with ThreadPoolExecutor(workers) as threads:
            waiting = {threads.submit(_scan, out, unit, rules): unit for unit in todo}
            try:
                for done in as_completed(waiting):
                    heads[waiting[done]] = done.result()
                    progress.step()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        progress.finish()
    return {unit: head for unit, head in heads.items() if head is not None}


def _stem(name: str) -> str:
    """Name of the files about a tar: readable, and of no other tar."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).name.rpartition(".")[0])[:48].strip("-")
    return f"{readable or 'tar'}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}"


def _part_path(out: Path, unit: ShardSource) -> Path:
    return out / PARTS / f"{_stem(unit.tar)}.jsonl"


def _asked(out: Path, unit: ShardSource, rules: FieldMapping) -> dict[str, Any]:
    """By what a part is known: the rules, and size and time of the unit's files. Raises UserError where one is gone."""
    files = {}
    for name in filter(None, (unit.tar, unit.frames)):
        try:
            stat = os.stat(out / name)
        except FileNotFoundError:
            raise UserError(f"{name} is gone since it was indexed; bring it back, or name another OUT") from None
        files[name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"format": FORMAT, "rules": dataclasses.asdict(rules), "unit": unit.listed(), "files": files}


def _known(out: Path, unit: ShardSource, rules: FieldMapping) -> dict[str, Any] | None:
    """The head of a tar's part, if it was made by these rules and no file of it has changed since."""
    asked = _asked(out, unit, rules)
    try:
        with open(_part_path(out, unit)) as handle:
            head = json.loads(handle.readline())
        if {name: head.get(name) for name in asked} != asked:
            return None
        for stated in head["columns"].values():
            (out / stated["crc"]).stat()
    except (FileNotFoundError, ValueError, AttributeError, KeyError):
        return None
    return head


def _samples(out: Path, unit: ShardSource) -> list[dict[str, Any]]:
    """What was found in a tar, a sample each."""
    with open(_part_path(out, unit)) as handle:
        return [json.loads(line) for line in handle][1:]


def _scan(out: Path, unit: ShardSource, rules: FieldMapping) -> dict[str, Any]:
    """Read a tar, and keep what was found in it: a head, and a line a sample. A damaged one's head has a reason."""
    asked = _asked(out, unit, rules)
    head: dict[str, Any] = {**asked, "columns": {}}
    found: list[dict[str, Any]] = []
    try:
        found = third_party.judged(out / unit.tar, out / unit.frames if unit.frames else None, rules)
    except Unusable as unusable:
        head.update(reason=unusable.reason, message=str(unusable))
    except ValueError as error:
        raise UserError(f"{error}; name pairs of tars in equal order") from None
    else:
        stated = {name: _summed(out, name) for name in asked["files"]}
        head["columns"] = dict(zip(COLUMNS, (stated[unit.tar], stated[unit.frames or unit.tar])))
    if _asked(out, unit, rules) != asked:
        raise UserError(f"{unit.tar} was changed while it was read; type the same command when its writer is done")
    with atomic.file(_part_path(out, unit), "w") as handle:
        for line in (head, *found):
            handle.write(json.dumps(line, allow_nan=False) + "\n")
    return head


def _summed(out: Path, name: str) -> dict[str, Any]:
    """Write a tar's checksums; what the manifest's header says of it."""
    crc = f"{SUMS}/{_stem(name)}.crc"
    checksums.write(out / name, out / crc)
    return {"bytes": os.stat(out / name).st_size, "sha256": sha256_of(out / name), "file": name, "crc": crc}


# The manifest ----------------------------------------------------------------------------------------


def _close(
    out: Path,
    units: Sequence[ShardSource],
    heads: dict[ShardSource, dict[str, Any]],
    of_folders: dict[str, Manifest],
    rules: FieldMapping | None,
    unsplit: bool,
) -> int:
    """Put the table together, balance the books, write both and print the sums."""
    books = IndexBuilder(out, of_folders)
    for unit in units:
        if unit.folder:
            books.merge(unit)
        else:
            books.judge(unit, heads[unit], _samples(out, unit))
    table = books.united(unsplit)
    books.balance(table)
    if len(table):
        listed = {"rules": rules and dataclasses.asdict(rules), "shards": [unit.listed() for unit in books.units]}
        fresh = {**books.header(unsplit, rules), LISTED: listed}
        begun = (out / HEADER).exists()
        try:
            manifest_update.commit(out, table, fresh)
        except UserError as error:
            if begun:
                raise
            leak = str(error).partition("; assign people")[0]
            raise UserError(f"{leak}; add --unsplit, and assign people of all anew with split") from None
    books.write()
    print(books.in_words(table))
    for unit, head in books.damaged:
        print(f"left out {unit.tar}: {head['message']}; bring it whole and type the same command", file=sys.stderr)
    if not len(table):
        print(f"nothing was indexed; the reasons are in {out / LEDGER}", file=sys.stderr)
        return command.EXIT_NOT_DONE
    return command.EXIT_DONE
