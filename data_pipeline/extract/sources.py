"""The list of sources: which videos a corpus has, who is in them, and which shard each belongs to.

The list is frozen in OUT/sources.json at the first run, so shard numbers never move: a later run keeps it
and appends videos that are new, in shards of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mytalk import atomic
from mytalk.command import UserError

SUFFIXES = {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
FILE = "sources.json"
FORMAT = 1


@dataclass(frozen=True)
class Source:
    """A video file: path relative to the corpus (with /), size when listed, who is in it, its shard."""

    path: str
    bytes: int
    identity: str
    shard: int


def walk(videos: Path, skip: Path | None = None) -> list[tuple[str, int]]:
    """Video files below `videos` as (relative path, size in bytes), sorted by path.

    Left out: other suffixes, hidden files, unfinished files (`atomic.TEMPORARY`), and the folder `skip`.
    Links to folders are followed, each folder once. Raises OSError for a folder that cannot be read.
    """
    found: list[tuple[str, int]] = []
    seen: set[tuple[int, int]] = set()

    def stop(error: OSError) -> None:
        raise error

    for folder, inner, names in os.walk(videos, onerror=stop, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen or (skip is not None and Path(folder).resolve() == skip):
            inner[:] = []
            continue
        seen.add((here.st_dev, here.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in names:
            if name.startswith((".", atomic.TEMPORARY)) or Path(name).suffix.lower() not in SUFFIXES:
                continue
            path = Path(folder, name)
            if path.is_file():
                found.append((path.relative_to(videos).as_posix(), path.stat().st_size))
    return sorted(found)


def identity_of(path: str, corpus: str, level: str | None) -> str:
    """`corpus/person` of a source: the name of the folder that holds it, or its own stem at the top.

    Where videos lie deeper than one folder, the person may be the `first` folder (VoxCeleb2, MEAD) or the
    `parent` (LRS3): a wrong guess would put one person into two splits unseen, so `level` must say which.
    Raises UserError without it.
    """
    parts = path.split("/")
    if len(parts) == 1:
        return f"{corpus}/{Path(path).stem}"
    if len(parts) > 2 and level is None:
        raise UserError(
            f"'{path}' lies deeper than one folder; add --identity first or --identity parent to say which "
            "folder names the person"
        )
    return f"{corpus}/{parts[0] if level == 'first' else parts[-2]}"


def key_of(corpus: str, path: str, start_frame: int) -> str:
    """The clip's key: readable, without dots or folders, unique by a digest of corpus and whole path."""
    digest = hashlib.sha256(f"{corpus}\0{path}".encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", path.rpartition(".")[0]).strip("-")[-48:].strip("-")
    return f"{readable}-{digest}-{start_frame:06d}"


def listed(
    videos: Path,
    out: Path,
    corpus: str,
    settings: dict[str, Any],
    per_shard: int,
    level: str | None,
    fresh: list[tuple[str, int]],
) -> list[Source]:
    """The frozen list with the `fresh` files (see `walk`) appended, saved in `out`.

    Raises UserError where `out` was made from another corpus or with other settings, or where a listed file
    has changed since.
    """
    kept = _load(out)
    settings = {**settings, "corpus": corpus, "sources_per_shard": per_shard, "identity": level}
    if kept is None:
        kept = {"format": FORMAT, "settings": settings, "sources": []}
    for name, value in settings.items():
        if kept["settings"].get(name) != value:
            before = kept["settings"].get(name)
            raise UserError(f"{out} was made with {name} = {before}, now {value}; name another folder")
    sources = [Source(**row) for row in kept["sources"]]
    size_of = dict(fresh)
    for source in sources:
        if size_of.get(source.path, source.bytes) != source.bytes:
            raise UserError(f"{videos / source.path} has changed since it was listed; name another folder")
    known = {source.path for source in sources}
    added = [(path, size) for path, size in fresh if path not in known]
    first = max((source.shard for source in sources), default=-1) + 1
    for number, (path, size) in enumerate(added):
        shard = first + number // per_shard
        sources.append(Source(path, size, identity_of(path, corpus, level), shard))
    if added:
        rows = [asdict(source) for source in sources]
        atomic.write_json(out / FILE, {"format": FORMAT, "settings": settings, "sources": rows})
    return sources


def _load(out: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads((out / FILE).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(f"{out / FILE} is not JSON; remove {out} and type the same command") from None
    if kept.get("format") != FORMAT:
        raise UserError(f"{out / FILE} has format {kept.get('format')}, this version reads {FORMAT}")
    return kept
