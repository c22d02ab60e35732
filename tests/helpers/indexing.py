"""Tars of others and folders of ours, made for tests of `index` and `column`, and what became of them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from webdataset.writer import TarWriter

from data_pipeline.index import command as index
from data_pipeline.index import merge
from data_pipeline.shards import members, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.split import command as split

THEIRS = {"landmarks": "Lm.npy", "audio": "wav", "video": "mp4", "facts": "meta.json"}
OPTIONS = ["--landmarks", "lm.npy", "--audio", "wav", "--video", "mp4", "--facts", "meta.json"]


def indexed(out: Path, *args: str | Path) -> int:
    """Run the command in this process."""
    return index.run(index.arguments().parse_args([str(out), *map(str, args)]))


def splits(folder: Path, *args: str) -> None:
    assert split.run(split.arguments().parse_args([str(folder), "--val", "0.3", "--unseen", "0.3", *args])) == 0


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def clip(seed: int, frames: int = 30, **facts) -> dict[str, bytes]:
    """Members of a made-up clip under the names of `THEIRS`."""
    random = np.random.default_rng(seed)
    audio = random.uniform(-0.5, 0.5, frames * 640)
    return {
        "lm.npy": members.landmarks_npy(random.uniform(0, 256, (frames, 478, 3))),
        "wav": members.audio_wav(audio),
        "meta.json": json.dumps({"identity": f"p{seed // 2}", **facts}).encode(),
    }


def tar_of(path: Path, samples: list[tuple[str, dict[str, bytes]]], **options) -> Path:
    """A tar as webdataset's own writer makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path), encoder=False, **options) as writer:
        for key, sample in samples:
            writer.write({"__key__": key, **sample})
    return path


def raw_tar(path: Path, files: list[tuple[tarfile.TarInfo | str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return path


def copied(folder: Path, target: Path, video: bool = False, change=lambda facts: facts) -> list[Path]:
    """The clips of our shards in tars of webdataset's ShardWriter, under other names."""
    manifest = Manifest.load(folder)
    target.mkdir(parents=True)
    made = []
    for shard in np.unique(manifest.column("shard")).tolist():
        samples = []
        for row in np.flatnonzero(manifest.column("shard") == shard).tolist():
            read = {m: reader.read_member(manifest, row, m) for m in ("landmarks", "audio", "facts")}
            if video:
                read["video"] = reader.read_member(manifest, row, "video")
            read["facts"] = json.dumps(change(json.loads(read["facts"]))).encode()
            samples.append((str(manifest.at(row, "key")), {THEIRS[m].lower(): data for m, data in read.items()}))
        made.append(tar_of(target / f"theirs-{shard:03d}.tar", samples))
    return made


def ledger_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / merge.LEDGER).read_text().splitlines()]


def reasons(out: Path) -> dict[str, str]:
    return {line["key"]: line.get("reason", "kept") for line in ledger_of(out) if "key" in line}


def state(folder: Path) -> dict[str, tuple]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def alike(one, other) -> None:
    """Batches of equal tensors."""
    assert one.keys_B == other.keys_B
    names = one.tensors()
    assert names
    for name, tensor in names.items():
        assert torch.equal(tensor, getattr(other, name)), name


def doubled(manifest: Manifest, row: int) -> np.ndarray:
    """Two values a frame: the frame's number, and the row."""
    return np.stack([np.arange(manifest.at(row, "frames")), np.full(manifest.at(row, "frames"), row)], axis=1)
