"""`index`: one manifest over third-party tars and existing shard folders, which stay where they are.

The manifest's header lists the source of each shard. Listed sources keep their number and new ones come last, so a run
pinned to the first shards stays the same. Only new or changed tars are read (index/parts.py).
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import glob
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.index import parts
from data_pipeline.index.field_mapping import FieldMapping
from data_pipeline.index.merge import LEDGER, IndexBuilder, ShardSource, named
from data_pipeline.index.tar_samples import compression
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.schema import HEADER, INDEXED
from data_pipeline.storage.faults import without_secrets
from data_pipeline.storage.inputs import is_remote
from mytalk import atomic, command, config
from mytalk.command import UserError
from mytalk.machine import cores, sole_user


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline index",
        "Make a manifest over existing shards, without copying them. A SOURCE is a tar written with webdataset (a\n"
        "path, or a pattern in quotes), a folder that extract or index wrote, or such a folder's URL. Folders are\n"
        "merged and keep their splits. Each sample of a tar must have landmarks (.npy, fp16, T x 478 x 3, px of its\n"
        "crop) and audio (.wav, 16-bit mono, 16 kHz, 640 samples a frame); OUT/ledger.jsonl lists each as kept or\n"
        "rejected. The same command again reads only what is new; shards added later come last.",
        "python -m data_pipeline index data/all 'others/*.tar' data/hdtf --landmarks lm.npy --identity 'key:^([^_]+)_'",
    )
    parser.add_argument("out", type=Path, help="folder of the manifest")
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="tars, patterns of tars, and folders or URLs with a manifest"
    )
    parser.add_argument("--config", type=Path, help="YAML with the options below as keys; options go before it")
    defaults = FieldMapping()
    for name in ("landmarks", "audio", "video", "facts"):
        description = f"extension of a clip's {name} (default {getattr(defaults, name)})"
        parser.add_argument(f"--{name}", metavar="EXT", help=description)
    description = (
        "the person: facts.NAME, key:REGEX (its first group), or file, the tar's name (default facts.identity)"
    )
    parser.add_argument("--identity", metavar="RULE", help=description)
    parser.add_argument("--corpus", metavar="NAME", help="default: as the facts say, else the name of the tar's folder")
    parser.add_argument("--crop-px", type=int, help="side of crops whose facts do not give it (default 256)")
    description = "tars that hold the videos, with equal keys in equal order; paired with the sources' in order"
    parser.add_argument("--frames-tars", nargs="+", default=[], metavar="GLOB", help=description)
    description = "drop the splits of folders, so that split assigns all people again"
    parser.add_argument("--unsplit", action="store_true", help=description)
    parser.add_argument("--workers", type=int, default=cores(), help="tars read at a time (default: one per core)")
    return parser


def run(args: argparse.Namespace) -> int:
    out: Path = args.out
    mapping = _field_mapping(args)
    requested = _sources(args, out)
    out.mkdir(parents=True, exist_ok=True)
    with sole_user(out, "index"):
        atomic.sweep(out, LEDGER)  # a column may be written here meanwhile
        atomic.sweep(out / parts.SUMS)
        has_tars = any(isinstance(source, ShardSource) for source in requested)
        earlier, tar_mapping = _indexed_before(out, mapping, has_tars)
        if tar_mapping is None and mapping != FieldMapping():
            raise UserError("member names, identity and corpus describe tars, and no tar is named; leave them out")
        folders = dict.fromkeys(
            [*(s.folder for s in earlier if s.folder), *(name for name in requested if isinstance(name, str))]
        )
        manifests = {name: Manifest.load(name if is_remote(name) else out / name) for name in folders}
        sources = _all_sources(earlier, requested, manifests)
        tars = [source for source in sources if source.tar]
        atomic.sweep(out / parts.PARTS, tuple(parts.stem(source.tar) for source in tars))  # of a column's parts none
        heads = parts.read_tars(out, tars, tar_mapping or FieldMapping(), max(args.workers, 1))
        for source in earlier:
            if source.tar and "reason" in heads[source]:
                raise UserError(
                    f"{source.tar} was indexed and is damaged now: {heads[source]['message']}; restore it, or name "
                    "another OUT"
                )
        if args.unsplit and (out / HEADER).exists():
            raise UserError(
                f"--unsplit is for a new folder and {out} exists; assign its people again with: "
                f"python -m data_pipeline split {out} --force"
            )
        return _write_index(out, sources, heads, manifests, tar_mapping, args.unsplit)


# What the command line names -----------------------------------------------------------------------------------


def _field_mapping(args: argparse.Namespace) -> FieldMapping:
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(FieldMapping)}
    try:
        return dataclasses.replace(
            config.load(FieldMapping, args.config), **{k: v for k, v in given.items() if v is not None}
        )
    except ValueError as error:
        raise UserError(f"{error}; see: python -m data_pipeline index --help") from None


def _sources(args: argparse.Namespace, out: Path) -> list[ShardSource | str]:
    """Tars and (by name) folders in the order of the command line, each once. Raises UserError."""
    paths: list[Path | str] = []
    for source in args.sources:
        path = Path(source)
        if is_remote(source):
            paths.append(_remote_folder(source))
        elif not path.is_dir():
            paths += _tars(source)
        elif path.resolve() == out.resolve():
            raise UserError(f"{source} is OUT itself; name the sources")
        elif not (path / HEADER).is_file():
            raise UserError(f"{source} has no {HEADER}; name its tars, in quotes: '{path / '*.tar'}'")
        else:
            paths.append(path)
    tars = [path for path in dict.fromkeys(paths) if isinstance(path, Path) and not path.is_dir()]
    frames = list(dict.fromkeys(path for pattern in args.frames_tars for path in _tars(pattern)))
    if frames and len(frames) != len(tars):
        raise UserError(f"{len(tars)} tars and {len(frames)} --frames-tars cannot be paired; name equally many")
    for path in (*tars, *frames):
        with open(path, "rb") as handle:
            program = compression(handle.read(512))
        if program:
            raise UserError(f"{path} is compressed ({program}); unpack it: byte ranges are read from plain tars alone")
    frames_of = dict(zip(tars, (named(path, out) for path in frames))) if frames else {}
    sources: list[ShardSource | str] = []
    for place in paths:
        name = place if isinstance(place, str) else named(place, out)
        if isinstance(place, str) or place.is_dir():
            sources.append(name)
        else:
            sources.append(ShardSource(name, "" if frames_of.get(place) == name else frames_of.get(place, "")))
    return list(dict.fromkeys(sources))


def _remote_folder(source: str) -> str:
    """The URL of a folder of shards. Raises UserError."""
    if without_secrets(source) != source:
        raise UserError(
            f"{without_secrets(source)}: a URL with a query, user or password would stand in the manifest; name a "
            "plain one"
        )
    if glob.has_magic(source) or source.endswith(".tar"):
        raise UserError(f"{source} is a URL, and index reads local tars; copy or mount it, or name a folder of shards")
    return source.rstrip("/")


def _tars(source: str) -> list[Path]:
    """The files that a path or a pattern names, sorted. Raises UserError."""
    matches = [source] if os.path.isfile(source) else sorted(glob.glob(source, recursive=True))
    paths = [Path(name) for name in matches if os.path.isfile(name)]
    if not paths:
        raise UserError(f"no file {source}; name tars, or a folder that extract or index wrote")
    return paths


# What OUT already holds --------------------------------------------------------------------------------------


def _indexed_before(out: Path, mapping: FieldMapping, has_tars: bool) -> tuple[list[ShardSource], FieldMapping | None]:
    """The sources of OUT's shards, in order, and the field mapping of its tars; None where it has none.

    Raises UserError where OUT holds something else, or where tars are to be added (`has_tars`) by another mapping.
    """
    try:
        listed = json.loads((out / HEADER).read_text()).get(INDEXED)
    except FileNotFoundError:
        return [], mapping if has_tars else None
    except (ValueError, AttributeError):
        raise UserError(f"{out / HEADER} is damaged; remove {out} and run the same command again") from None
    if listed is None:
        raise UserError(f"{out} holds shards that index did not make; name another folder")
    before = None if listed["rules"] is None else FieldMapping(**listed["rules"])
    for field in dataclasses.fields(FieldMapping) if has_tars and before is not None else ():
        was, now = getattr(before, field.name), getattr(mapping, field.name)
        if was != now:
            raise UserError(
                f"{out} was made with {field.name} = {was}, now {now}; index these into a folder of their own, and "
                "name that folder as a source"
            )
    return [ShardSource(**row) for row in listed["shards"]], before or (mapping if has_tars else None)


def _all_sources(
    earlier: list[ShardSource], requested: list[ShardSource | str], manifests: dict[str, Manifest]
) -> list[ShardSource]:
    """Earlier sources, then the new ones. Raises UserError where an earlier tar now comes with another of videos."""
    sources = dict.fromkeys(earlier)
    frames_of = {source.tar: source.frames for source in earlier if source.tar}
    shards_of = {name: np.unique(manifest.column("shard")).tolist() for name, manifest in manifests.items()}
    for source in earlier:
        if source.folder and source.shard not in shards_of[source.folder]:
            raise UserError(f"{source.folder} has no shard {source.shard} any more; restore it, or name another OUT")
    for request in requested:
        if isinstance(request, str):
            sources.update(dict.fromkeys(ShardSource(folder=request, shard=shard) for shard in shards_of[request]))
        elif frames_of.get(request.tar, request.frames) != request.frames:
            was = frames_of[request.tar] or "none"
            raise UserError(f"{request.tar} was indexed with --frames-tars {was}; name that one, or another OUT")
        else:
            sources[request] = None
    tars = collections.Counter(source.tar for source in sources if source.tar)
    repeated = [tar for tar, count in tars.items() if count > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is named twice, with different --frames-tars; name it once")
    return list(sources)


# The manifest ----------------------------------------------------------------------------------------


def _write_index(
    out: Path,
    sources: Sequence[ShardSource],
    heads: dict[ShardSource, dict[str, Any]],
    manifests: dict[str, Manifest],
    mapping: FieldMapping | None,
    unsplit: bool,
) -> int:
    """Build the manifest and the ledger, check that they agree, write both and print a summary."""
    builder = IndexBuilder(out, manifests)
    for source in sources:
        if source.folder:
            builder.add_folder_shard(source)
        else:
            builder.add_tar(source, heads[source], parts.samples_of(out, source))
    table = builder.table(unsplit)
    builder.check(table)
    if len(table):
        listed = {"rules": mapping and dataclasses.asdict(mapping), "shards": [s.listed() for s in builder.sources]}
        header = {**builder.header(unsplit, mapping), INDEXED: listed}
        existed = (out / HEADER).exists()
        try:
            manifest_update.commit(out, table, header)
        except UserError as error:
            if existed:
                raise
            leak = str(error).partition("; assign people")[0]
            raise UserError(f"{leak}; add --unsplit, then assign all people again with split") from None
    builder.write_ledger()
    print(builder.summary(table))
    for source, head in builder.damaged:
        print(f"left out {source.tar}: {head['message']}; repair it and run the same command again", file=sys.stderr)
    if not len(table):
        print(f"no clip was indexed; the reasons are in {out / LEDGER}", file=sys.stderr)
        return command.EXIT_NOT_DONE
    return command.EXIT_DONE
