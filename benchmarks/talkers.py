"""Shards of synthetic talkers to measure reading on: no detector, no speech, but bytes as extraction writes them.

Landmarks and audio are noise round a face and a loudness; the video is flat faces with a sensor's noise, which x264
makes as large as extracted clips. Shape suffixes: T frames, N landmarks, S audio samples, H height, W width, 3 = RGB.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from webdataset.writer import TarWriter

from data_pipeline.shards import manifest, manifest_update, members
from data_pipeline.shards import writer as shards
from data_pipeline.shards.layout import COLUMNS, MEMBERS, sums_name, tar_name, tar_path
from mytalk import atomic, media
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, INNER_LIP, OUTER_LIP
from mytalk.progress import Progress
from tests.helpers import talkers

CLIPS_PER_PERSON, CLIPS_PER_SHARD, FRAMES = 4, 20, 5 * FRAME_HZ
NOISE_LEVELS = 1.2  # of the sensor, of 255: then a frame takes some 2 kB, as in docs/log.md
DEFAULT_CODEC = {"crf": "18"}  # x264 as it is: key pictures 250 frames apart, B pictures


def pictures(landmarks_TN2: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Flat faces whose mouths follow the landmarks, seen through a noisy sensor: (T, 256, 256, 3) uint8."""
    ground, skin, lips, mouth = (tuple(colour) for colour in random.integers(40, 216, (4, 3)).tolist())
    noise_K = [random.normal(0, NOISE_LEVELS, (CROP_PX, CROP_PX, 1)).astype(np.float32) for _ in range(8)]
    shown = []
    for number, face_N2 in enumerate(landmarks_TN2):
        picture = Image.new("RGB", (CROP_PX, CROP_PX), ground)
        draw = ImageDraw.Draw(picture)
        draw.ellipse([*(face_N2.min(0) - 4).tolist(), *(face_N2.max(0) + 4).tolist()], fill=skin)
        for ring, colour in ((OUTER_LIP, lips), (INNER_LIP, mouth)):
            draw.polygon([tuple(point) for point in face_N2[ring].tolist()], fill=colour)
        shown.append((np.asarray(picture) + noise_K[number % 8]).astype(np.uint8))
    return np.stack(shown)


def write(folder: Path, files: Path | None, clips: int, frames: int = FRAMES) -> None:
    """Shards of `clips` talkers in `folder`; in `files`, each clip's landmarks and video as files of their own.

    KEY.npy; KEY.mp4, as x264's defaults make it; KEY-as-in-shard.mp4. Without `files` the clips have no video.
    """
    folder.mkdir()
    if files is not None:
        files.mkdir()
    parts, progress = [], Progress("drawing talkers", clips, "clips")
    for shard, first in enumerate(range(0, clips, CLIPS_PER_SHARD)):
        drawn = []
        for number in range(first, min(first + CLIPS_PER_SHARD, clips)):
            person, random = number // CLIPS_PER_PERSON, np.random.default_rng([7, number])
            face_N2 = talkers.outlined(talkers.base_face(np.random.default_rng([8, person])))
            landmarks_TN2, audio_S = talkers.clip(random, face_N2, gain_px=12, frames=frames)
            key = f"{person:04d}-{number:06d}"
            facts = _facts(f"talkers/{person:04d}", key, frames)
            data = {
                "landmarks.npy": members.landmarks_npy(landmarks_TN2),
                "audio.wav": members.audio_wav(audio_S),
                "facts.json": members.facts_json(facts),
            }
            drawn.append(({"key": key, "frames": frames, "facts": facts}, data))
            if files is not None:
                seen_THW3 = pictures(landmarks_TN2, random)
                data["frames.mp4"] = media.encode_frames(seen_THW3)
                (files / f"{key}.npy").write_bytes(data["landmarks.npy"])
                (files / f"{key}-as-in-shard.mp4").write_bytes(data["frames.mp4"])
                (files / f"{key}.mp4").write_bytes(media.encode_frames(seen_THW3, codec=DEFAULT_CODEC))
            progress.step()
        parts.append(_shard(folder, shard, drawn, COLUMNS if files is not None else COLUMNS[:1]))
    progress.finish()
    table, header = manifest_update.from_parts(parts, {"crop_px": CROP_PX, "fps": FRAME_HZ, "made_by": "benchmarks"})
    splits = pa.array(["train"] * len(table))
    manifest_update.save(folder, table.set_column(table.column_names.index("split"), "split", splits), header)


