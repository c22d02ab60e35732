"""Features of the judged frames of every clip and row, kept in OUT/features, and the distances of a report from them.

A Frechet distance is of all clips together, so it cannot be a number of a clip; what it needs of one is written when
the clip is scored, and a continued scoring finds it. Shape suffixes: K frames, D features.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics import perception
from eval.metrics.frechet import Moments, distance
from eval.metrics.metric import Comparison
from mytalk import atomic
from mytalk.command import UserError

FEATURES, TRUTH = "features", "truth"
NAMED = r"[0-9a-f]{32}\.npz"
NAME = "fd@stlpips-vgg"
STATED = {
    "definition": "squared Frechet distance between the Gaussians of a row's frames and of the clips' frames, all "
    "judged frames of all clips together, in the deepest features of the VGG trunk of ST-LPIPS, averaged over places. "
    "Not Inception's features: no FID, and beside published FID it says nothing. With fewer frames than some thousands "
    "it is too large by what few frames cost, for every row alike",
    "unit": "squared distance of features",
    "better": "lower",
}


def save(out: Path, key: str, rows: Mapping[str, Comparison]) -> None:
    """Keep the features of a clip's rows and of its truth, where they were judged. Raises OSError."""
    if any(row.evaluators.perception is None for row in rows.values()):
        return
    arrays = {f"row {name}": row.once(perception.seen)[2] for name, row in rows.items()}
    arrays[TRUTH] = next(iter(rows.values())).once(perception.seen)[1]
    content = io.BytesIO()
    np.savez(content, **arrays)
    path = _path(out, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content.getvalue())


def distances(out: Path, keys: Iterable[str], rows: Iterable[str]) -> dict[str, Any]:
    """A report's `sets`: the distance of every row over the clips `keys`, one clip in memory at a time.

    Empty where nothing was judged, or less than two frames. Raises UserError where a clip's features are gone, or of
    other rows. What it finds is of these scores only where the judge of pictures is one of theirs: ask before calling.
    """
    keys, rows = list(keys), list(rows)
    moments: dict[str, Moments] = {}
    missing = [key for key in keys if not _path(out, key).is_file()]
    if len(missing) == len(keys):
        return {}
    if missing:
        raise UserError(f"{out / FEATURES} lacks the features of {len(missing)} clips; score again with --force")
    names = (TRUTH, *(f"row {row}" for row in rows))
    for key in keys:
        with np.load(_path(out, key), allow_pickle=False) as arrays:
            if not set(names) <= set(arrays.files):
                raise UserError(f"{_path(out, key)} is of other rows; score again with --force")
            for name in names:
                features_KD = arrays[name]
                moments.setdefault(name, Moments(features_KD.shape[1])).add(features_KD)
    frames = moments[TRUTH].count
    if min(each.count for each in moments.values()) < 2:
        return {}
    values = {row: distance(moments[f"row {row}"], moments[TRUTH]) for row in rows}
    return {NAME: {**STATED, "frames": frames, "clips": len(keys), "rows": values}}


def clear(out: Path) -> None:
    """Remove the features of all clips, and nothing else."""
    for path in (out / FEATURES).glob("*.npz"):
        if re.fullmatch(NAMED, path.name):
            path.unlink()
    with contextlib.suppress(OSError):  # not there, or something else is in it
        (out / FEATURES).rmdir()


def _path(out: Path, key: str) -> Path:
    return out / FEATURES / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
