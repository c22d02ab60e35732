"""What a network requires of clips: crops and pictures of its size, and the features that it was trained on.

Checked before anything is read. Each refusal is one line that says what to do instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mytalk.command import UserError
from mytalk.face.landmarks import CROP_PX

if TYPE_CHECKING:
    from data_pipeline.shards.manifest import Manifest


def refuse_other_crops(manifest: Manifest, rows: Sequence[int] | np.ndarray) -> None:
    """UserError unless all rows are crops of CROP_PX: the networks know no other size of a face."""
    crop_px = manifest.column("crop_px")[rows]
    wrong = np.flatnonzero(crop_px != CROP_PX)
    if len(wrong):
        raise UserError(
            f"{manifest.folder}: clip {manifest.at(rows[wrong[0]], 'key')} is a crop of {crop_px[wrong[0]]} px and "
            f"training needs {CROP_PX}; extract its videos again, into another folder"
        )


def refuse_small_frames(manifest: Manifest, rows: Sequence[int] | np.ndarray, side_px: int) -> None:
    """UserError where a clip's pictures are smaller than what a network is to paint: none is enlarged for training."""
    sides = manifest.frames_px(rows)
    small = np.flatnonzero(sides < side_px)
    if len(small):
        key, side = manifest.at(rows[small[0]], "key"), int(sides[small[0]])
        raise UserError(
            f"{manifest.folder}: clip {key} has frames of {side} px and model.size_px is {side_px}; extract with "
            f"frames_px={side_px} into another folder, or train with model.size_px={side}"
        )


def refuse_without_frames(manifest: Manifest, rows: Sequence[int] | np.ndarray) -> None:
    """UserError where a clip has no video, as in shards of the motion column alone."""
    without = np.asarray(rows)[manifest.column("video_size")[rows] == 0]
    if len(without):
        key = manifest.at(without[0], "key")
        raise UserError(
            f"{manifest.folder}: training needs frames and clip {key} has none; extract again, leave it "
            "out with where='video_size > 0', or bring them"
        )
    name = manifest.shard_file("frames", int(manifest.column("shard")[rows[0]])).name
    if not manifest.store.exists(name):
        raise UserError(f"{manifest.folder}: training needs frames and {name} is missing; extract again, or bring them")


def refuse_other_features(manifest: Manifest, column: str, features_by: dict[str, Any] | None) -> None:
    """Raises UserError where a column is not there, or holds features by another encoder than a model was trained on.

    `features_by` is what the column of training said of that, None where it said nothing; no column: nothing is asked.
    """
    by = manifest.later(column).get("made_by") if column else None
    if column and features_by is not None and by != features_by:
        by = by if isinstance(by, dict) else {}
        other = ", ".join(
            f"{name} {by.get(name)}, not {wanted}" for name, wanted in features_by.items() if by.get(name) != wanted
        )
        raise UserError(
            f"{manifest.folder}: the model was not trained on features as column '{column}' holds ({other}); write the "
            "column of a copy of the shards with that encoder, or name another model"
        )
