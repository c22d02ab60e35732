"""The demo: drawn talkers -> shards -> four trained networks -> dubbed videos of people they never saw, scored.

Every step is a command that a user could type; this file types them in order, keeps the time, and knows
which are done. Interrupted anywhere, the same command goes on with the step it was in.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
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

CONFIGS = "configs/demo"
RECIPES = ("identity", "syncnet", "motion", "appearance")  # in this order: motion reads what identity exports
BENCHMARK_PROCESSES, CLIPS_PER_PERSON = 2, 2


@dataclass(frozen=True)
class Step:
    """One command of the chain, and the file that is there once it has ended well."""

    name: str
    words: tuple[str, ...]
    proof: Path
    reads: tuple[Path, ...] = ()
    run: Path | None = None  # folder of a training, which does not go on with other settings: begun anew then

    def digest(self, before: str) -> str:
        """Changes with the command, the files of settings that it reads, and the digest of the step before."""
        made = hashlib.sha256(json.dumps([before, *self.words]).encode())
        for path in self.reads:
            made.update(path.read_bytes())
        return made.hexdigest()


def steps(out: Path, people: int, clips: int, seconds: float, seed: int, configs: Path) -> list[Step]:
    """The chain, in order."""
    videos, shards, report = (out / name for name in ("videos", "shards", "benchmark"))
    model = {recipe: out / recipe / "model" for recipe in RECIPES}
    drawn = ("--identities", str(people), "--clips-per-identity", str(clips), "--seconds", str(seconds))
    chain = [
        Step("draw", ("data_pipeline", "demo", str(videos), *drawn, "--seed", str(seed)), videos / "corpus.json"),
        Step("extract", ("data_pipeline", "extract", str(videos), str(shards)), shards / "manifest.json"),
        Step("split", ("data_pipeline", "split", str(shards)), shards / "manifest.json"),
    ]
    for recipe in RECIPES:
        config = configs / f"{recipe}.yaml"
        words: tuple[str, ...] = ("train", recipe, "--config", str(config), f"shards={shards}", f"run={out / recipe}")
        if recipe == "motion":
            words += (f"identity={model['identity']}",)
        chain.append(Step(f"train {recipe}", words, model[recipe] / "config.json", (config,), out / recipe))
    models = [word for recipe in RECIPES for word in (f"--{recipe}", str(model[recipe]))]
    chosen = ("--shards", str(shards), "--clips-per-person", str(CLIPS_PER_PERSON), "--out", str(report), "--force")
    measure = ("eval", "benchmark", *models, *chosen)
    shared = ("launch", "local", "--processes", str(BENCHMARK_PROCESSES), "--", *measure)
    return [*chain, Step("benchmark", shared, report / "report.json")]


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch demo`."""
    made = command.parser(
        "python -m launch demo",
        "Draw talkers, extract shards, train the four networks, dub people they never saw, and score it. "
        "Interrupted anywhere, the same command continues.",
        "python -m launch demo --out runs/demo",
    )
    made.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of everything it makes")
    made.add_argument("--people", type=int, default=32, help="how many people are drawn")
    made.add_argument("--clips-per-person", type=int, default=3)
    made.add_argument("--seconds", type=float, default=5, help="length of a clip")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--configs", type=Path, default=Path(CONFIGS), help="folder of the four trainings' settings")
    return made


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print the table of times and where to look."""
    for recipe in RECIPES:
        if not (args.configs / f"{recipe}.yaml").is_file():
            raise UserError(f"{args.configs}/{recipe}.yaml is not here; run the demo from the folder of the checkout")
    chain = steps(args.out, args.people, args.clips_per_person, args.seconds, args.seed, args.configs)
    record = args.out / "budget.json"
    budget: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    digest = ""
    for number, step in enumerate(chain, 1):
        known, digest = budget.get(step.name, {}), step.digest(digest)
        if known.get("done") == digest and step.proof.is_file():
            continue
        spent = 0.0
        if known.get("began") == digest and "done" not in known:
            spent = known["seconds"]  # interrupted: it goes on
        elif known and step.run and step.run.exists():
            print(f"\n{step.run} was made with other settings: removed")
            shutil.rmtree(step.run)
        entry: dict[str, Any] = {"seconds": spent, "began": digest}
        budget[step.name] = entry
        atomic.write_json(record, budget)
        typed = ("python", "-m", *step.words)
        print(f"\n[{number}/{len(chain)}] {step.name}: {shlex.join(typed)}", flush=True)
        code, seconds = timed(step.words)
        entry["seconds"] = round(spent + seconds, 1)
        if code == EXIT_DONE:
            entry["done"] = digest
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
    rows = [(step.name, float(budget[step.name]["seconds"])) for step in chain]
    installed = Path(sys.prefix) / ".demo"
    if installed.is_file() and installed.read_text().strip():
        rows.insert(0, ("install", float(installed.read_text())))
    print("\nstep                 time")
    for name, seconds in [*rows, ("total", sum(seconds for _, seconds in rows))]:
        print(f"{name:<17} {clock(seconds):>7}")


def print_where(out: Path) -> None:
    """The result in one table, and the files to look at."""
    folder = out / "benchmark"
    report = json.loads((folder / "report.json").read_text())
    passed = "holds" if report["gate"]["passed"] else "FAILS"
    print(
        "\nmouth opening of dubbed, never seen people against their real one (correlation; 1: the same, 0: unrelated):"
    )
    for name, metrics in report["methods"].items():
        value = metrics["opening_correlation"]
        interval = value["ci95"]
        shown = f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "(one person: no interval)"
        print(f"  {name:<16} {value['mean']:5.2f} {shown}  n = {value['n']} of {value['total']} people")
    print(f"the gate {passed}: mytalk's interval lies above those of shuffled_audio and frozen_mouth")
    print(f"\ncurves     {sys.executable} -m tensorboard.main --logdir {out}")
    print(f"videos     {out / 'videos'}/p000/c00.mp4, dubbed ones in {folder / 'videos'}")
    print(f"report     {folder / 'report.html'}")
    print(f"           {folder / 'report.json'}")
