"""Synthetic talkers, for benchmarks and tests: no detector, no speech, but shards with bytes as extraction writes them.

Landmarks and audio are noise round a face and a loudness, with which the mouth opens; the video is flat faces, with a
sensor's noise where x264 should make it as large as extracted clips.
Shape suffixes: T frames, N landmarks, S audio samples, H height, W width, 3 = RGB.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tarfile
from collections.abc import Iterable, Iterator
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
from data_pipeline.shards.table import schema
from data_pipeline.shards.table.parts import from_parts
from mytalk import atomic, media
from mytalk.face import crop, pose
from mytalk.face.landmarks import COUNT, CROP_PX, FRAME_HZ, INNER_LIP, OUTER_LIP, RIGID, SAMPLES_PER_FRAME
from mytalk.face.region import BELOW_NOSE, JAW
from mytalk.progress import Progress

CLIPS_PER_PERSON, CLIPS_PER_SHARD, FRAMES = 4, 20, 5 * FRAME_HZ
NOISE_LEVELS = 1.2  # of the sensor, of 255: then a frame takes some 2 kB, as in docs/log.md
DEFAULT_CODEC = {"crf": "18"}  # x264 as it is: key pictures 250 frames apart, B pictures
LOWER = [i for ring in (INNER_LIP, OUTER_LIP) for i in ring[11:]]


FACE_PX, FACE_AT = 160, (128.0, 120.0)  # side and centre of the face in the crop
PER_HEAD_PX = FACE_PX / crop.FACE_SIDE_PX
RIGID_AT = np.array([*FACE_AT, 0.0]) - PER_HEAD_PX * np.array(crop.FACE_CENTRE)


def base_face(random: np.random.Generator) -> np.ndarray:
    """(478, 3) px: points of a domed sunflower disc, rigid points as a mean head has them, the lips on two ellipses."""
    n = np.arange(COUNT)
    radius, angle = FACE_PX / 2 * np.sqrt((n + 0.5) / COUNT), n * 2.399963
    face = np.stack([FACE_AT[0] + radius * np.cos(angle), FACE_AT[1] + radius * np.sin(angle)], axis=-1)
    for ring, width, height in ((OUTER_LIP, 26, 10), (INNER_LIP, 20, 4)):
        around = np.pi + 2 * np.pi * np.arange(len(ring)) / len(ring)
        face[ring] = np.stack([128 + width * np.cos(around), 165 + height * np.sin(around)], axis=-1)
    face = np.concatenate([face, depth(face)], axis=-1)
    face[RIGID] = RIGID_AT + PER_HEAD_PX * pose.MEAN_RIGID_R3.numpy()
    return face + random.normal(0, 1.5, face.shape)


def depth(face_N2: np.ndarray) -> np.ndarray:
    """How deep a dome over the face lies at its points: (N, 1) px."""
    out_N1 = np.linalg.norm(face_N2 - FACE_AT, axis=-1, keepdims=True) / (FACE_PX / 2)
    return 60 * out_N1**2 - 30


def outlined(face_N3: np.ndarray) -> np.ndarray:
    """The face with a jaw from cheek to cheek and a line below the nose, as a face mesh has them."""
    face_N3, angle = face_N3.copy(), np.linspace(np.pi - 0.2, 0.2, len(JAW))
    face_N3[JAW, :2] = np.stack([128 + 80 * np.cos(angle), 120 + 80 * np.sin(angle)], axis=-1)
    face_N3[BELOW_NOSE, :2] = [[150, 146], [128, 146], [106, 146]]
    outline = [*JAW, *BELOW_NOSE]
    face_N3[outline, 2:] = depth(face_N3[outline, :2])
    return face_N3


def clip(random: np.random.Generator, face: np.ndarray, gain_px: float, frames: int):
    """Landmarks (T, 478, 3) and audio (T * 640,) of one clip."""
    knots = random.random(frames // 4 + 3)
    envelope = np.interp(np.arange(frames), np.arange(len(knots)) * 4, knots)
    landmarks = np.repeat(face[None], frames, axis=0)
    landmarks[:, LOWER, 1] += gain_px * envelope[:, None]
    yaw_T = np.radians(np.cumsum(random.normal(0, 0.4, frames)))
    landmarks = turned(landmarks, yaw_T)
    sway = np.cumsum(random.normal(0, 0.3, (frames, 1, 3)), axis=0) * [1, 1, 0]
    loudness = np.repeat(envelope, SAMPLES_PER_FRAME)
    audio = 0.3 * loudness * random.standard_normal(len(loudness))
    jitter = random.normal(0, 0.4, landmarks.shape)  # as a detector has
    return landmarks + sway + jitter, np.clip(audio, -1, 1)


def turned(landmarks_TN3: np.ndarray, yaw_T: np.ndarray) -> np.ndarray:
    """Heads turned about the middle of the face, towards the image's right where positive."""
    x, y, z = np.moveaxis(landmarks_TN3 - [*FACE_AT, 0.0], -1, 0)
    cos_T1, sin_T1 = np.cos(yaw_T)[:, None], np.sin(yaw_T)[:, None]
    return np.stack([cos_T1 * x - sin_T1 * z, y, sin_T1 * x + cos_T1 * z], axis=-1) + np.array([*FACE_AT, 0.0])


