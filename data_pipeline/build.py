"""`python -m data_pipeline build CONFIG`: every corpus of one file to one set of shards, in one command.

extract each corpus -> index them as one manifest -> annotate -> split -> verify: the same commands that a user could
type. Typed on several machines at once, or as a Slurm array, all of them extract, annotate and verify; index and split
are done by one, and the others wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from data_pipeline.annotate import command as annotate
from data_pipeline.extract import command as extract
from data_pipeline.index import command as index
from data_pipeline.shards.table.schema import HEADER
from data_pipeline.split import command as split
from data_pipeline.tasks.board import Board, leaving_on_term
from data_pipeline.tasks.leases import LEASE_S
from data_pipeline.verify import command as verify
from mytalk import atomic, command, config
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, RunAgain, UserError

RECORD = "built.json"  # what OUT was built from, and how many steps are done
TOGETHER = ("annotate", "verify")  # steps that all processes do at once


@dataclass(frozen=True)
class Corpus:
    """A corpus: its name, where its videos are, and options of `extract` as `key: value`, such as `layout: hdtf`."""

    name: str
    videos: str
    layout: str = "folder"
    identity: str | None = None
    pattern: str | None = None
    audio: str | None = None
    licence: str | None = None
    rules: list[str] = field(default_factory=list)  # key=value, after those of all


@dataclass(frozen=True)
class Build:
    """What is built. Lists of options are words of the command of that name, as they would be typed."""

    out: str
    corpora: list[Corpus]
    rules: list[str] = field(default_factory=list)  # key=value of every corpus
    extract: list[str] = field(default_factory=list)  # such as --workers, 8 or --runner, ray
    annotate: list[str] = field(default_factory=list)  # columns and options; none: nothing is annotated
    split: list[str] = field(default_factory=lambda: ["--val", "0.1", "--unseen", "0.2"])
    verify: list[str] = field(default_factory=lambda: ["--decode", "0.05"])  # none: nothing is verified

    def __post_init__(self) -> None:
        names = [corpus.name for corpus in self.corpora]
        if not names or len(set(names)) != len(names) or not all(name and "/" not in name for name in names):
            raise ValueError("corpora: name each corpus once, without /")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline build`."""
    parser = command.parser(
        "python -m data_pipeline build",
        "Everything from videos to shards that can be trained on, from one YAML: extract each corpus, make one\n"
        "manifest over all, annotate, split by person, verify. Stopped at any moment, the same command continues;\n"
        "typed on several machines that share OUT, the commands divide the work. key=value changes the file.",
        "python -m data_pipeline build configs/corpora/two.yaml out=data/two",
    )
    parser.add_argument("config", type=Path, help="YAML; configs/corpora has examples")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="changes of the file, such as out=data/all")
    parser.add_argument("--dry-run", action="store_true", help="print the commands instead of running them")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the steps that are not done; EXIT_NOT_DONE where any of them says so."""
    build = config.load(Build, args.config, args.settings)
    out = Path(build.out)
    steps = extractions(build, out)
    if args.dry_run:
        for name, words in [*[("extract", words) for words in steps], *rest(build, out, build.corpora)]:
            print(shlex.join(("python", "-m", "data_pipeline", name, *words)))
        return EXIT_DONE
    codes = []
    for number, words in enumerate(steps, 1):
        print(f"\n[{number}/{len(steps)} corpora] extract {shlex.join(words)}", flush=True)
        codes.append(typed(extract, words))
    codes.append(_finished(build, out))
    return EXIT_DONE if set(codes) == {EXIT_DONE} else EXIT_NOT_DONE


def extractions(build: Build, out: Path) -> list[list[str]]:
    """The words of `extract` for each corpus."""
    steps = []
    for corpus in build.corpora:
        options = {name: getattr(corpus, name) for name in ("identity", "pattern", "audio", "licence")}
        named = [word for name, value in options.items() if value is not None for word in (f"--{name}", value)]
        layout = ["--layout", corpus.layout, "--corpus", corpus.name]
        words = [corpus.videos, str(out / corpus.name), *build.rules, *corpus.rules]
        steps.append([*words, *layout, *named, *build.extract])
    return steps


def rest(build: Build, out: Path, corpora: Sequence[Corpus]) -> list[tuple[str, list[str]]]:
    """What follows the extractions: name and words of each command."""
    steps = [("index", [str(out), *(str(out / corpus.name) for corpus in corpora)])]
    steps += [("annotate", [str(out), *build.annotate])] if build.annotate else []
    steps += [("split", [str(out), *build.split])]
    share = ["--share", str(out / "verify")]
    steps += [("verify", [str(out), *build.verify, *share])] if build.verify else []
    return steps


def typed(module: ModuleType, words: Sequence[str]) -> int:
    """A command of ours, as if it were typed."""
    return int(module.run(module.arguments().parse_args(list(words))))


def _finished(build: Build, out: Path) -> int:
    """Do what follows the extractions, unless it was done for the very same shards."""
    corpora = [corpus for corpus in build.corpora if (out / corpus.name / HEADER).exists()]
    if not corpora:
        raise UserError(f"no corpus gave a clip; the reasons are in {out}/*/ledger.jsonl")
    digest = _digest(build, out, corpora)
    commands = {"index": index, "annotate": annotate, "split": split, "verify": verify}
    steps = rest(build, out, corpora)
    if _done(out, digest) == len(steps):
        print(f"built    {out}: nothing has changed")
        return EXIT_DONE
    with leaving_on_term(), Board(out / "tasks", lambda n: False, set, LEASE_S) as board:
        for number, (name, words) in enumerate(steps, 1):
            at_once = name in TOGETHER
            with contextlib.nullcontext() if at_once else board.alone("build"):
                if _done(out, digest) >= number:
                    continue
                print(f"\n{name} {shlex.join(words)}", flush=True)
                try:
                    code = typed(commands[name], words)
                except (RunAgain, UserError):
                    if _done(out, digest) >= number:  # others did it, and are rewriting the manifest in the next step
                        continue
                    raise
                if code != EXIT_DONE:
                    return code
                with board.alone("build") if at_once else contextlib.nullcontext():
                    atomic.write_json(out / RECORD, {"built_from": digest, "done": max(number, _done(out, digest))})
    return EXIT_DONE


def _done(out: Path, digest: str) -> int:
    """How many of the steps that follow the extractions are done, for these very shards."""
    try:
        record = json.loads((out / RECORD).read_text())
    except FileNotFoundError:
        return 0
    return int(record.get("done", 0)) if record.get("built_from") == digest else 0


def _digest(build: Build, out: Path, corpora: Sequence[Corpus]) -> str:
    """Changes with the config and with the shards of any corpus."""
    stated: dict[str, Any] = {**config.to_dict(build), "extract": []}  # workers change nothing
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    for corpus in corpora:
        digest.update((out / corpus.name / HEADER).read_bytes())
    return digest.hexdigest()
