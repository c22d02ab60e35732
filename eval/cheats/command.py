"""`python -m eval cheats`: what each measure of a dubbed video catches, and what it cannot see.

Real clips are made into cheats (a late picture, a mouth that opens too far, a copied mouth under another sound, a still
picture, another person, blur, noise, ...), without any trained generator. Each must lose on the measure meant for it,
and along a ladder of growing damage a measure responds in order or is called insensitive. Writes OUT/cheats.json and
OUT/cheats.md. The same command, typed again, continues; `python -m launch local` shares the clips among processes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.schema import SPLITS
from eval import options, parallel
from eval.cheats import plan, table, text
from eval.judges import load as judges
from eval.metrics import VIDEO_METRICS, evaluators, sync
from eval.metrics.metric import Evaluators
from eval.score_file import ClipScore
from eval.tasks import Settings, plan_tasks
from mytalk import atomic, command, intervals
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError
from mytalk.digest import sha256_of
from mytalk.face import detector
from mytalk.face.landmarks import CROP_PX

FORMAT, NAME, MARKDOWN = 1, "cheats.json", "cheats.md"
SOURCE_FRAMES = 25  # of the person, for measures of identity; a clip of 2 s still has a second to score


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = "python -m eval cheats --shards shards --syncnet runs/syncnet/model --out runs/cheats"
    parser = command.parser("python -m eval cheats", __doc__, example)
    parser.add_argument("--shards", required=True, help="folder or URL of shards with a manifest and frames")
    parser.add_argument("--out", type=Path, required=True, help="folder of the table")
    options.add_evaluators(parser)
    parser.add_argument("--split", default="unseen", help=f"one of {', '.join(SPLITS)} (default: %(default)s)")
    parser.add_argument(
        "--clips-per-person", type=options.count, default=1, help="at most this many (default: %(default)s)"
    )
    parser.add_argument(
        "--people", type=options.count, help="at most so many people, the first of the manifest (default: all)"
    )
    parser.add_argument("--frames", type=options.count, help="score at most so many frames of a clip (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of noise and pairings (default: %(default)s)")
    parser.add_argument("--ladders", action=argparse.BooleanOptionalAction, default=True, help="calibrate as well")
    parser.add_argument("--force", action="store_true", help="replace what OUT holds of other data or judges")
    parser.add_argument("--require-caught", action="store_true", help="exit code 1 where a judged cheat is not caught")
    detector.add_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Score, unless it is done; print the table."""
    settings = Settings(
        args.split,
        seed=args.seed,
        source_frames=SOURCE_FRAMES,
        clips_per_person=args.clips_per_person,
        frames=args.frames,
    )
    manifest = Manifest.load(args.shards)
    tasks = plan_tasks(manifest, settings)
    people = list(dict.fromkeys(task.person for task in tasks))[: args.people]
    tasks = [task for task in tasks if task.person in people]
    crops = {int(manifest.at(task.scored.row, "crop_px")) for task in tasks}
    if crops != {CROP_PX}:
        raise UserError(f"{args.shards}: cheats are made of crops of {CROP_PX} px; extract again with that size")
    folders = {name: folder for name in options.EVALUATORS if (folder := getattr(args, name)) is not None}
    no_judge = judges.missing()
    used = [name for name in judges.JUDGES if name not in no_judge]
    refused, rows = evaluators.refused(folders, no_judge), plan.rows(args.ladders)
    data = {"manifest": manifest.digest, "shards": _shards_digest(manifest)}
    provenance = {
        "protocol": _protocol(manifest, settings, rows, args.detector)
        | {"frames": args.frames, "judges": judges.sources(used)},
        "digests": {**data, **_weights(folders), **judges.digests(used)},
    }
    job = parallel.ScoringJob("cheats", args.out, tasks, provenance, other_files=(NAME, MARKDOWN), force=args.force)

    def scorer(device) -> parallel.Scorer:
        from eval.cheats import rows as cheat_rows

        judged = judges.load(used, device)
        loaded = evaluators.load(folders, refused, device, judged, Evaluators.judged_frames)
        bench = cheat_rows.CheatBench(manifest, settings, args.out, rows, loaded, detector.load(args.detector))
        return lambda task: cheat_rows.score(bench, task)

    def finish(scores: dict[str, ClipScore], environment: dict[str, str]) -> None:
        tables = _made(list(scores.values()), rows, refused, provenance) | {"environment": environment}
        atomic.write_bytes(args.out / MARKDOWN, text.markdown(tables).encode())
        atomic.write_json(args.out / NAME, tables)

    parallel.run(job, scorer, finish)
    tables = json.loads((args.out / NAME).read_text())
    if os.environ.get("RANK", "0") == "0":
        print(text.in_words(tables))
        print(args.out / NAME)
        print(args.out / MARKDOWN)
    uncaught = [cheat for cheat, found in tables["table"]["cheats"].items() if found["caught"] is False]
    return EXIT_NOT_DONE if args.require_caught and uncaught else EXIT_DONE


def _made(
    scores: list[ClipScore], rows: Mapping[str, plan.Row], refused: dict[str, str], provenance: dict[str, Any]
) -> dict[str, Any]:
    """What cheats.json holds. Raises UserError where no clip could be scored."""
    scored = [score for score in scores if score.reason is None]
    misses = [score for score in scores if score.reason is not None]
    if not scored:
        raise UserError(f"no clip could be scored; the first, {misses[0].key}: {misses[0].message}")
    refused = sync.unknown((score.person, score.methods.get(plan.REAL, {})) for score in scored) | refused
    return {
        "format": FORMAT,
        "table": table.build(scores, rows, VIDEO_METRICS, refused),
        "refused": refused,
        "coverage": {
            "people": {"scored": len({s.person for s in scored}), "total": len({s.person for s in scores})},
            "clips": {"scored": len(scored), "total": len(scores)},
            "misses": [{"key": s.key, "person": s.person, "reason": s.reason, "message": s.message} for s in misses],
        },
        **provenance,
    }


def _protocol(
    manifest: Manifest, settings: Settings, rows: Mapping[str, plan.Row], detector_name: str
) -> dict[str, Any]:
    module = detector.module_of(detector_name)
    return {
        "name": "cheats made from real clips",
        "split": settings.split,
        "seed": settings.seed,
        "clips_per_person": settings.clips_per_person,
        "source_frames": settings.source_frames,
        "corpora": sorted(set(manifest.column("corpus")[manifest.rows(settings.split)].tolist())),
        "detector": f"{module.NAME}; {detector_name} {module.version()}",
        "aggregation": f"differences clip by clip; {intervals.METHOD}",
        "rows": {name: row.definition for name, row in rows.items()},
        "metrics": {name: metric.stated() for name, metric in VIDEO_METRICS.items()},
    }


def _shards_digest(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(manifest.header["shards"], sort_keys=True).encode()).hexdigest()


def _weights(folders: Mapping[str, Path]) -> dict[str, str]:
    from mytalk.networks import weights

    return {
        f"{name}_{path.stem}": sha256_of(path)
        for name, folder in folders.items()
        for path in (folder / weights.CONFIG, folder / weights.WEIGHTS)
    }
