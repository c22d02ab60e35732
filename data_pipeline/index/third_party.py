"""Third-party tars, written with webdataset: which of their samples are clips, and where the clips' bytes lie.

Nothing is extracted, copied or unpickled, and each claim of a file is checked. A sample that is no clip gets a reason,
and so does a tar that cannot be read to its end (index/tar_samples.py).

Shape suffixes: T frames, N landmarks, 3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import struct
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from data_pipeline.index.field_mapping import FieldMapping
from data_pipeline.index.tar_samples import Sample, TarMember, Unusable, samples, short
from data_pipeline.shards.layout import MEMBERS, SYNC_OFFSET
from data_pipeline.shards.members import FRAME_BYTES, WAV_HEADER_BYTES
from data_pipeline.shards.table.schema import SCHEMA
from mytalk.face.landmarks import COUNT, SAMPLE_HZ, SAMPLES_PER_FRAME

LONGEST_KEY_BYTES = 200  # with an extension it must be a valid file name
LONGEST_TEXT = 1000  # characters of a fact
LARGEST_FACTS_BYTES = 1 << 20
MOST_EXTRA = 200  # facts of a sample, and columns of a table, beyond those of extract
NPY_HEAD_BYTES = 256  # most that the reader of windows allows before the values
READ_BYTES = 1 << 20

OURS = ("key", "identity", "corpus", "split", "frames", "shard", "duplicate_group")
PLACES = tuple(f"{member}_{what}" for member in MEMBERS for what in ("offset", "size"))
KNOWN = {field.name: field.type for field in SCHEMA if field.name not in (*OURS, *PLACES)} | {SYNC_OFFSET: pa.float64()}
CROP = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # of a clip with an unknown source: the crop itself


def read(path: Path, frames: Path | None, mapping: FieldMapping) -> list[dict[str, Any]]:
    """Each sample of a tar as a row of the manifest (without shard), or as {"key", "reason", "message"}.

    `frames` is the tar of the videos, with equal keys in equal order, where that is another one. A row holds the
    columns of extract, and further facts under "extra". Raises Unusable for a damaged tar, ValueError where the
    two tars differ in their keys, OSError.
    """
    own = videos = samples(path)
    if frames is not None:
        try:
            videos = samples(frames)
        except Unusable as unusable:
            raise Unusable(unusable.reason, f"the tar of its videos, {frames.name}: {unusable}") from None
        for ours, theirs in zip_longest(own, videos):
            key, other = (sample.key if sample else "nothing" for sample in (ours, theirs))
            if key != other:
                raise ValueError(f"{path} and {frames} differ in their keys: {short(key)} and {short(other)}")
    rows: list[dict[str, Any]] = []
    with open(path, "rb") as handle:
        for sample, video in zip(own, videos):
            try:
                rows.append(_row(handle, path, sample, video, mapping))
            except Unusable as unusable:
                reason = {"reason": unusable.reason, "message": short(unusable)}
                rows.append({"key": safe_key(sample.key) or sample.key[:LONGEST_TEXT], **reason})
    return rows


def safe_key(key: str) -> str:
    """The key of a clip for a sample's key: a file name without folders and dots. Empty where it cannot be one."""
    key = re.sub(r"^(\./)+", "", key)
    if not all(part not in ("", ".", "..") for part in key.split("/")):
        return ""
    if not key.isprintable() or "\\" in key or key.startswith("."):
        return ""
    name = key.replace("/", "__").replace(".", "-")
    try:
        return name if len(name.encode()) <= LONGEST_KEY_BYTES else ""
    except UnicodeEncodeError:  # bytes that are not text
        return ""


def _row(handle: IO[bytes], path: Path, sample: Sample, video_sample: Sample, mapping: FieldMapping) -> dict[str, Any]:
    """The row of a sample. Raises Unusable."""
    key = safe_key(sample.key)
    if not key:
        raise Unusable("unsafe_key", "its key cannot be a file name: '..', an absolute path, or too long")
    if sample.repeated or video_sample.repeated:
        raise Unusable("duplicate_member", f"it has two files .{sample.repeated or video_sample.repeated}")
    landmarks = _file(sample, mapping.landmarks, "no_landmarks")
    frames = landmark_frames(handle, landmarks)
    audio = _file(sample, mapping.audio, "no_audio")
    _audio(_bytes(handle, audio, WAV_HEADER_BYTES), audio.size, frames)
    video = _file(video_sample, mapping.video, "") if mapping.video.lower() in video_sample.files else None
    facts = _file(sample, mapping.facts, "") if mapping.facts.lower() in sample.files else None
    members = {"landmarks": landmarks, "audio": audio, "video": video, "facts": facts}
    given_facts = _facts(handle, facts) if facts else {}
    corpus = mapping.corpus or _text(given_facts.get("corpus")) or path.resolve().parent.name
    person = _person(path, sample.key, given_facts, mapping)
    row: dict[str, Any] = {"key": key, "corpus": corpus, "split": "", "frames": frames}
    row["identity"] = person if person.startswith(f"{corpus}/") else f"{corpus}/{person}"
    for member, file in members.items():
        row[f"{member}_offset"], row[f"{member}_size"] = (file.offset, file.size) if file else (0, 0)
    given = {name: typed(given_facts.get(name), kind) for name, kind in KNOWN.items()}
    sync_offset = given.pop(SYNC_OFFSET)
    source = f"{corpus}\0{given['source'] or key}"  # equal names in two corpora are two videos
    given["source_sha256"] = given["source_sha256"] or hashlib.sha256(source.encode()).hexdigest()
    defaults = {"source": key, "start_frame": 0, "stop_frame": frames, "crop": CROP, "crop_px": mapping.crop_px}
    row.update(given, **{name: value for name, value in defaults.items() if given[name] is None})
    row["extra"] = _extra(given_facts) | ({} if sync_offset is None else {SYNC_OFFSET: sync_offset})
    return row


