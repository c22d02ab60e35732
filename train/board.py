"""What a run leaves to look at: metrics.jsonl (every step), TensorBoard, the resolved config, progress."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.store import without_secrets
from mytalk import atomic
from mytalk.progress import Progress

PACKAGES = ("torch", "deepspeed", "numpy", "webdataset", "accelerate")


class Board:
    """Written by rank 0 alone. On resume, what was logged past the checkpoint is dropped."""

    def __init__(self, run: Path, start_step: int, steps: int, log_every: int):
        from torch.utils.tensorboard import SummaryWriter

        self.path, self.log_every = run / "metrics.jsonl", log_every
        keep_until(self.path, start_step)
        self.file = open(self.path, "a")  # noqa: SIM115  closed in __exit__
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=start_step + 1)
        self.progress = Progress("train", steps, "steps", done=start_step)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.writer.close()

    def step(self, step: int, values: dict[str, Any], note: str) -> None:
        """Log one finished step (counted from 1)."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        if step % self.log_every == 0:
            self.file.flush()
            for name, value in values.items():
                if isinstance(value, float):
                    self.writer.add_scalar(f"train/{name}", value, step)
        self.progress.step(1, note)

    def flush(self) -> None:
        """Bring what was logged to disk, before a checkpoint says that these steps are done."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def validation(self, step: int, values: dict[str, float], pictures: dict[str, np.ndarray]) -> None:
        """Log scores of unseen people and pictures (H x W x 3, uint8)."""
        self.file.write(json.dumps({"step": step, "validation": values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.writer.add_scalar(f"validation/{name}", value, step)
        for name, picture in pictures.items():
            self.writer.add_image(name, picture, step, dataformats="HWC")
        self.writer.flush()


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl that lie past `step`, and a line torn by a kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    atomic.write_bytes(path, "".join(kept).encode())


def environment() -> dict[str, Any]:
    """Versions, machine and git commit, so that a run can be traced."""
    commit = ""
    if git := shutil.which("git"):
        asked = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "system": platform.platform(),
        "packages": versions,
        "git_commit": commit or "unknown",
        "command": [without_secrets(word) for word in sys.argv],
    }
