"""Synthetic talkers for tests: shards with a manifest, whose mouths open with the loudness of their speech.

No detector: 478 points, noise shaped by an envelope, and a person's own gain; pictures of them where asked for.
Seconds to make.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw
from webdataset.writer import TarWriter

from data_pipeline.shards import checksums, manifest_update, members, reader
from data_pipeline.shards import writer as shards
from data_pipeline.shards.layout import COLUMNS, MEMBERS, tar_path
from data_pipeline.shards.manifest import Manifest
from mytalk import media
from mytalk.face.landmarks import COUNT, CROP_PX, INNER_LIP, OUTER_LIP, SAMPLES_PER_FRAME
from mytalk.face.region import BELOW_NOSE, JAW

LOWER = [i for ring in (INNER_LIP, OUTER_LIP) for i in ring[11:]]


def base_face(random: np.random.Generator) -> np.ndarray:
    """(478, 2) px: points of a sunflower disc, the lips on two ellipses."""
    n = np.arange(COUNT)
    radius, angle = 80 * np.sqrt((n + 0.5) / COUNT), n * 2.399963
    face = np.stack([128 + radius * np.cos(angle), 120 + radius * np.sin(angle)], axis=-1)
    for ring, width, height in ((OUTER_LIP, 26, 10), (INNER_LIP, 20, 4)):
        around = np.pi + 2 * np.pi * np.arange(len(ring)) / len(ring)
        face[ring] = np.stack([128 + width * np.cos(around), 165 + height * np.sin(around)], axis=-1)
    return face + random.normal(0, 1.5, face.shape)


def outlined(face_N2: np.ndarray) -> np.ndarray:
    """The face with a jaw from cheek to cheek, a line below the nose and level eyes, as a face mesh has them."""
    face_N2, angle = face_N2.copy(), np.linspace(np.pi - 0.2, 0.2, len(JAW))
    face_N2[JAW] = np.stack([128 + 80 * np.cos(angle), 120 + 80 * np.sin(angle)], axis=-1)
    face_N2[BELOW_NOSE] = [[150, 146], [128, 146], [106, 146]]
    face_N2[[33, 263]] = [[92, 100], [164, 100]]
    return face_N2


def clip(random: np.random.Generator, face: np.ndarray, gain_px: float, frames: int):
    """Landmarks (T, 478, 2) and audio (T * 640,) of one clip."""
    knots = random.random(frames // 4 + 3)
    envelope = np.interp(np.arange(frames), np.arange(len(knots)) * 4, knots)
    landmarks = np.repeat(face[None], frames, axis=0)
    landmarks[:, LOWER, 1] += gain_px * envelope[:, None]
    sway = np.cumsum(random.normal(0, 0.3, (frames, 1, 2)), axis=0)
    loudness = np.repeat(envelope, SAMPLES_PER_FRAME)
    audio = 0.3 * loudness * random.standard_normal(len(loudness))
    jitter = random.normal(0, 0.4, landmarks.shape)  # as a detector has
    return landmarks + sway + jitter, np.clip(audio, -1, 1)


def pictures(landmarks_TN2: np.ndarray, person: int) -> np.ndarray:
    """Flat faces whose mouths follow the landmarks, in a person's own colours: (T, 256, 256, 3) uint8."""
    colours = np.random.default_rng([8, person]).integers(40, 216, (4, 3)).tolist()
    ground, skin, lips, mouth = (tuple(colour) for colour in colours)
    shown = []
    for face_N2 in landmarks_TN2:
        picture = Image.new("RGB", (CROP_PX, CROP_PX), ground)
        draw = ImageDraw.Draw(picture)
        draw.ellipse([*(face_N2.min(0) - 4).tolist(), *(face_N2.max(0) + 4).tolist()], fill=skin)
        for ring, colour in ((OUTER_LIP, lips), (INNER_LIP, mouth)):
            draw.polygon([tuple(point) for point in face_N2[ring].tolist()], fill=colour)
        shown.append(np.asarray(picture))
    return np.stack(shown)


