"""Runs steps in order, those that are done left out, and records how long each took.

Interrupted anywhere, the same steps continue with the one that was begun.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.commands import Step, shell_line
from mytalk import atomic
from mytalk.command import ERROR_FILE, EXIT_DONE, EXIT_INTERRUPTED

RECORD = "budget.json"  # of each step: its seconds, and the digests it was begun and done with


def checked(steps: Sequence[Step], out: Path) -> int:
    """Ask `train check` of the trainings that are not done, before any work; the exit code.

    What is not installed, or a wrong setting, would else be told after hours.
    """
    budget = recorded(out)
    trainings = [step for step in steps if step.run is not None]
    if all("done" in budget.get(step.name, {}) for step in trainings):
        return EXIT_DONE
    code, _, _ = timed(("train", "check", *(shlex.join(step.words[1:]) for step in trainings)))
    if code != EXIT_DONE:
        print("\nnothing was begun; the same command starts when that is mended")
    return code


def run_steps(steps: Sequence[Step], out: Path, restart: bool = False) -> int:
    """Run the steps that are not done, up to one that fails, and record them in OUT/budget.json; the exit code.

    With `restart`, a training whose settings or data have changed is removed and begun anew; else its own command
    decides: it continues, or refuses the change.
    """
    record, budget, digest = out / RECORD, recorded(out), ""
    for number, step in enumerate(steps, 1):
        digest = step.digest(digest)
        if budget.get(step.name, {}).get("done") == digest and step.result.is_file():
            continue
        spent = seconds_before(step, budget.get(step.name, {}), digest, restart)
        entry: dict[str, Any] = {"seconds": spent, "began": digest}
        budget[step.name] = entry
        atomic.write_json(record, budget)
        print(f"\n[{number}/{len(steps)}] {step.name}: {shell_line(step)}", flush=True)
        code, seconds, message = timed(step.typed())
        entry["seconds"] = round(spent + seconds, 1)
        if code == EXIT_DONE:
            entry["done"] = digest
        atomic.write_json(record, budget)
        if code != EXIT_DONE:
            print(f"\nstopped in '{step.name}' (exit code {code}); {what_to_type(step, message)}")
            return code
    return EXIT_DONE


def recorded(out: Path) -> dict[str, Any]:
    """What OUT/budget.json says of each step, by name."""
    record = out / RECORD
    return json.loads(record.read_text()) if record.is_file() else {}


def seconds_of(steps: Sequence[Step], out: Path) -> list[tuple[str, float]]:
    """Rows of the table of times: what `run_steps` recorded of each step."""
    budget = recorded(out)
    return [(step.name, float(budget[step.name]["seconds"])) for step in steps]


def seconds_before(step: Step, known: dict[str, Any], digest: str, restart: bool) -> float:
    """Seconds already spent on a step that continues; 0 where it begins. Removes a training that is begun anew."""
    interrupted = known.get("began") == digest and "done" not in known
    trained = step.run is not None and step.run.exists()
    if restart and trained and known and not interrupted:
        assert step.run is not None
        print(f"\n{step.run} was trained with other settings or data: removed")
        shutil.rmtree(step.run)
        trained = False
    return float(known["seconds"]) if known and (interrupted or trained) else 0.0


def what_to_type(step: Step, message: str) -> str:
    """How to continue after a step that ended with this error message (empty: it was stopped)."""
    if "identity_loss=0" in message:
        return "to train without the identity encoder's loss, add motion.identity_loss=0 to the same command"
    if "run=..." in message:
        return f"the same command continues; to train it anew, remove {step.run} before"
    return "the same command continues"


def timed(words: Sequence[str]) -> tuple[int, float, str]:
    """Run `python -m WORDS`: exit code, wall seconds and error message. TERM and Ctrl-C reach it; it is waited for."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="launch-") as folder:
        error_file = Path(folder, "error.json")
        # Threads that spin while they wait make a busy machine three times slower (docs/log.md).
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, ERROR_FILE: str(error_file)}
        process = subprocess.Popen([sys.executable, "-m", *words], env=environment)
        handler = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the terminal sent it to the child as well
            process.wait()
            code = EXIT_INTERRUPTED
        finally:
            signal.signal(signal.SIGTERM, handler)
        message = json.loads(error_file.read_text())["message"] if error_file.is_file() else ""
    return (code if code >= 0 else 128 - code), time.monotonic() - began, message
