"""A manifest of any size without shards, drawn: for tests and benchmarks of what planning a run costs.

    python -m tests.helpers.drawn_index FOLDER SHARDS CLIPS_EACH

Some 5 clips of a source, 20 sources of a person, 3 corpora; every twentieth person is in val, another in unseen.
Members are as long as the clip's frames make them and lie in the tar one after another.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.shards.layout import MEMBERS
from data_pipeline.shards.members import FRAME_BYTES, WAV_HEADER_BYTES
from data_pipeline.shards.table import schema
from mytalk import atomic
from mytalk.face.landmarks import CROP_PX, SAMPLES_PER_FRAME

CLIPS_PER_SOURCE, SOURCES_PER_PERSON, CORPORA = 5, 20, 3
PIECE_ROWS = 16 * schema.GROUP_ROWS
NPY_HEADER_BYTES, FACTS_BYTES, TAR_BLOCK = 128, 700, 512
SCHEMA = schema.SCHEMA.append(pa.field("duplicate_group", pa.string()))


def write(folder: Path, shard_count: int, clips_each: int, seed: int = 0) -> Path:
    """Write manifest.parquet and manifest.json of so many shards. Seconds a million clips."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    frames_n = random.integers(25, 251, shard_count * clips_each)
    video_n = frames_n * random.integers(1500, 2500, len(frames_n))
    places, shard_bytes = _places(frames_n, video_n, clips_each)
    path = folder / schema.TABLE
    with pq.ParquetWriter(path, SCHEMA, write_statistics=False) as writer:
        for first in range(0, len(frames_n), PIECE_ROWS):
            row_n = np.arange(first, min(first + PIECE_ROWS, len(frames_n)))
            writer.write_table(_rows(row_n, frames_n, places, clips_each, random), row_group_size=schema.GROUP_ROWS)
    with open(path, "rb") as handle:
        digest = _digest(handle)
    shards = [
        {"shard": shard} | {column: {"bytes": int(size), "sha256": "0" * 64} for column, size in sizes.items()}
        for shard, sizes in enumerate(shard_bytes)
    ]
    table = {"sha256": digest.hexdigest(), "bytes": path.stat().st_size, "rows": len(frames_n)}
    protocol = {"crop_px": CROP_PX, "fps": 25, "made_by": "tests/helpers/drawn_index.py"}
    header = {"format": schema.FORMAT, "protocol": protocol, "shards": shards, "table": table}
    atomic.write_json(folder / schema.HEADER, header)
    return folder


def _digest(handle) -> hashlib._Hash:
    made = hashlib.sha256()
    while piece := handle.read(1 << 20):
        made.update(piece)
    return made


def _places(
    frames_n: np.ndarray, video_n: np.ndarray, clips_each: int
) -> tuple[dict[str, np.ndarray], list[dict[str, int]]]:
    """Offset and size of every member, and bytes of every shard's tars."""
    sizes = {
        "landmarks": NPY_HEADER_BYTES + frames_n * FRAME_BYTES,
        "audio": WAV_HEADER_BYTES + frames_n * SAMPLES_PER_FRAME * 2,
        "facts": np.full(len(frames_n), FACTS_BYTES),
        "video": video_n,
    }
    places: dict[str, np.ndarray] = {}
    ends: dict[str, np.ndarray] = {}
    for column in ("motion", "frames"):
        held = [member for member, (own, _) in MEMBERS.items() if own == column]
        whole = [TAR_BLOCK + -(-sizes[member] // TAR_BLOCK) * TAR_BLOCK for member in held]  # header, padded data
        end_sc = np.cumsum(np.sum(whole, axis=0).reshape(-1, clips_each), axis=1)
        ends[column] = end_sc[:, -1] + 2 * TAR_BLOCK
        at = np.concatenate([np.zeros_like(end_sc[:, :1]), end_sc[:, :-1]], axis=1).ravel()
        for member, taken in zip(held, whole):
            places[f"{member}_offset"], places[f"{member}_size"] = at + TAR_BLOCK, sizes[member]
            at = at + taken
    return places, [dict(zip(ends, some)) for some in zip(*(end.tolist() for end in ends.values()))]


def _rows(row_n: np.ndarray, frames_n: np.ndarray, places: dict[str, np.ndarray], clips_each: int, random) -> pa.Table:
    """Some rows of the table."""
    count = len(row_n)
    source_n = row_n // CLIPS_PER_SOURCE
    person_n = source_n // SOURCES_PER_PERSON
    person, source = _padded(person_n, 6), _padded(source_n, 8)
    corpus = pc.binary_join_element_wise("corpus", (pa.array(person_n % CORPORA)).cast(pa.string()), "")
    identity = pc.binary_join_element_wise(corpus, "/id", person, "")
    hashes = {n: hashlib.sha256(str(n).encode()).hexdigest() for n in np.unique(source_n).tolist()}
    columns = {
        "key": pc.binary_join_element_wise("c", person, "-v", source, "-", _padded(row_n % CLIPS_PER_SOURCE, 4), ""),
        "identity": identity,
        "corpus": corpus,
        "split": pa.array(np.array(["unseen", "val", *["train"] * 18])[person_n % 20]),
        "frames": frames_n[row_n],
        "shard": row_n // clips_each,
        **{name: values[row_n] for name, values in places.items()},
        "source": pc.binary_join_element_wise(person, "/", source, ".mp4", ""),
        "start_frame": np.zeros(count),
        "stop_frame": frames_n[row_n],
        "source_fps": np.full(count, 25.0),
        "source_width": np.full(count, 512),
        "source_height": np.full(count, 512),
        "source_sha256": pa.array([hashes[n] for n in source_n.tolist()]),
        "crop": pa.FixedSizeListArray.from_arrays(np.tile([1.0, 0, 0, 0, 1, 0], count), 6),
        "crop_px": np.full(count, CROP_PX),
        "detected_share": np.ones(count),
        "face_px": random.uniform(60, 300, count),
        "yaw_deg": random.normal(0, 15, count),
        "roll_deg": random.normal(0, 5, count),
        "blur": random.uniform(0, 300, count),
        "duplicate_group": identity,
    }
    missing = {field.name: pa.nulls(count, field.type) for field in SCHEMA if field.name not in columns}  # newer facts
    return pa.table([_typed({**columns, **missing}[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _padded(number_n: np.ndarray, width: int) -> pa.Array:
    return pc.utf8_lpad(pa.array(number_n).cast(pa.string()), width, "0")


def _typed(values: np.ndarray | pa.Array, kind: pa.DataType) -> pa.Array:
    return (values if isinstance(values, pa.Array) else pa.array(values)).cast(kind)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