def write(
    folder: Path,
    people: dict[str, int],
    clips_each: int = 2,
    frames: int = 40,
    per_shard: int = 3,
    video: bool = False,
    corpora: tuple[str, ...] = ("test",),
) -> Path:
    """Write shards of synthetic talkers. `people` maps a split to how many people it gets.

    `video` writes the frames column as well, of faces with a jaw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    samples = []
    names = [(split, index) for split, count in people.items() for index in range(count)]
    for person, (split, index) in enumerate(names):
        corpus = corpora[person % len(corpora)]
        identity, face = f"{corpus}/{split}{index}", base_face(random)
        face = outlined(face) if video else face
        gain_px = 6 + 10 * random.random()
        for number in range(clips_each):
            length = frames + int(random.integers(0, 9))
            landmarks, audio = clip(random, face, gain_px, length)
            key = f"{split}{index}-{number}"
            facts = {
                "corpus": corpus,
                "source": f"{key}.mp4",
                "identity": identity,
                "start_frame": 0,
                "stop_frame": length,
                "source_fps": 25.0,
                "source_width": 512,
                "source_height": 512,
                "source_sha256": hashlib.sha256(key.encode()).hexdigest(),
                "crop": [0.5, 0.0, 0.0, 0.0, 0.5, 0.0],
                "crop_px": 256,
                "detected_share": 1.0,
                "face_px": 160.0,
                "yaw_deg": 0.0,
                "roll_deg": 0.0,
                "blur": 100.0,
            }
            data = {
                "landmarks.npy": members.landmarks_npy(landmarks),
                "audio.wav": members.audio_wav(audio),
                "facts.json": members.facts_json(facts),
            }
            if video:
                data["frames.mp4"] = media.encode_frames(pictures(landmarks, person))
            samples.append((split, {"key": key, "frames": length, "facts": facts}, data))
    parts = []
    for shard, first in enumerate(range(0, len(samples), per_shard)):
        chunk = samples[first : first + per_shard]
        at: dict[str, tuple[int, int]] = {}
        for column in COLUMNS if video else ("motion",):
            path = tar_path(folder, column, shard)
            extensions = [extension for held, extension in MEMBERS.values() if held == column]
            with open(path, "wb") as handle, TarWriter(handle, mtime=0, encoder=False) as writer:
                for _, row, data in chunk:
                    writer.write({"__key__": row["key"], **{extension: data[extension] for extension in extensions}})
            with tarfile.open(path) as tar:
                at |= {info.name: (info.offset_data, info.size) for info in tar}
        for _, row, _ in chunk:
            for member, (_, extension) in MEMBERS.items():
                place = at.get(f"{row['key']}.{extension}", (0, 0))
                row[f"{member}_offset"], row[f"{member}_size"] = place
        held = COLUMNS if video else ("motion",)
        described = {column: shards.describe(folder, column, shard) for column in held}
        parts.append({"shard": shard, "clips": [row for _, row, _ in chunk], "columns": described})
    table, header = manifest_update.from_parts(
        parts, {"crop_px": 256, "fps": 25, "made_by": "tests/helpers/talkers.py"}
    )
    split_of = {row["key"]: split for split, row, _ in samples}
    splits = pa.array([split_of[key] for key in table["key"].to_pylist()])
    table = table.set_column(table.column_names.index("split"), "split", splits)
    manifest_update.save(folder, table, header)
    return folder


def overwrite(manifest: Manifest, row: int, landmarks_TN2: np.ndarray) -> None:
    """Put other landmarks into a clip's place in its shard."""
    path, offset, size = reader.landmarks_range(manifest, row, 0, len(landmarks_TN2))
    data = landmarks_TN2.astype("<f2").tobytes()
    assert len(data) == size
    with open(path, "r+b") as handle:
        handle.seek(offset)
        handle.write(data)
    checksums.write(path, path.with_suffix(".crc"))
