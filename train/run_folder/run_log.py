"""What a run leaves to look at: metrics.jsonl (every step), TensorBoard, the resolved config, progress."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.storage.faults import without_secrets
from mytalk import atomic
from mytalk.command import one_line
from mytalk.progress import Progress

PACKAGES = ("torch", "deepspeed", "numpy", "webdataset", "accelerate")


class RunLog:
    """Metrics, curves and progress of a run. Rank 0 writes; on the others all calls do nothing.

    On resume, what was logged past the checkpoint is dropped, and its validation where it `validates` again. A full
    disk stops no training: lines of metrics wait until they can be written, and TensorBoard goes without.
    """

    def __init__(
        self, run: Path, start_step: int, steps: int, log_every: int, writes: bool = True, validates: bool = False
    ):
        self.run, self.path, self.log_every, self.writes = run, run / "metrics.jsonl", log_every, writes
        self.waiting: list[str] = []  # lines not yet in the file
        self.trouble: OSError | None = None
        self.purge_step: int | None = start_step + 1
        self.writer: Any = None
        self.clock = time.perf_counter()
        if not writes:
            return
        keep_until(self.path, start_step, validates)
        self.progress = Progress("train", steps, "steps", done=start_step)

    def __enter__(self) -> RunLog:
        self.hook = threading.excepthook
        if self.writes:
            threading.excepthook = self._thread_ended
        self._draw()
        self.clock = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self.writes:
            self.flush()
            self._draw(lambda writer: writer.close())
        threading.excepthook = self.hook

    def step(self, step: int, values: dict[str, Any], wait_s: float) -> None:
        """Log one finished step (counted from 1): its values, how long it took, how much of that it waited for data."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        if not self.writes:
            return
        values = {**values, "seconds": seconds, "wait_s": wait_s}
        self.waiting.append(json.dumps({"step": step, **values}) + "\n")
        if step % self.log_every == 0:
            self.flush()
            scalars = {name: value for name, value in values.items() if isinstance(value, float)}
            self._draw(lambda writer: [writer.add_scalar(f"train/{n}", value, step) for n, value in scalars.items()])
        losses = [value for name, value in values.items() if name.startswith("loss/") and name.count("/") == 1]
        self.progress.step(1, "loss " + " ".join("nan" if loss is None else f"{loss:.4f}" for loss in losses))

    def validation(self, step: int, values: dict[str, float], pictures: dict[str, np.ndarray]) -> None:
        """Log scores of unseen people and pictures (H x W x 3, uint8)."""
        self._event(step, "validation", values)

        def draw(writer: Any) -> None:
            for name, value in values.items():
                writer.add_scalar(f"validation/{name}", value, step)
            for name, picture in pictures.items():
                writer.add_image(name, picture, step, dataformats="HWC")
            writer.flush()

        self._draw(draw)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.say(f"validation after step {step}: {shown}")

    def checkpoint(self, step: int, **seconds: float) -> None:
        """Log how long training waited for a checkpoint."""
        self._event(step, "checkpoint", seconds)

    def say(self, line: str) -> None:
        """A line among those of the progress."""
        if self.writes:
            self.progress.say(line)

    def finish(self, note: str = "") -> None:
        """The closing line of the progress."""
        if self.writes:
            self.progress.finish(note)

    def warn(self, step: int, line: str) -> None:
        """A line on stderr that should be read, and kept with the run."""
        if self.writes:
            print(f"warning: {line}", file=sys.stderr, flush=True)
            self._event(step, "warning", {"text": line})

    @contextlib.contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """The time of this block does not count as the next step's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.clock += time.perf_counter() - began

    def flush(self) -> None:
        """Hand the lines that wait to the file. Where it cannot take them they go on waiting."""
        if not self.writes or not self.waiting:
            return
        try:
            atomic.append(self.path, "".join(self.waiting).encode(), sync=False)
        except OSError as error:
            if self.trouble is None:
                print(f"warning: metrics wait to be written: {one_line(error)}", file=sys.stderr, flush=True)
            self.trouble = error
        else:
            self.waiting, self.trouble = [], None

    def sync(self) -> None:
        """Bring what was flushed to disk. Raises OSError where some of it could not even be flushed."""
        if self.writes:
            if self.trouble is not None:
                raise self.trouble
            with open(self.path, "ab") as file:
                os.fsync(file.fileno())

    def _event(self, step: int, name: str, values: dict[str, Any]) -> None:
        if self.writes:
            self.waiting.append(json.dumps({"step": step, name: values}) + "\n")
            self.flush()

    def _thread_ended(self, how: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread; an OSError that ends it is met and reported by the next `_draw`."""
        if not (isinstance(how.exc_value, OSError) and type(how.thread).__name__ == "_AsyncWriterThread"):
            self.hook(how)

    def _draw(self, draw: Callable[[Any], Any] = lambda _: None) -> None:
        """Let TensorBoard draw. After a full disk it goes on in a new file, once there is room."""
        if not self.writes:
            return
        from torch.utils.tensorboard import SummaryWriter

        try:
            if self.writer is None:
                self.writer = SummaryWriter(str(self.run / "tensorboard"), purge_step=self.purge_step)
                self.purge_step = None  # a later writer of this run must not purge this one's events
            draw(self.writer)
        except OSError as error:
            self.writer = None
            print(f"warning: TensorBoard goes without some values: {one_line(error)}", file=sys.stderr, flush=True)


def keep_until(path: Path, step: int, validates: bool = False) -> None:
    """Drop the lines of metrics.jsonl that lie past `step`, and a line torn by a kill.

    The validation of the step itself is dropped too where it comes again.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            logged = json.loads(line)
            again = validates and "validation" in logged and logged["step"] == step
            if logged["step"] <= step and not again:
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
