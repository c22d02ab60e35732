"""The annotation `quality`: how much detail a clip's faces hold, and how much of them a codec left as it was.

Shape suffixes: T frames, N landmarks, H height, W width, 3 = RGB or (x, y, z).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.annotate.annotation import Measure, Options, nothing_to_join
from data_pipeline.shards import picture_facts, reader, video_reader
from data_pipeline.shards.facts import ClipData
from data_pipeline.shards.manifest import Manifest

COLUMNS = {"sharpness_px": pa.float32(), "unchanged_share": pa.float32()}
KEPT: dict[str, pa.DataType] = {}
LOOKS, RUN_FRAMES = 4, 5  # runs of pictures that follow each other
BLOCK_PX, UNCHANGED = 8, 0.5  # grey levels, mean over a block: a sensor's noise changes it by more
join = nothing_to_join


def made_by(options: Options) -> dict[str, Any]:
    """The rules of the measures."""
    return {"looks": LOOKS, "run_frames": RUN_FRAMES, "unchanged": UNCHANGED, "version": 1}


def measure(options: Options) -> Measure:
    """Detail as the size in px that a face needs to hold as much (extraction's `detail_px`), and `unchanged`.

    Both are missing where there are no pictures.
    """

    def of_clip(manifest: Manifest, row: int) -> dict[str, Any]:
        frames = int(manifest.at(row, "frames"))
        if not manifest.at(row, "video_size") or frames < RUN_FRAMES:
            return {}
        starts = np.unique(np.linspace(0, frames - RUN_FRAMES, LOOKS).astype(int) // RUN_FRAMES * RUN_FRAMES)
        indices = (starts[:, None] + np.arange(RUN_FRAMES)).reshape(-1)
        pixels_THW3 = video_reader.read_video(manifest, row, indices.tolist())
        landmarks_TN3 = reader.read_landmarks(manifest, row)[indices]
        firsts = range(0, len(indices), RUN_FRAMES)
        sharp = [sharpness(pixels_THW3[t], landmarks_TN3[t]) for t in firsts]
        runs = [pixels_THW3[t : t + RUN_FRAMES] for t in firsts]
        return {"sharpness_px": float(np.median(sharp)), "unchanged_share": float(np.mean([*map(unchanged, runs)]))}

    return of_clip


def sharpness(picture_HW3: np.ndarray, landmarks_N3: np.ndarray) -> float:
    """`detail_px` of one picture of a crop."""
    as_it_is_23 = np.eye(2, 3)
    return picture_facts.detail_px(ClipData(landmarks_N3[None], np.zeros(0), [picture_HW3], 1.0, crop_23=as_it_is_23))


def unchanged(pixels_THW3: np.ndarray) -> float:
    """Share of the blocks of 8 x 8 px that a picture repeats from the one before: as codecs do that save bits.

    Flat and smoothed pictures repeat theirs too, so it compares clips of one kind, not corpora of several.
    """
    grey_THW = pixels_THW3.astype(np.float32).mean(axis=-1)
    change_THW = np.abs(np.diff(grey_THW, axis=0))
    height, width = (side // BLOCK_PX for side in change_THW.shape[1:])
    blocks = change_THW[:, : height * BLOCK_PX, : width * BLOCK_PX].reshape(-1, height, BLOCK_PX, width, BLOCK_PX)
    return float((blocks.mean(axis=(2, 4)) < UNCHANGED).mean())
