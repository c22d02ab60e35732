"""A drawn extraction for `stats`: talkers in shards with facts that vary, a ledger with rejected spans, thumbnails."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import talkers
from data_pipeline.shards import ledger
from data_pipeline.shards.layout import rejected_path
from mytalk import media

LIMIT_PX = 48.0
FRAMES = 50
HOSTILE = "<script>alert(1)</script>\"'&.mp4"


def write(folder: Path, people: int = 4, video: bool = True, older: bool = False) -> Path:
    """Shards of `people` with two clips each, the last with one; in the ledger, two spans too small, one too short, a
    source that is no video, whose name is HOSTILE, and two skipped files. `older`: a ledger without values.

    Faces measure 50, 60, 70 ... px: the first clip is nearly rejected by its limit of 48 px.
    """
    random = np.random.default_rng(3)
    samples, rows = [], []
    for number in range(2 * people - 1):
        person = number // 2
        landmarks_TN3, audio_S = talkers.clip(random, talkers.outlined(talkers.base_face(random)), 12, FRAMES)
        shown = media.encode_frames(talkers.pictures(landmarks_TN3, np.random.default_rng(person))) if video else None
        key = f"p{person}-{number}"
        sample = talkers.sample("train", "drawn", f"drawn/p{person}", key, landmarks_TN3, audio_S, shown)
        sample[1]["facts"]["face_px"] = 50.0 + 10 * number
        samples.append(sample)
        rows.append(_source(f"{key}.mp4", [{"start": 0, "stop": FRAMES, "track": 0, "state": ledger.KEPT}]))
    talkers.write_shards(folder, samples, 4, "tests/helpers/surveyed.py")
    rejected = [_rejected(0, 25, "small_face", 30.0), _rejected(25, 75, "small_face", 46.5)]
    rejected.append({"start": 80, "stop": 90, "track": 1, "state": "too_short", "value": 0.4, "limit": 1.0})
    rows.append(_source("crowd.mp4", rejected, state=ledger.REJECTED, reason="small_face"))
    failed = {"state": ledger.REJECTED, "reason": "unreadable", "message": f"{HOSTILE} is no video"}
    rows.append(_source(HOSTILE, [], **failed))
    if older:
        for row in rows:
            row["spans"] = [{name: span[name] for name in ("start", "stop", "state")} for span in row["spans"]]
    else:
        _write_thumbnails(folder, rejected)
    ledger.write(folder, [{"shard": 0, "sources": rows}], {"notes.txt": "suffix", "b.mp4": "not_readable"})
    settings = {"corpus": "drawn", "min_seconds": 1.0, "max_seconds": 10.0, "min_face_px": LIMIT_PX}
    (folder / "sources.json").write_text(json.dumps({"format": 1, "settings": settings, "sources": []}))
    return folder


def _source(path: str, spans: list[dict[str, Any]], **more: str) -> dict[str, Any]:
    return {"source": path, "identity": "drawn/x", "state": ledger.EXTRACTED, "spans": spans, **more}


def _rejected(start: int, stop: int, rule: str, value: float) -> dict[str, Any]:
    span = {"start": start, "stop": stop, "track": 1, "state": rule, "value": value, "limit": LIMIT_PX}
    return span | {"facts": {"face_px": value, "has_audio": True}, "thumb": f"crowd-{start:06d}-f1.jpg"}


def _write_thumbnails(folder: Path, spans: list[dict[str, Any]]) -> None:
    path = rejected_path(folder, 0)
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for span in spans:
            if "thumb" in span:
                target = io.BytesIO()
                Image.new("RGB", (160, 160), (200, 120, span["start"])).save(target, "JPEG")
                entry = tarfile.TarInfo(span["thumb"])
                entry.size = len(target.getvalue())
                tar.addfile(entry, io.BytesIO(target.getvalue()))
