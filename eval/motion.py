"""`python -m eval motion`: how well landmarks generated for unseen people follow their speech.

Writes OUT/report.json (see eval/report/check.py), OUT/clips.jsonl with every clip's scores, and OUT/openings.png.
The same command, typed again, continues; under `torchrun -m eval motion ...` the processes share the clips.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import requirements
from eval import options, parallel, protocol, seen
from eval.report import build, check
from eval.rows import ridge
from eval.score_file import ClipScore
from eval.tasks import Settings, plan_tasks
from mytalk import atomic, command

PICTURE = "openings.png"


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = "python -m eval motion --shards shards --model runs/motion/model --out runs/motion/scores"
    parser = command.parser("python -m eval motion", __doc__, example)
    parser.add_argument("--model", type=Path, required=True, help="folder of a motion model")
    parser.add_argument(
        "--seeds",
        type=options.count,
        default=1,
        help="of each clip's noise; with several, rows of one step and of their mean, and how far they differ "
        "(default: %(default)s)",
    )
    return options.add(parser)


def run(args: argparse.Namespace) -> int:
    """Score, unless it is done; print the table and the gate."""
    settings = options.settings(args, args.model)
    manifest = Manifest.load(args.shards)
    tasks = plan_tasks(manifest, settings)
    whom = seen.refuse(manifest, settings.split, tasks, {"motion": args.model})
    provenance = {
        "protocol": protocol.block(protocol.landmarks(args.model, args.seeds), manifest, settings, tasks, whom),
        "digests": protocol.digests(manifest, settings, {"": ("motion", args.model)}),
    }
    job = parallel.ScoringJob("motion", args.out, tasks, provenance, other_files=(PICTURE,), force=args.force)
    report = None if parallel.other_scores(job) else check.read(args.out)
    if report is None:
        report = _score_all(job, manifest, settings, args.model, args.seeds)
    return options.conclude(report, args, check.NAME)


def _score_all(
    job: parallel.ScoringJob, manifest: Manifest, settings: Settings, model_folder: Path, seeds: int
) -> dict[str, Any]:
    fitted = None if ridge.left_out(manifest, settings) else ridge.fit(manifest)

    def scorer(device) -> parallel.Scorer:
        from eval.rows import landmarks
        from mytalk.networks.motion.files import load_model

        model = load_model(model_folder, device)
        model.guide(settings.guidance, settings.person_guidance)
        requirements.refuse_other_features(manifest, model.column, model.features_by)  # here, not clip by clip
        return lambda task: landmarks.score(manifest, settings, task, model, fitted, seeds)

    def finish(scores: dict[str, ClipScore], environment: dict[str, str]) -> None:
        _write_picture(job.out, list(scores.values()))
        facts = None if fitted is None else fitted.facts
        check.write(job.out, build.build(job.provenance, job.tasks, scores, environment, ridge_facts=facts))

    parallel.run(job, scorer, finish)
    report = check.read(job.out)
    assert report is not None, "the first process wrote it"
    return report


def _write_picture(out: Path, scores: list[ClipScore]) -> None:
    from eval.report import plots

    shown = [score for score in scores if score.openings_px]
    if shown:
        with atomic.file(out / PICTURE) as handle:
            plots.openings_picture(shown).save(handle, format="PNG")