def _file(sample: Sample, extension: str, missing: str) -> TarMember:
    member = sample.files.get(extension.lower())
    if member is None:
        raise Unusable(missing, f"it has no .{extension}")
    if member.fault:
        raise Unusable("not_a_file", f".{extension} is {member.fault}")
    return member


def _bytes(handle: IO[bytes], file: TarMember, most: int) -> bytes:
    handle.seek(file.offset)
    return handle.read(min(file.size, most))


def landmark_frames(handle: IO[bytes], file: TarMember) -> int:
    """The number of frames that the landmarks of a clip have. Raises Unusable."""
    head = io.BytesIO(_bytes(handle, file, NPY_HEAD_BYTES))
    try:
        version = np.lib.format.read_magic(head)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version} is not known")
        shape, fortran, kind = readers[version](head)
    except Exception as error:  # numpy's tokenizer, parser and types raise anything
        raise Unusable("landmarks_npy", f"its landmarks are not a readable .npy: {short(error)}") from None
    if kind != np.dtype("<f2") or kind.hasobject:
        raise Unusable("landmarks_dtype", f"its landmarks are {short(kind)}, not fp16 (<f2)")
    if fortran or len(shape) != 3 or shape[0] < 1 or tuple(shape[1:]) != (COUNT, 3):
        raise Unusable("landmarks_shape", f"its landmarks are of shape {short(shape)}, not (T, {COUNT}, 3) in C order")
    if head.tell() + int(shape[0]) * FRAME_BYTES != file.size:
        raise Unusable("landmarks_shape", f"{file.size} bytes of landmarks do not fit their shape {short(shape)}")
    left = file.size - head.tell()
    handle.seek(file.offset + head.tell())
    while left:
        data = handle.read(min(left, READ_BYTES))
        if not data:
            raise OSError(f"{handle.name} became shorter while it was read")
        if ((np.frombuffer(data, "<u2") & 0x7C00) == 0x7C00).any():
            raise Unusable("landmarks_not_finite", "its landmarks are not finite")
        left -= len(data)
    return int(shape[0])


def _audio(head: bytes, size: int, frames: int) -> None:
    """Raises Unusable unless a .wav of `size` bytes with this head holds the audio of `frames` frames."""
    fixed = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_HZ, 2 * SAMPLE_HZ, 2, 16)
    if len(head) < WAV_HEADER_BYTES or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise Unusable("audio_format", "its audio is not a .wav")
    if head[12:36] != fixed or head[36:40] != b"data":
        raise Unusable("audio_format", f"its audio is not 16-bit PCM, mono, {SAMPLE_HZ} Hz behind a header of 44 bytes")
    needed = frames * SAMPLES_PER_FRAME * 2
    stated = int.from_bytes(head[40:44], "little")
    if size != WAV_HEADER_BYTES + needed or stated != needed:
        samples = min(stated, size - WAV_HEADER_BYTES) // 2
        raise Unusable("audio_length", f"it has {samples} samples of audio, and {frames} frames need {needed // 2}")


def _facts(handle: IO[bytes], file: TarMember) -> dict[str, Any]:
    if file.size > LARGEST_FACTS_BYTES:
        raise Unusable("facts_json", f"its facts have {file.size} bytes, more than {LARGEST_FACTS_BYTES}")
    try:
        facts = json.loads(_bytes(handle, file, LARGEST_FACTS_BYTES))
    except (ValueError, RecursionError) as error:
        raise Unusable("facts_json", f"its facts are not JSON: {short(error)}") from None
    if not isinstance(facts, dict):
        raise Unusable("facts_json", "its facts are not a JSON object")
    return facts


def _person(path: Path, key: str, facts: dict[str, Any], mapping: FieldMapping) -> str:
    pattern = mapping.pattern()
    if pattern is not None:
        match = pattern.search(key)
        person = match.group(1) if match else None
    elif mapping.identity == "file":
        person = path.name.partition(".")[0]
    else:
        value = facts.get(mapping.identity.partition(".")[2])
        person = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    person = _text(person)
    if not person or not person.isprintable():
        raise Unusable("no_identity", f"identity {mapping.identity} names no person in it")
    return person


def typed(value: Any, kind: pa.DataType) -> Any:
    """A fact as a value of a column's type; None where it is of another type."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if pa.types.is_string(kind):
        return _text(value)
    if pa.types.is_integer(kind):
        return value if number and isinstance(value, int) and abs(value) < 2**31 else None
    if pa.types.is_floating(kind):
        return _float(value) if number else None
    if pa.types.is_boolean(kind):
        return value if isinstance(value, bool) else None
    if isinstance(value, list) and len(value) == kind.list_size:
        values = [typed(one, kind.value_type) for one in value]
        return None if None in values else values
    return None


def _extra(facts: dict[str, Any]) -> dict[str, Any]:
    """Numbers, texts and truth values that extract does not know."""
    extra: dict[str, Any] = {}
    for name, value in facts.items():
        if name in KNOWN or name in OURS or name in PLACES or not (name.isidentifier() and len(name) <= 64):
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            value = value if abs(value) < 2**53 else None
        elif isinstance(value, float):
            value = _float(value)
        elif not isinstance(value, bool):
            value = _text(value)
        if value is not None and len(extra) < MOST_EXTRA:
            extra[name] = value
    return extra


def _float(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    """A text that Arrow can hold; None for anything else, and for text that is too long."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value
