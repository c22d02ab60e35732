"""The list of sources: which videos a corpus has, who is in them, and which shard each belongs to.

The list is frozen in OUT/sources.json at the first run, so shard numbers never move: a later run keeps it
and appends videos that are new, in shards of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.extract.corpora.layouts import FaceBox, Fact, Video
from data_pipeline.extract.listing import names
from data_pipeline.shards.layout import FRAMES_PX
from data_pipeline.shards.table.schema import SCHEMA
from data_pipeline.storage import inputs
from data_pipeline.storage.faults import without_secrets
from data_pipeline.storage.inputs import Files
from mytalk import atomic
from mytalk.command import UserError
from mytalk.digest import sha256_of

FILE = "sources.json"
FORMAT = 1
OWN_FACTS = {*SCHEMA.names, "duplicate_group", FRAMES_PX}


@dataclass(frozen=True)
class Source:
    """A video file: path relative to the corpus (with /, as text: names.py), size when listed, who is in it, its shard.

    `ranges_s`: [start, stop] in seconds of the parts to use, `ranges_frames` the same in frames of its own rate, none:
    all. `facts`: what the corpus says of its clips. `audio`: where its sound lies, "": in the video. `faces`: the
    fields of a FaceBox each.
    """

    path: str
    bytes: int
    identity: str
    shard: int
    ranges_s: list[list[float]] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    ranges_frames: list[list[float]] = field(default_factory=list)
    audio: str = ""
    faces: list[dict[str, Any]] = field(default_factory=list)

    def times_s(self, fps: float) -> tuple[list[list[float]], tuple[FaceBox, ...]]:
        """The parts to use and the faces, in seconds of a video of that rate."""
        faces = [FaceBox(**face) for face in self.faces]
        if not self.ranges_frames:
            return self.ranges_s, tuple(faces)
        ranges_s = [[start / fps, stop / fps] for start, stop in self.ranges_frames]
        in_seconds = (
            dataclasses.replace(face, start=face.start / fps, stop=None if face.stop is None else face.stop / fps)
            for face in faces
        )
        return ranges_s, tuple(in_seconds)

    def files(self, videos: Path | str) -> Files:
        """The folder and path of the video, then of its sound where that is another file."""
        paths = [self.path, self.audio] if self.audio else [self.path]
        if inputs.is_remote(videos):
            return [(str(videos), path) for path in paths]
        return [("", path) if inputs.is_remote(path) else (str(videos), names.to_path(path)) for path in paths]

    def shown(self, videos: Path | str) -> str:
        """The place of the video for messages, without secrets."""
        root, name = self.files(videos)[0]
        return without_secrets(name if inputs.is_remote(name) else f"{root}/{name}")

    def row(self) -> dict[str, Any]:
        """The entry of sources.json, without what the corpus does not say."""
        optional = ("ranges_s", "facts", "ranges_frames", "audio", "faces")
        return {name: value for name, value in asdict(self).items() if value or name not in optional}


def key_of(corpus: str, path: str, start_frame: int, track: int = 0) -> str:
    """The clip's key: readable, without dots or folders, unique by corpus and path (a digest), frame and track."""
    stem, dot, suffix = path.rpartition(".")
    name = stem if dot and "/" not in suffix else path  # a folder's dot begins no suffix
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[-48:].strip("-") or "clip"
    return f"{readable}-{digest_of(corpus, path)}-{start_frame:06d}" + (f"-f{track}" if track else "")


@functools.lru_cache(maxsize=16)
def digest_of(corpus: str, path: str) -> str:
    """Ten digits that tell a source from all others, in keys of clips and in names of people."""
    return hashlib.sha256(f"{corpus}\0{path}".encode()).hexdigest()[:10]


