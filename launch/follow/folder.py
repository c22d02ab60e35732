"""A run folder, read by those who do not train: its steps, checkpoints, starts, ends and restarts.

Everything comes from files that training leaves (docs/training-reference.md); nothing is asked of a process but
whether it is there.
"""

from __future__ import annotations

import json
import re
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mytalk.command import EVENTS, EXIT_DONE, EXIT_RUN_AGAIN, UserError, began

CHECKPOINT = re.compile(r"step-(\d{6,})")
RECENT_STEPS = 100  # over which rates are taken
RECENT_CHECKPOINTS = 10
SILENT_S, SILENT_FLUSHES = 120.0, 3.0  # without a new line for so long, and so many times as long as lines take
TAIL_BYTES = 1 << 20  # of metrics.jsonl
# What files that are not as training leaves them raise: no such key, no number, no mapping, no right to read.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OSError, YAMLError, OmegaConfBaseException)


@dataclass
class Status:
    """Where a run stands. Seconds and rates are of the last steps; None where nothing tells."""

    run: str
    state: str  # finished, running, silent, restarting, stopped, failed, killed, not started, unreadable
    why: str = ""  # of a state that is not running
    step: int = 0
    steps: int = 0
    world_size: int | None = None
    step_s: float | None = None
    examples_per_s: float | None = None
    data_wait: float | None = None  # share of the time
    losses: dict[str, float | None] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    checkpoint: int | None = None  # step of the newest
    checkpoint_age_s: float | None = None
    checkpoint_written_s: float | None = None  # the longest of the last that were written
    eta_s: float | None = None
    skipped_steps: int = 0
    damaged_clips: int = 0
    warnings: int = 0
    starts: int = 0
    restarts: list[dict[str, Any]] = field(default_factory=list)  # time, step, why, world_size


