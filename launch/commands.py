"""The commands from a folder of videos to a report, in order: what each types, reads, and leaves when it is done."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mytalk import config
from mytalk.command import UserError

RECIPES = ("identity", "syncnet", "motion", "appearance")  # in this order: motion reads what identity exports
SET_BY_PIPELINE = ("shards", "run", "identity")
BENCHMARK_PROCESSES, CLIPS_PER_PERSON = 2, 2


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


def shell_line(step: Step) -> str:
    """The command as it would be typed."""
    return shlex.join(("python", "-m", *step.typed()))


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