def _facts(identity: str, key: str, frames: int) -> dict[str, Any]:
    return {
        "corpus": "talkers",
        "source": f"{key}.mp4",
        "identity": identity,
        "start_frame": 0,
        "stop_frame": frames,
        "source_fps": 25.0,
        "source_width": 512,
        "source_height": 512,
        "source_sha256": hashlib.sha256(key.encode()).hexdigest(),
        "crop": [0.5, 0.0, 0.0, 0.0, 0.5, 0.0],
        "crop_px": CROP_PX,
        "detected_share": 1.0,
        "face_px": 160.0,
        "yaw_deg": 0.0,
        "roll_deg": 0.0,
        "blur": 100.0,
    }


def _shard(folder: Path, shard: int, drawn: list[tuple[dict, dict[str, bytes]]], columns: Sequence[str]) -> dict:
    """Write a shard's columns; returns its part."""
    at: dict[str, tuple[int, int]] = {}
    for column in columns:
        extensions = [extension for held, extension in MEMBERS.values() if held == column]
        path = tar_path(folder, column, shard)
        with open(path, "wb") as handle, TarWriter(handle, mtime=0, encoder=False) as writer:
            for row, data in drawn:
                writer.write({"__key__": row["key"], **{extension: data[extension] for extension in extensions}})
        with tarfile.open(path) as tar:
            at |= {info.name: (info.offset_data, info.size) for info in tar}
    for row, _ in drawn:
        for member, (_, extension) in MEMBERS.items():
            row[f"{member}_offset"], row[f"{member}_size"] = at.get(f"{row['key']}.{extension}", (0, 0))
    described = {column: shards.describe(folder, column, shard) for column in columns}
    return {"shard": shard, "clips": [row for row, _ in drawn], "columns": described}


# Indexes ---------------------------------------------------------------------------------------------


def write_index(folder: Path, real: Path, shards_held: int, per_shard: int) -> None:
    """A manifest of `shards_held` x `per_shard` clips, whose shards are all links to shard 0 of `real`.

    Clip n of every shard lies where clip n modulo the real ones does, so any can be read. Five clips of a source, 20
    sources of a person.
    """
    folder.mkdir()
    known = manifest.Manifest.load(real)
    held = known.table.filter(pa.array(known.column("shard") == 0))
    for column in ("motion", "frames"):
        for name in (tar_name, sums_name):
            for shard in range(shards_held):
                os.link(real / name(column, 0), folder / name(column, shard))
    writer = None
    for first in range(0, shards_held, step := max(1, 200_000 // per_shard)):
        table = _index_rows(held, range(first, min(first + step, shards_held)), per_shard)
        if writer is None:
            writer = pq.ParquetWriter(folder / manifest.TABLE, table.schema, write_statistics=False)
        writer.write_table(table, row_group_size=manifest.GROUP_ROWS)
    assert writer is not None
    writer.close()
    digest = hashlib.sha256()
    with open(folder / manifest.TABLE, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    stated = {column: known.header["shards"][0][column] for column in COLUMNS}
    size = (folder / manifest.TABLE).stat().st_size
    header = {
        "protocol": known.header["protocol"],
        "shards": [{"shard": shard, **stated} for shard in range(shards_held)],
        "format": manifest.FORMAT,
        "table": {"sha256": digest.hexdigest(), "bytes": size, "rows": shards_held * per_shard},
    }
    atomic.write_json(folder / manifest.HEADER, header)


def _index_rows(held: pa.Table, shard_range: Iterable[int], per_shard: int) -> pa.Table:
    """Rows of some shards, each like the held ones in all but names."""
    shard_n = np.repeat(np.array(list(shard_range)), per_shard)
    row_n = shard_n * per_shard + np.tile(np.arange(per_shard), len(shard_n) // per_shard)
    table = held.take(pa.array(row_n % per_shard % len(held)))
    named = {
        "key": [f"clip-{row:09d}" for row in row_n.tolist()],
        "identity": [f"talkers/person-{row // 100:08d}" for row in row_n.tolist()],
        "source": [f"videos/{row // 5000:06d}/{row // 5 % 1000:03d}.mp4" for row in row_n.tolist()],
        "source_sha256": [hashlib.sha256(b"%d" % (row // 5)).hexdigest() for row in row_n.tolist()],
        "shard": pa.array(shard_n, pa.int32()),
    }
    for name, values in named.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table
