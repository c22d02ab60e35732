"""Synthetic talkers for tests: shards with a manifest, whose mouths open with the loudness of their speech.

No detector: 478 points, noise shaped by an envelope, and a person's own gain; pictures of them where asked for.
Seconds to make.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.talkers import LOWER, Sample, base_face, clip, outlined, pictures, sample, turned, write_shards
from data_pipeline.shards import checksums
from data_pipeline.shards.layout import FRAMES_PX
from data_pipeline.shards.manifest import Manifest
from mytalk import media
from mytalk.face.landmarks import CROP_PX
from tests.helpers.manifests import place_of

__all__ = ["LOWER", "base_face", "clip", "outlined", "overwrite", "pictures", "turned", "write"]


def write(
    folder: Path,
    people: dict[str, int],
    clips_each: int = 2,
    frames: int = 40,
    per_shard: int = 3,
    video: bool = False,
    corpora: tuple[str, ...] = ("test",),
    frames_px: int = CROP_PX,
) -> Path:
    """Write shards of synthetic talkers. `people` maps a split to how many people it gets.

    `video` writes the frames column as well, of faces with a jaw, enlarged to `frames_px`.
    """
    random = np.random.default_rng(7)
    names = [(split, index) for split, count in people.items() for index in range(count)]

    def samples() -> Iterator[Sample]:
        for person, (split, index) in enumerate(names):
            corpus, face_N3 = corpora[person % len(corpora)], base_face(random)
            face_N3 = outlined(face_N3) if video else face_N3
            gain_px = 6 + 10 * random.random()
            for number in range(clips_each):
                length = frames + int(random.integers(0, 9))
                landmarks_TN3, audio_S = clip(random, face_N3, gain_px, length)
                key, shown = f"{split}{index}-{number}", None
                if video:
                    frames_THW3 = pictures(landmarks_TN3, np.random.default_rng([8, person]))
                    size = (frames_px, frames_px)
                    shown = media.encode_frames([cv2.resize(frame_HW3, size) for frame_HW3 in frames_THW3])
                made = sample(split, corpus, f"{corpus}/{split}{index}", key, landmarks_TN3, audio_S, shown)
                if frames_px != CROP_PX:
                    made[1]["facts"][FRAMES_PX] = frames_px
                yield made

    write_shards(folder, samples(), per_shard, "tests/helpers/talkers.py")
    return folder


def overwrite(manifest: Manifest, row: int, landmarks_TN3: np.ndarray) -> None:
    """Put other landmarks into a clip's place in its shard."""
    path, offset, size = place_of(manifest, row, "landmarks", 0, len(landmarks_TN3))
    data = landmarks_TN3.astype("<f2").tobytes()
    assert len(data) == size
    with open(path, "r+b") as handle:
        handle.seek(offset)
        handle.write(data)
    checksums.write(path, path.with_suffix(".crc"))
