"""`python -m eval score`: videos that any method wrote, against the real ones.

PRED holds the method's videos, REAL the real ones, one for each, of the same name (or as a CSV says). In the protocol
same-audio the method says what the real video says; in cross-audio it says something else in the picture of the real
video, so there is no true mouth, and only the metrics that need none are computed. Both videos are brought to one crop,
written by one encoder, and their landmarks detected in what was written; the real video is a row of its own. A pair
that cannot be scored is counted, with its reason. Writes OUT/report.json, OUT/report.html, OUT/clips.jsonl with every
clip's scores, and the videos of some clips in OUT/videos. The same command, typed again, continues; under
`torchrun -m eval score ...` the processes share the clips.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from eval import options, parallel, protocol
from eval.judges import load as judges
from eval.metrics import evaluators
from eval.metrics.metric import Evaluators
from eval.report import check, of_videos, page
from eval.rows import pairs, saved
from eval.score_file import FLOOR, ClipScore
from mytalk import command
from mytalk.command import UserError
from mytalk.face import detector

TAKEN = (FLOOR, "truth", "source")  # rows and files of other meaning


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = (
        "python -m eval score --pred their/videos --real test/videos --out runs/theirs --syncnet runs/syncnet/model"
    )
    parser = command.parser("python -m eval score", __doc__, example)
    parser.add_argument("--pred", type=Path, required=True, help="folder of the method's videos")
    parser.add_argument("--real", type=Path, required=True, help="folder of the real videos: PERSON/*, or one a person")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--pairs", type=Path, help="CSV with columns pred, real and, where wanted, person, speech")
    parser.add_argument("--protocol", choices=pairs.PROTOCOLS, default=pairs.SAME_AUDIO, help="(default: %(default)s)")
    parser.add_argument("--name", help="the method's name in the report (default: the name of PRED)")
    options.add_evaluators(parser)
    parser.add_argument("--force", action="store_true", help="replace what OUT holds of other videos or settings")
    detector.add_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Score, unless it is done; print the table."""
    method = named(args.name, args.pred)
    out = Path(os.path.realpath(args.out))
    for folder in (args.pred, args.real):
        if Path(os.path.realpath(folder)) in (out, *out.parents):
            raise UserError(f"{args.out} lies in {folder}, whose videos are scored; name another folder with --out")
    tasks = pairs.by_csv(args.pairs, args.pred, args.real) if args.pairs else pairs.by_name(args.pred, args.real)
    folders = {name: folder for name in options.EVALUATORS if (folder := getattr(args, name)) is not None}
    digests = pairs.digests(tasks) | protocol.model_digests({f"{name}_": (name, folders[name]) for name in folders})
    no_judge = judges.missing()
    used = [name for name in judges.JUDGES if name not in no_judge]
    cross_audio = args.protocol == pairs.CROSS_AUDIO
    given = protocol.given(method, cross_audio, bool(args.pairs), digests, args.detector, judges.sources(used))
    provenance = {"protocol": protocol.given_block(given, tasks), "digests": digests | judges.digests(used)}
    job = parallel.ScoringJob(
        "score", args.out, tasks, provenance, other_files=(page.NAME,), videos=saved.VIDEOS, force=args.force
    )
    report = None if parallel.other_scores(job) else check.read(args.out)
    if report is None or not (args.out / page.NAME).is_file():
        report = _score_all(job, method, cross_audio, folders, args.detector, no_judge)
    return options.show(report, args.out, check.NAME, page.NAME)


def named(name: str | None, folder: Path) -> str:
    """The method's name: as given, or made of its folder's. Raises UserError for one that is no name."""
    if name is None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64] or "method"
        return f"{name}-videos" if name in TAKEN else name
    return pairs.method_name(name, TAKEN)


def _score_all(
    job: parallel.ScoringJob,
    method: str,
    cross_audio: bool,
    folders: dict[str, Path],
    detector_name: str,
    no_judge: dict[str, str],
) -> dict[str, Any]:
    refused = evaluators.refused(folders, no_judge)

    def scorer(device) -> parallel.Scorer:
        from eval.rows import given

        judged = judges.load([name for name in judges.JUDGES if name not in no_judge], device)
        loaded = evaluators.load(folders, refused, device, judged, Evaluators.judged_frames)
        bench = given.Bench(job.out, method, cross_audio, loaded, detector.load(detector_name))
        return lambda pair: given.score(bench, pair)

    def finish(scores: dict[str, ClipScore], environment: dict[str, str]) -> None:
        of_videos.write(job.out, job.provenance, job.tasks, scores, environment, refused, no_judge)

    parallel.run(job, scorer, finish)
    report = check.read(job.out)
    assert report is not None, "the first process wrote it"
    return report