def listed(
    folder: Path | str,
    out: Path,
    settings: dict[str, Any],
    videos: Iterable[Video],
    bytes_of: dict[str, int],
    unlisted: bool = False,
) -> tuple[list[Source], list[str]]:
    """The frozen list with the `videos` that are new appended, saved in `out`; `bytes_of` is the size of every file.

    And the paths of videos without a file, which join once they are there. `unlisted`: nobody can say what there is, as
    of a web server; then, and of URLs, what the layout names is taken to be there, of unknown size (0). Raises
    UserError where `out` was made with other settings, for wrong videos, and where the list is empty.
    """
    saved = _load(out) or {"format": FORMAT, "settings": settings, "sources": []}
    for name, value in settings.items():
        before = saved["settings"].get(name, "folder" if name == "layout" else None)
        if before != value:
            raise UserError(f"{out} was made with {name} = {before}, now {value}; name another folder")
    sources = [Source(**row) for row in saved["sources"]]
    known = {source.path for source in sources}
    fresh = [video for video in sorted(videos, key=lambda video: video.path) if video.path not in known]
    there, missing = [], []
    for video in fresh:
        known_to_be = video.path in bytes_of or unlisted or inputs.is_remote(video.path)
        there.append(video) if known_to_be else missing.append(video.path)
    if missing:
        counted = f"{len(missing)} videos of the corpus's lists are missing in {folder}"
        print(f"{counted}, the first is {missing[0]}", file=sys.stderr)
    first_shard = max((source.shard for source in sources), default=-1) + 1
    for number, video in enumerate(there):
        shard = first_shard + number // settings["sources_per_shard"]
        identity = f"{settings['corpus']}/{video.person}"
        sources.append(_source(video, bytes_of.get(video.path, 0), identity, shard))
    if not sources:
        raise UserError(f"no video of layout {settings['layout']} in {folder}; is another --layout meant?")
    _refuse_wrong(sources)
    if there:
        rows = [source.row() for source in sources]
        kept = {name: value for name, value in settings.items() if (name, value) != ("layout", "folder")}
        atomic.write_json(out / FILE, {"format": FORMAT, "settings": kept, "sources": rows})
    return sources, missing


def digest(out: Path) -> str:
    """SHA-256 of the list in a folder."""
    return sha256_of(out / FILE)


def _source(video: Video, size: int, identity: str, shard: int) -> Source:
    """The row of a video. Raises UserError for labels that cannot be."""
    if video.ranges_s and video.ranges_frames:
        raise UserError(f"{video.path}: its layout gives time ranges in seconds and in frames; give one of them")
    for face in video.faces:
        numbers = (face.x, face.y, face.width, face.height, face.start, face.stop or 0.0)
        if not all(map(math.isfinite, numbers)) or min(face.width, face.height) < 0 or face.unit not in ("share", "px"):
            raise UserError(f"{video.path}: {face} is no place of a face; correct its label")
    for place in filter(inputs.is_remote, (video.path, video.audio)):
        if without_secrets(place) != place:
            raise UserError(
                f"{without_secrets(place)}: a URL with a query, user or password would stand in every ledger; name a "
                "plain one, credentials come from the environment"
            )
    if video.audio and "://" not in video.audio and (video.audio.startswith("/") or ".." in video.audio.split("/")):
        raise UserError(f"{video.path}: its sound {video.audio} lies outside of the corpus; bring it inside")
    ranges_s, ranges_frames = (_united(video.path, ranges) for ranges in (video.ranges_s, video.ranges_frames))
    faces = [asdict(face) for face in video.faces]
    return Source(video.path, size, identity, shard, ranges_s, dict(video.facts), ranges_frames, video.audio, faces)


def _united(path: str, ranges: Iterable[tuple[float, float]]) -> list[list[float]]:
    """The parts of a video in order, those that touch as one. Raises UserError for an empty or negative one."""
    united: list[list[float]] = []
    for start, stop in sorted(ranges):
        if not 0 <= start < stop < math.inf:
            raise UserError(f"{path}: a time range from {start} to {stop} is empty; correct its label")
        if united and start <= united[-1][1]:
            united[-1][1] = max(united[-1][1], stop)
        else:
            united.append([start, stop])
    return united


def _refuse_wrong(sources: list[Source]) -> None:
    """UserError for a path listed twice, and for facts that cannot be columns of the manifest."""
    kinds: dict[str, type] = {}
    paths: set[str] = set()
    for source in sources:
        if source.path in paths:
            raise UserError(f"the layout yields {source.path} twice; yield it once, with all of its time ranges")
        paths.add(source.path)
        for name, value in source.facts.items():
            if name in OWN_FACTS or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise UserError(f"{source.path}: a fact of a corpus cannot be named '{name}'; take another name")
            if type(value) not in (str, bool, int, float) or type(value) is not kinds.setdefault(name, type(value)):
                raise UserError(f"{source.path}: fact '{name}' is {value!r}; use one type, text, bool, int or float")


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
