"""Features of the judged frames of every clip and row, kept in OUT/features, and the distances of a report from them.

A Frechet distance is of all clips together, so it cannot be a number of a clip; what it needs of one is written when
the clip is scored, and a continued scoring finds it. Shape suffixes: K frames, D features.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from eval.metrics import perception
from eval.metrics.frechet import Moments, distance
from eval.metrics.metric import Comparison, SetJudge
from mytalk import atomic
from mytalk.command import UserError

FEATURES, TRUTH = "features", "truth"
NAMED = r"[0-9a-f]{32}\.npz"
NAME = "fd@stlpips-vgg"
FEW = "With fewer than some thousands it is too large by what few cost, for every row alike"
OWN_FILE = "Which network it is only the digest says, and how it was exported and scaled moves it: beside published "


@dataclass(frozen=True)
class SetMeasure:
    """A distance of all clips together: its judge (a field of Evaluators), and what a report says of it."""

    judge: str
    of: str  # what is counted
    definition: str
    features: Callable[[Comparison], tuple[np.ndarray, np.ndarray]]  # of the truth and of the row, (K, D) each


MEASURES = {
    NAME: SetMeasure(
        "perception",
        "frames",
        "squared Frechet distance between the Gaussians of a row's frames and of the clips' frames, all judged frames "
        "of all clips together, in the deepest features of the VGG trunk of ST-LPIPS, averaged over places. Not "
        f"Inception's features: no FID, and beside published FID it says nothing. {FEW}",
        lambda row: row.once(perception.seen)[1:],
    ),
    "fid@inception": SetMeasure(
        "inception",
        "frames",
        "squared Frechet distance between the Gaussians of a row's frames and of the clips' frames, all frames of all "
        "clips together, in the features of the Inception network of the digests, crops scaled bilinearly to 299 px "
        f"(FID, Heusel et al. 2017). {OWN_FILE}FID it says nothing. {FEW}",
        lambda row: _embedded(row, row.evaluators.inception),
    ),
    "fvd@i3d": SetMeasure(
        "i3d",
        "windows of 16 frames",
        "squared Frechet distance between the Gaussians of a row's windows of 16 frames and of the clips', one after "
        "the other, in the features of the I3D network of the digests, crops scaled bilinearly to 224 px (FVD, "
        f"Unterthiner et al. 2018). {OWN_FILE}FVD it says nothing. {FEW}",
        lambda row: _embedded(row, row.evaluators.i3d),
    ),
}


def _embedded(row: Comparison, judge: SetJudge | None) -> tuple[np.ndarray, np.ndarray]:
    assert judge is not None, "asked only where it is there"
    return row.truth.once(judge.embed, lambda: judge.embed(row.truth.frames_THW3)), judge.embed(row.video.frames_THW3)


def save(out: Path, key: str, rows: Mapping[str, Comparison]) -> None:
    """Keep the features of a clip's rows and of its truth, of every judge that is there. Raises OSError."""
    arrays = {}
    for measure in MEASURES.values():
        if all(getattr(row.evaluators, measure.judge) is not None for row in rows.values()):
            for name, row in rows.items():
                truth_KD, arrays[f"{measure.judge} row {name}"] = measure.features(row)
                arrays.setdefault(f"{measure.judge} {TRUTH}", truth_KD)
    if not arrays:
        return
    content = io.BytesIO()
    np.savez(content, **arrays)
    path = _path(out, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content.getvalue())


def distances(
    out: Path, keys: Iterable[str], rows: Iterable[str], no_judge: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """A report's `sets`: the distances of every row over the clips `keys`, one clip in memory at a time.

    Those whose judge is in `no_judge` are left out. Empty where nothing was judged. Raises UserError where a clip's
    features are gone, or of other rows.
    """
    keys, rows = list(keys), list(rows)
    measures = {name: measure for name, measure in MEASURES.items() if measure.judge not in no_judge}
    missing = [key for key in keys if not _path(out, key).is_file()]
    if not measures or len(missing) == len(keys):
        return {}
    if missing:
        raise UserError(f"{out / FEATURES} lacks the features of {len(missing)} clips; score again with --force")
    moments: dict[str, Moments] = {}
    names = [f"{m.judge} {part}" for m in measures.values() for part in (TRUTH, *(f"row {row}" for row in rows))]
    for key in keys:
        with np.load(_path(out, key), allow_pickle=False) as arrays:
            if not set(names) <= set(arrays.files):
                raise UserError(f"{_path(out, key)} is of other rows; score again with --force")
            for name in names:
                features_KD = arrays[name]
                if len(features_KD):
                    moments.setdefault(name, Moments(features_KD.shape[1])).add(features_KD)
    entry_of = {}
    for name, measure in measures.items():
        of = [moments.get(f"{measure.judge} {part}") for part in (TRUTH, *(f"row {row}" for row in rows))]
        each = [one for one in of if one is not None and one.count >= 2]
        if len(each) == len(of):
            values = {row: distance(one, each[0]) for row, one in zip(rows, each[1:], strict=True)}
            stated = {"definition": measure.definition, "unit": "squared distance of features", "better": "lower"}
            entry_of[name] = {**stated, "of": measure.of, "frames": each[0].count, "clips": len(keys), "rows": values}
    return entry_of


def left_out(no_judge: Mapping[str, str]) -> str:
    """The distances without their judge, and what to type, in words."""
    return "; ".join(f"{name}: {no_judge[m.judge]}" for name, m in MEASURES.items() if m.judge in no_judge)


def clear(out: Path) -> None:
    """Remove the features of all clips, and nothing else."""
    for path in (out / FEATURES).glob("*.npz"):
        if re.fullmatch(NAMED, path.name):
            path.unlink()
    with contextlib.suppress(OSError):  # not there, or something else is in it
        (out / FEATURES).rmdir()


def _path(out: Path, key: str) -> Path:
    return out / FEATURES / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
