"""The demo: drawn talkers -> shards -> a motion model -> its score on people it never saw.

Every step is a command that a user could type; this file types them in order, keeps the time, and knows
which are done. Interrupted anywhere, the same command goes on with the step it was in.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mytalk import atomic, command
from mytalk.command import EXIT_DONE, EXIT_INTERRUPTED, UserError
from mytalk.progress import clock

CONFIG = "configs/demo/motion.yaml"


@dataclass(frozen=True)
class Step:
    """One command of the chain, and the file that is there once it has ended well."""

    name: str
    words: tuple[str, ...]
    proof: Path
    reads: tuple[Path, ...] = ()

    def digest(self, before: str) -> str:
        """Changes with the command, the files of settings that it reads, and the digest of the step before."""
        made = hashlib.sha256(json.dumps([before, *self.words]).encode())
        for path in self.reads:
            made.update(path.read_bytes())
        return made.hexdigest()


def steps(out: Path, people: int, clips: int, seconds: float, seed: int, config: Path) -> list[Step]:
    """The chain, in order."""
    videos, shards, motion, scores = (out / name for name in ("videos", "shards", "motion", "scores"))
    drawn = ("--identities", str(people), "--clips-per-identity", str(clips), "--seconds", str(seconds))
    draw = (*drawn, "--seed", str(seed))
    train = ("--config", str(config), f"shards={shards}", f"run={motion}")
    score = ("--shards", str(shards), "--model", str(motion / "model"), "--out", str(scores), "--force")
    return [
        Step("draw", ("data_pipeline", "demo", str(videos), *draw), videos / "corpus.json"),
        Step("extract", ("data_pipeline", "extract", str(videos), str(shards)), shards / "manifest.json"),
        Step("split", ("data_pipeline", "split", str(shards)), shards / "manifest.json"),
        Step("train motion", ("train", "motion", *train), motion / "model" / "config.json", (config,)),
        Step("score", ("eval", "score", *score), scores / "report.json"),
    ]


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch demo`."""
    made = command.parser(
        "python -m launch demo",
        "Draw talkers, extract shards, train the motion model, score it on people it never saw. "
        "Interrupted anywhere, the same command continues.",
        "python -m launch demo --out runs/demo",
    )
    made.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of everything it makes")
    made.add_argument("--people", type=int, default=32, help="how many people are drawn")
    made.add_argument("--clips-per-person", type=int, default=3)
    made.add_argument("--seconds", type=float, default=5, help="length of a clip")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--config", type=Path, default=Path(CONFIG), help="settings of the training")
    return made


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print the table of times and where to look."""
    if not args.config.is_file():
        raise UserError(f"{args.config} is not here; run the demo from the folder of the checkout")
    chain = steps(args.out, args.people, args.clips_per_person, args.seconds, args.seed, args.config)
    record = args.out / "budget.json"
    budget: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    digest = ""
    for number, step in enumerate(chain, 1):
        known, digest = budget.get(step.name, {}), step.digest(digest)
        if known.get("done") == digest and step.proof.is_file():
            continue
        typed = ("python", "-m", *step.words)
        print(f"\n[{number}/{len(chain)}] {step.name}: {shlex.join(typed)}", flush=True)
        code, seconds = timed(step.words)
        spent = seconds + (known.get("seconds", 0.0) if "done" not in known else 0.0)
        entry: dict[str, Any] = {"seconds": round(spent, 1)}
        if code == EXIT_DONE:
            entry["done"] = digest
        budget[step.name] = entry
        atomic.write_json(record, budget)
        if code != EXIT_DONE:
            print(f"\nthe demo stopped in '{step.name}' (exit code {code}); the same command continues")
            return code
    print_table(chain, budget)
    print_where(args.out)
    return EXIT_DONE


def timed(words: tuple[str, ...]) -> tuple[int, float]:
    """Run `python -m WORDS`; its exit code and wall seconds. TERM and Ctrl-C reach it, and are waited out."""
    began = time.monotonic()
    # Threads that spin while they wait make a busy machine three times slower (docs/log.md).
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    process = subprocess.Popen([sys.executable, "-m", *words], env=environment)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal sent it to the child as well
        process.wait()
        code = EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return (code if code >= 0 else 128 - code), time.monotonic() - began


def print_table(chain: list[Step], budget: dict[str, Any]) -> None:
    """Where the time went, interruptions added up."""
    rows = [(step.name, budget[step.name]["seconds"]) for step in chain]
    installed = Path(sys.prefix) / ".demo"
    total = sum(seconds for _, seconds in rows)
    print("\nstep              time")
    if installed.is_file() and installed.read_text().strip():
        print(f"{'(install)':<14} {clock(float(installed.read_text())):>7}")
    for name, seconds in rows:
        print(f"{name:<14} {clock(seconds):>7}")
    print(f"{'total':<14} {clock(total):>7}  without installation")


def print_where(out: Path) -> None:
    """The result in one table, and the files to look at."""
    report = json.loads((out / "scores" / "report.json").read_text())
    passed = "holds" if report["gate"]["passed"] else "FAILS"
    print("\nopening correlation on people never seen in training (1 is the truth, 0 knows nothing):")
    for name, metrics in report["methods"].items():
        value = metrics["opening_correlation"]
        interval = value["ci95"]
        shown = f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "(one person: no interval)"
        print(f"  {name:<16} {value['mean']:5.2f} {shown}  n = {value['n']} of {value['total']} people")
    print(f"the gate {passed}: mytalk's interval lies above the others'")
    print(f"\nlook at    {out / 'scores' / 'openings.png'}, {out / 'scores' / 'report.json'}")
    print(f"videos     {out / 'videos'}/p000/c00.mp4")
    print(f"curves     {sys.executable} -m tensorboard.main --logdir {out / 'motion' / 'tensorboard'}")
