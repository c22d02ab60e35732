"""`python -m eval score`: how well landmarks generated for unseen people follow their speech.

Writes OUT/report.json (see eval/report.py), OUT/clips.jsonl with every clip's scores, and OUT/openings.png.
The same command, typed again, continues; under `torchrun -m eval score ...` the processes share the clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.shards.manifest import Manifest
from eval import options, plan, protocol, records, report, summary, work
from mytalk import atomic, command

PICTURE = "openings.png"


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = "python -m eval score --shards shards --model runs/motion/model --out runs/scores"
    made = command.parser("python -m eval score", __doc__, example)
    made.add_argument("--model", type=Path, required=True, help="folder of a motion model")
    return options.add(made)


def run(args: argparse.Namespace) -> int:
    """Score, or find it done; print the table and the gate."""
    settings = options.settings(args)
    manifest = Manifest.load(args.shards)
    tasks = plan.tasks(manifest, settings)
    belongs = {
        "protocol": protocol.block(protocol.kind(args.model), manifest, settings, tasks),
        "digests": protocol.digests(manifest, {"": ("motion", args.model)}),
    }
    job = work.Job("score", args.out, tasks, belongs, beside=(PICTURE,), force=args.force)
    foreign = work.foreign(job)
    made = None if foreign else report.read(args.out)
    if made is None:
        made = _score_all(job, manifest, settings, args.model)
    return options.conclude(made, args, report.NAME)


def _score_all(job: work.Job, manifest: Manifest, settings: plan.Settings, model_folder: Path):
    def scorer(device) -> work.Scorer:
        from eval import clip
        from mytalk.networks.motion import load_model

        model = load_model(model_folder, device)
        return lambda task: clip.score(manifest, settings, task, model)

    def finish(scores: dict[str, records.ClipScore], environment: dict[str, str]) -> None:
        _write_picture(job.out, list(scores.values()))
        report.write(job.out, summary.build(job.belongs, job.tasks, scores, environment))

    work.run(job, scorer, finish)
    made = report.read(job.out)
    assert made is not None, "the first process wrote it"
    return made


def _write_picture(out: Path, scores: list[records.ClipScore]) -> None:
    from eval import pictures

    shown = [score for score in scores if score.openings_px]
    if shown:
        with atomic.file(out / PICTURE) as handle:
            pictures.openings(shown).save(handle, format="PNG")