def status(run: Path) -> Status:
    """Where a run stands. UserError for a folder that is no run's, or whose files are not as training leaves them."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run folder: it has no config.yaml; name the folder that run=... named")
    try:
        return _read(run)
    except UNREADABLE as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{run} cannot be read as a run folder ({why}); name one that training made") from error


def _read(run: Path) -> Status:
    config = dict(OmegaConf.to_container(OmegaConf.load(run / "config.yaml")))  # type: ignore[arg-type]
    lines, events = list(_tail(run / "metrics.jsonl")), list(_lines(run / EVENTS))
    steps = [line for line in lines if "keys" in line][-RECENT_STEPS:]
    status = Status(str(run), "not started", steps=int(config["steps"]))
    if steps:
        _rates(status, steps, int(config["global_batch"]))
    status.validation = next((line["validation"] for line in reversed(lines) if "validation" in line), {})
    status.warnings = sum("warning" in line for line in lines)
    status.damaged_clips = len({(row["corpus"], row["key"]) for row in _lines(run / "bad_examples.jsonl")})
    for folder in (run / "checkpoints").glob("step-*"):
        match = CHECKPOINT.fullmatch(folder.name)
        if match and (folder / "checkpoint.json").is_file() and int(match[1]) >= (status.checkpoint or 0):
            status.checkpoint = int(match[1])
            status.checkpoint_age_s = max(0.0, time.time() - (folder / "checkpoint.json").stat().st_mtime)
    written = [event["written_s"] for event in events if event["event"] == "checkpoint"]
    status.checkpoint_written_s = max(written[-RECENT_CHECKPOINTS:], default=None)
    _history(status, events)
    _state(status, run, events, config)
    if status.state in ("running", "silent") and status.step_s is not None:
        status.eta_s = (status.steps - status.step) * status.step_s
    return status


def newest_step(run: Path) -> int:
    """The step of the newest whole checkpoint, or of the finished model; -1 without either, or with storage gone."""
    try:
        names = [path.parent.name for path in (run / "checkpoints").glob("step-*/checkpoint.json")]
        return max([*(int(match[1]) for name in names if (match := CHECKPOINT.fullmatch(name))), _finished(run)])
    except OSError:
        return -1


def _finished(run: Path) -> int:
    """The step of the finished model; -1 without one."""
    return int(_ended(run)["steps"])


def _ended(run: Path) -> dict[str, Any]:
    """What training says of the finished model: for how many `steps`, and the `patience` that ended it before."""
    try:
        return json.loads((run / "finished.json").read_text())
    except FileNotFoundError:
        return {"steps": -1}


def _rates(found: Status, steps: list[dict[str, Any]], global_batch: int) -> None:
    """What the last steps tell. A mean, not a median: slow steps cost time as well."""
    last, seconds = steps[-1], [step["seconds"] for step in steps]
    # The first step of a start includes what is built then.
    counted = seconds[1:] if len(seconds) > 1 else seconds
    found.step, found.step_s = last["step"], statistics.fmean(counted)
    found.examples_per_s = global_batch / found.step_s if found.step_s else None
    found.data_wait = sum(step["wait_s"] for step in steps) / max(sum(seconds), 1e-9)
    found.losses = {k.removeprefix("loss/"): v for k, v in last.items() if k.startswith("loss/") and k.count("/") == 1}
    found.skipped_steps = int(last.get("skipped_steps", 0))


def _history(found: Status, events: list[dict[str, Any]]) -> None:
    """Every start after the first, with why the one before it ended."""
    why = ""
    for event in events:
        if event["event"] == "start":
            found.starts += 1
            found.world_size = event["world_size"]
            if found.starts > 1:
                killed = "killed without a word"
                restart = {"time": event["time"], "step": event["step"], "world_size": event["world_size"]}
                found.restarts.append({**restart, "why": why or killed})
            why = ""
        elif event["event"] in ("end", "restart", "given up"):  # a launcher knows more than the rank that lost its peer
            why = event["reason"]


def _state(found: Status, run: Path, events: list[dict[str, Any]], config: dict[str, Any]) -> None:
    starts = [event for event in events if event["event"] == "start"]
    ended = _ended(run)
    if int(ended["steps"]) >= found.steps:
        found.state, found.step = "finished", found.steps
        return
    if 0 < int(config.get("patience", 0)) <= int(ended.get("patience", 0)):  # as train/run_folder/resume.py has it
        found.state, found.step, found.why = "finished", int(ended["steps"]), "patience ended it"
        return
    if not starts:
        return
    since = events[events.index(starts[-1]) + 1 :]
    if told := [event for event in since if event["event"] in ("end", "restart", "given up")]:
        end = told[-1]
        if end["event"] == "restart":
            found.state, found.why = "restarting", end["reason"]
            return
        stopped = end.get("code") in (EXIT_RUN_AGAIN, EXIT_DONE)
        found.state, found.why = "stopped" if stopped else "failed", end["reason"]
        return
    start = starts[-1]
    if start["host"] == socket.gethostname() and start["began"] and began(start["pid"]) != start["began"]:
        found.state, found.why = "killed", f"process {start['pid']} is gone and has left no word"
        return
    quiet_s = time.time() - max(start["time"], _changed(run / "metrics.jsonl"))
    limit_s = max(SILENT_S, SILENT_FLUSHES * int(config.get("log_every", 1)) * (found.step_s or 0.0))
    found.state = "running"
    if quiet_s > limit_s:
        where = f"process {start['pid']} of {start['host']}"
        found.state, found.why = "silent", f"nothing new for {quiet_s:.0f} s; is {where} alive?"


def _changed(file: Path) -> float:
    return file.stat().st_mtime if file.exists() else 0.0


def _tail(file: Path) -> Iterator[dict[str, Any]]:
    """The lines at the end of a file; a first one that is cut is left out."""
    if file.exists() and file.stat().st_size > TAIL_BYTES:
        with open(file, "rb") as opened:
            opened.seek(-TAIL_BYTES, 2)
            yield from _parsed(opened.read().decode(errors="replace").splitlines()[1:])
    else:
        yield from _lines(file)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from _parsed(file.read_text(errors="replace").splitlines())
    except FileNotFoundError:
        return


def _parsed(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Those that are JSON objects: one may be torn by a kill, or be written now."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