def pictures(landmarks_TN3: np.ndarray, random: np.random.Generator, noise_levels: float = 0.0) -> np.ndarray:
    """Flat faces whose mouths follow the landmarks, in drawn colours: (T, 256, 256, 3) uint8.

    `noise_levels` is the standard deviation of the sensor's noise, of 255.
    """
    ground, skin, lips, mouth = (tuple(colour) for colour in random.integers(40, 216, (4, 3)).tolist())
    noise_K = [random.normal(0, noise_levels, (CROP_PX, CROP_PX, 1)).astype(np.float32) for _ in range(8)]
    frames = []
    for number, face_N2 in enumerate(landmarks_TN3[..., :2]):
        picture = Image.new("RGB", (CROP_PX, CROP_PX), ground)
        draw = ImageDraw.Draw(picture)
        draw.ellipse([*(face_N2.min(0) - 4).tolist(), *(face_N2.max(0) + 4).tolist()], fill=skin)
        for ring, colour in ((OUTER_LIP, lips), (INNER_LIP, mouth)):
            draw.polygon([tuple(point) for point in face_N2[ring].tolist()], fill=colour)
        frames.append((np.asarray(picture) + noise_K[number % 8]).astype(np.uint8))
    return np.stack(frames)


# Shards ----------------------------------------------------------------------------------------------

Sample = tuple[str, dict[str, Any], dict[str, bytes]]  # split, row of the manifest, members


def sample(
    split: str,
    corpus: str,
    identity: str,
    key: str,
    landmarks_TN3: np.ndarray,
    audio_S: np.ndarray,
    video: bytes | None = None,
) -> Sample:
    """A clip as `write_shards` takes it, with the facts of a video that was easy to extract."""
    frames = len(landmarks_TN3)
    facts = {
        "corpus": corpus,
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
        "pitch_deg": 0.0,
        "yaw_range_deg": 0.0,
        "pitch_range_deg": 0.0,
        "roll_range_deg": 0.0,
        "movement": 0.0,
    }
    data = {
        "landmarks.npy": members.landmarks_npy(landmarks_TN3),
        "audio.wav": members.audio_wav(audio_S),
        "facts.json": members.facts_json(facts),
    }
    if video is not None:
        data["frames.mp4"] = video
    return split, {"key": key, "frames": frames, "facts": facts}, data


