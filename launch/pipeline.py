"""One command from a folder of videos to a report: shards, four trained networks, dubbed unseen people, scores.

Every step is a command that a user could type. This file runs them in order, records how long each took, and skips
those that are done. Interrupted anywhere, the same command continues with the step it was in.
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
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mytalk import atomic, command, config
from mytalk.command import ERROR_FILE, EXIT_DONE, EXIT_INTERRUPTED, UserError
from mytalk.progress import clock

RECIPES = ("identity", "syncnet", "motion", "appearance")  # in this order: motion reads what identity exports
SIZES = ("demo", "paper")
SET_BY_PIPELINE = ("shards", "run", "identity")
BENCHMARK_PROCESSES, CLIPS_PER_PERSON = 2, 2
RECORD = "budget.json"  # of each step: its seconds, and the digests it was begun and done with


@dataclass(frozen=True)
class Step:
    """One command, `python -m WORDS`, and the file that exists once it has succeeded."""

    name: str
    words: tuple[str, ...]
    result: Path
    reads: tuple[Path, ...] = ()  # settings files, and folders of videos
    run: Path | None = None  # the run folder of a training
    processes: int = 1

    def typed(self) -> tuple[str, ...]:
        """The words after `python -m`, with the launcher where several processes share the step."""
        if self.processes == 1:
            return self.words
        return ("launch", "local", "--processes", str(self.processes), "--", *self.words)

    def digest(self, before: str) -> str:
        """Changes with the command, what it reads, and the digest of the step before; not with the processes."""
        digest = hashlib.sha256(json.dumps([before, *self.words]).encode())
        for path in self.reads:
            digest.update(path.read_bytes() if path.is_file() else json.dumps(listing(path)).encode())
        return digest.hexdigest()


def listing(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes of the files below a folder, sorted; without hidden ones. Links to folders are followed once."""
    files, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        paths = [] if real in seen else [Path(parent, name) for name in names if not name.startswith(".")]
        files += [(str(path.relative_to(folder)), path.stat().st_size) for path in paths if path.is_file()]
        seen.add(real)
    return sorted(files)


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch pipeline`."""
    parser = command.parser(
        "python -m launch pipeline",
        "From a folder of videos to a report: extract shards, split people, train the four networks, dub people they "
        "never saw, and score it. Interrupted anywhere, the same command continues. Videos added to VIDEOS later are "
        "extracted as well. A setting key=value goes to all four trainings, RECIPE.key=value to one of them; RECIPE "
        f"is one of {', '.join(RECIPES)}.",
        "python -m launch pipeline videos/mine runs/mine steps=400 motion.steps=2000 motion.model.width=256",
    )
    parser.add_argument(
        "videos",
        type=Path,
        metavar="VIDEOS",
        help="folder of videos: VIDEOS/PERSON/*.mp4, or flat; or the YAML of several corpora (data_pipeline build)",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of all results")
    parser.add_argument("--corpus", metavar="NAME", help="name of the corpus (default: the name of VIDEOS)")
    parser.add_argument(
        "--identity",
        choices=("first", "parent"),
        help="which folder names the person, where videos lie deeper than one: the first below VIDEOS or the one "
        "that holds the video",
    )
    parser.add_argument(
        "--layout", metavar="NAME", help="how the corpus is laid: `data_pipeline extract --help` has the names"
    )
    return add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what `pipeline` and `demo` share."""
    parser.add_argument("--size", choices=SIZES, default=SIZES[0], help="settings in configs/SIZE (default: demo)")
    parser.add_argument("--configs", type=Path, metavar="FOLDER", help="folder of other settings, RECIPE.yaml each")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help=f"processes of each training and of the benchmark (default: 1, and {BENCHMARK_PROCESSES})",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands instead of running them")
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="settings of the trainings: [RECIPE.]key=value"
    )
    # Settings may also follow options, where parse_args would refuse them.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the steps that are not done, then print the table of times and where to look."""
    if is_config(args.videos) and (named := extract_options(args)):
        raise UserError(f"{args.videos} says how its corpora lie; leave {named[0]} out")
    if not (args.videos.is_dir() or is_config(args.videos)):
        raise UserError(f"no folder {args.videos}; name a folder of videos, or the YAML of corpora")
    if args.out.resolve().is_relative_to(args.videos.resolve()):
        raise UserError(f"{args.out} lies inside {args.videos}, so dubbed videos would be extracted; name another OUT")
    return run_all(chain(args, args.videos, extract_options(args)), args, args.videos)


def extract_options(args: argparse.Namespace) -> tuple[str, ...]:
    """The options that `extract` gets."""
    named = {"--corpus": args.corpus, "--identity": args.identity, "--layout": args.layout}
    return tuple(word for option, value in named.items() if value is not None for word in (option, value))


def chain(args: argparse.Namespace, videos: Path, extract_options: tuple[str, ...] = ()) -> list[Step]:
    """The steps from videos to the report, in order. Raises UserError where options or settings are wrong."""
    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes must be at least 1, not {args.processes}")
    configs = args.configs or Path("configs", args.size)
    for recipe in RECIPES:
        if not (configs / f"{recipe}.yaml").is_file():
            raise UserError(f"no {configs}/{recipe}.yaml; type the command in the folder of the checkout")
    return [
        *extraction(videos, args.out / "shards", extract_options),
        *trainings(args.out, configs, settings_of(args.settings), args.processes or 1),
        benchmark(args.out, args.processes or BENCHMARK_PROCESSES),
    ]


def is_config(videos: Path) -> bool:
    """Whether this is the YAML of a build."""
    return videos.suffix in (".yaml", ".yml") and videos.is_file()


def extraction(videos: Path, shards: Path, extract_options: Sequence[str] = ()) -> list[Step]:
    """From a folder of videos, or the corpora of a YAML, to split shards."""
    manifest = shards / "manifest.json"
    if is_config(videos):
        words = ("data_pipeline", "build", str(videos), f"out={shards}")
        return [Step("build", words, manifest, (videos, *folders_of(videos)))]
    extract = ("data_pipeline", "extract", str(videos), str(shards), *extract_options)
    split = ("data_pipeline", "split", str(shards))
    return [Step("extract", extract, manifest, (videos,)), Step("split", split, manifest)]


def folders_of(build: Path) -> list[Path]:
    """The folders of videos that a build reads, so that new videos in them are noticed; URLs are left out."""
    try:
        corpora = config.read_yaml(build).get("corpora", [])
        named = [Path(corpus["videos"]) for corpus in corpora]
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{build}: no list of corpora with videos; configs/corpora has examples") from None
    return [folder for folder in named if folder.is_dir()]


def trainings(out: Path, configs: Path, settings: dict[str, list[str]], processes: int) -> list[Step]:
    """The four trainings; motion uses the identity encoder."""
    steps = []
    for recipe in RECIPES:
        identity = [f"identity={model(out, 'identity')}"] if recipe == "motion" else []
        own = [*identity, *settings[recipe]]
        steps.append(training(recipe, configs, out / "shards", out / recipe, own, processes))
    return steps


def training(
    recipe: str, configs: Path, shards: Path, run: Path, settings: Sequence[str] = (), processes: int = 1
) -> Step:
    """A recipe trained on `shards` into the run folder `run`, with the settings of `configs` and then these."""
    config = configs / f"{recipe}.yaml"
    words = ("train", recipe, "--config", str(config), f"shards={shards}", f"run={run}", *settings)
    return Step(f"train {recipe}", words, run / "model" / "config.json", (config,), run, processes)


def benchmark(out: Path, processes: int) -> Step:
    """Dub unseen people with the four models, and measure the videos."""
    models = [word for recipe in RECIPES for word in (f"--{recipe}", str(model(out, recipe)))]
    options = ("--shards", str(out / "shards"), "--clips-per-person", str(CLIPS_PER_PERSON))
    folder = out / "benchmark"
    words = ("eval", "benchmark", *models, *options, "--out", str(folder), "--force")
    return Step("benchmark", words, folder / "report.json", processes=processes)


def model(out: Path, recipe: str) -> Path:
    """The folder of the model that a recipe's training exports."""
    return out / recipe / "model"


def settings_of(typed: Iterable[str]) -> dict[str, list[str]]:
    """Each recipe's settings from [RECIPE.]key=value, its own after those of all, so that they win.

    Raises UserError for what is no setting, and for keys that the pipeline itself sets.
    """
    shared: list[str] = []
    own: dict[str, list[str]] = {recipe: [] for recipe in RECIPES}
    for setting in typed:
        recipe, dot, rest = setting.partition(".")
        key_and_value = rest if dot and recipe in RECIPES else setting
        key, equals, _ = key_and_value.partition("=")
        if not equals or not key:
            raise UserError(f"'{setting}' is not a setting; write key=value, for example steps=100 or motion.steps=100")
        if key in SET_BY_PIPELINE:
            raise UserError(f"'{setting}' cannot be set: the pipeline itself sets {', '.join(SET_BY_PIPELINE)}")
        (shared if key_and_value is setting else own[recipe]).append(key_and_value)
    return {recipe: shared + own[recipe] for recipe in RECIPES}


def run_all(
    steps: Sequence[Step],
    args: argparse.Namespace,
    videos: Path,
    restart: bool = False,
    before: Sequence[tuple[str, float]] = (),
) -> int:
    """Run the steps that are not done and print the results, or print the commands (--dry-run).

    `restart` as for `run_steps`. `before` are rows of the table of times: names and seconds.
    """
    if args.dry_run:
        print("\n".join(shell_line(step) for step in steps))
        return EXIT_DONE
    code = checked(steps, args.out)
    if code == EXIT_DONE:
        code = run_steps(steps, args.out, restart)
    if code == EXIT_DONE:
        print_times([*before, *seconds_of(steps, args.out)])
        print_results(args.out, videos)
    return code


def checked(steps: Sequence[Step], out: Path) -> int:
    """Ask `train check` of the trainings that are not done, before any work; the exit code.

    What is not installed, or a wrong setting, would else be told after hours.
    """
    record = out / RECORD
    budget: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
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
    record = out / RECORD
    budget: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    digest = ""
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


def seconds_of(steps: Sequence[Step], out: Path) -> list[tuple[str, float]]:
    """Rows of the table of times: what `run_steps` recorded of each step."""
    budget = json.loads((out / RECORD).read_text())
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


def shell_line(step: Step) -> str:
    """The command as it would be typed."""
    return shlex.join(("python", "-m", *step.typed()))


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


def print_times(rows: Sequence[tuple[str, float]]) -> None:
    """Where the time went, interruptions added up."""
    print("\nstep                 time")
    for name, seconds in [*rows, ("total", sum(seconds for _, seconds in rows))]:
        print(f"{name:<17} {clock(seconds):>7}")


def print_results(out: Path, videos: Path) -> None:
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
    print(f"videos     {videos}, dubbed ones in {folder / 'videos'}")
    print(f"report     {folder / 'report.html'}")
    print(f"           {folder / 'report.json'}")
