"""The demo: people are drawn, then the pipeline runs on their videos (launch/pipeline.py)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launch import commands, pipeline
from launch.commands import Step
from mytalk import command

# Folder of the videos, after which `extract` names the corpus: the version of what `data_pipeline demo` draws.
CORPUS = "drawn-v2"
LAYOUT = ("--layout", "drawn")  # it brings what the truth says of the sounds, which scoring reads


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch demo`."""
    parser = command.parser(
        "python -m launch demo",
        "Draw people who speak, then do as `python -m launch pipeline` does: extract shards, train the four networks, "
        "dub people they never saw, and score it. Interrupted anywhere, the same command continues.",
        "python -m launch demo --out runs/demo",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of all results")
    parser.add_argument("--people", type=int, default=32, help="how many people are drawn")
    parser.add_argument("--clips-per-person", type=int, default=3, help="videos of each")
    parser.add_argument("--seconds", type=float, default=5, help="length of each video, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other people")
    return pipeline.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Draw, and run the pipeline, as far as that is not done."""
    steps = [draw(args), *commands.chain(args, args.out / CORPUS, LAYOUT)]
    # A drawn corpus is trained in minutes: changed settings give the models that they would have given from the start.
    return pipeline.run_all(steps, args, args.out / CORPUS, restart=True, before=installation())


def draw(args: argparse.Namespace) -> Step:
    """Draw the people and their videos."""
    videos = args.out / CORPUS
    people = ("--identities", str(args.people), "--clips-per-identity", str(args.clips_per_person))
    words = ("data_pipeline", "demo", str(videos), *people, "--seconds", str(args.seconds), "--seed", str(args.seed))
    return Step("draw", words, videos / "corpus.json")


def installation() -> list[tuple[str, float]]:
    """How long `make demo` took to install the environment, as a row of the table of times; none where it did not."""
    file = Path(sys.prefix) / ".demo"
    text = file.read_text().strip() if file.is_file() else ""
    return [("install", float(text))] if text else []