def write_shards(folder: Path, samples: Iterable[Sample], per_shard: int, made_by: str) -> None:
    """Shards of clips, `per_shard` each, with a manifest; a frames column where the clips have video."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Any]] = []
    split_of: dict[str, str] = {}
    rest = iter(samples)
    while clips := list(itertools.islice(rest, per_shard)):
        parts.append(_write_shard(folder, len(parts), clips))
        split_of |= {row["key"]: split for split, row, _ in clips}
    table, header = from_parts(parts, {"crop_px": CROP_PX, "fps": FRAME_HZ, "made_by": made_by})
    splits = pa.array([split_of[key] for key in table["key"].to_pylist()])
    manifest_update.save(folder, table.set_column(table.column_names.index("split"), "split", splits), header)


def _write_shard(folder: Path, shard: int, clips: list[Sample]) -> dict:
    """Write a shard's columns; returns its part."""
    columns = COLUMNS if "frames.mp4" in clips[0][2] else COLUMNS[:1]
    places: dict[str, tuple[int, int]] = {}
    for column in columns:
        extensions = [extension for of, extension in MEMBERS.values() if of == column]
        path = tar_path(folder, column, shard)
        with open(path, "wb") as handle, TarWriter(handle, mtime=0, encoder=False) as writer:
            for _, row, data in clips:
                writer.write({"__key__": row["key"], **{extension: data[extension] for extension in extensions}})
        with tarfile.open(path) as tar:
            places |= {info.name: (info.offset_data, info.size) for info in tar}
    for _, row, _ in clips:
        for member, (_, extension) in MEMBERS.items():
            row[f"{member}_offset"], row[f"{member}_size"] = places.get(f"{row['key']}.{extension}", (0, 0))
    described = {column: shards.describe(folder, column, shard) for column in columns}
    return {"shard": shard, "clips": [row for _, row, _ in clips], "columns": described}


def write(folder: Path, files: Path | None, clips: int, frames: int = FRAMES) -> None:
    """Shards of `clips` talkers in `folder`; in `files`, each clip's landmarks and video as files of their own.

    KEY.npy; KEY.mp4, as x264's defaults make it; KEY-as-in-shard.mp4. Without `files` the clips have no video.
    """
    progress = Progress("drawing talkers", clips, "clips")

    def samples() -> Iterator[Sample]:
        for number in range(clips):
            person, random = number // CLIPS_PER_PERSON, np.random.default_rng([7, number])
            face_N2 = outlined(base_face(np.random.default_rng([8, person])))
            landmarks_TN3, audio_S = clip(random, face_N2, gain_px=12, frames=frames)
            key, video = f"{person:04d}-{number:06d}", None
            if files is not None:
                pixels_THW3 = pictures(landmarks_TN3, random, NOISE_LEVELS)
                video = media.encode_frames(pixels_THW3)
                (files / f"{key}.npy").write_bytes(members.landmarks_npy(landmarks_TN3))
                (files / f"{key}-as-in-shard.mp4").write_bytes(video)
                (files / f"{key}.mp4").write_bytes(media.encode_frames(pixels_THW3, codec=DEFAULT_CODEC))
            yield sample("train", "talkers", f"talkers/{person:04d}", key, landmarks_TN3, audio_S, video)
            progress.step()

    if files is not None:
        files.mkdir()
    write_shards(folder, samples(), CLIPS_PER_SHARD, "benchmarks")
    progress.finish()


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
            writer = pq.ParquetWriter(folder / schema.TABLE, table.schema, write_statistics=False)
        writer.write_table(table, row_group_size=schema.GROUP_ROWS)
    assert writer is not None
    writer.close()
    digest = hashlib.sha256()
    with open(folder / schema.TABLE, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    stated = {column: known.header["shards"][0][column] for column in COLUMNS}
    size = (folder / schema.TABLE).stat().st_size
    header = {
        "protocol": known.header["protocol"],
        "shards": [{"shard": shard, **stated} for shard in range(shards_held)],
        "format": schema.FORMAT,
        "table": {"sha256": digest.hexdigest(), "bytes": size, "rows": shards_held * per_shard},
    }
    atomic.write_json(folder / schema.HEADER, header)


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
