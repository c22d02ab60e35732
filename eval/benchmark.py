"""`python -m eval benchmark`: dub people that training leaves out, and measure the videos.

Each clip is dubbed with its own speech, with another clip's, and with a mouth that does not move, by the code of
`python -m mytalk dub`; the clip itself, through the same codec, is a row too. Every row is an mp4, read again, its
landmarks detected anew. Writes OUT/report.json (see eval/report/check.py), OUT/report.html (one file, opens
anywhere), OUT/clips.jsonl, and the videos of some clips in OUT/videos. The same command, typed again, continues;
under `torchrun -m eval benchmark ...` or `python -m launch local` the processes share the clips.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import Manifest
from eval import faces, options, parallel, protocol, seen
from eval.judges import load as judges
from eval.metrics import evaluators
from eval.metrics.metric import Evaluators
from eval.report import check, of_videos, page
from eval.rows import pairs, ridge, saved, stages
from eval.score_file import ClipScore
from eval.tasks import Settings, plan_tasks
from mytalk import command
from mytalk.command import UserError
from mytalk.face import detector
from mytalk.face.landmarks import CROP_PX
from mytalk.networks.appearance.config import PRECISIONS

MODELS = ("motion", "appearance", *options.EVALUATORS)  # an option each: the folder of a model
TAKEN = ("truth", "source", "dubbed_from")  # files and curves of other meaning than a method's


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = (
        "python -m eval benchmark --shards shards --motion runs/motion/model --appearance runs/appearance/model "
        "--syncnet runs/syncnet/model --identity runs/identity/model --out runs/benchmark"
    )
    parser = command.parser("python -m eval benchmark", __doc__, example)
    parser.add_argument("--motion", type=Path, required=True, help="folder of a motion model")
    parser.add_argument("--appearance", type=Path, required=True, help="folder of an appearance model")
    options.add_evaluators(parser)
    parser.add_argument(
        "--judge-frames",
        type=options.count_or_all,
        default=Evaluators.judged_frames,
        metavar="N|all",
        help="frames of a clip that the judge of pictures sees, evenly spread (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="another method's videos of the clips, as a row (eval clips gives the clips); may be repeated",
    )
    parser.add_argument("--protocol", choices=pairs.PROTOCOLS, default=pairs.SAME_AUDIO, help="(default: %(default)s)")
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="CSV",
        help="with cross-audio, who says what, as `eval clips --protocol cross-audio` writes it (default: the same "
        "list, made here)",
    )
    parser.add_argument(
        "--trained-shards", metavar="FOLDER", help="shards that the models were trained on (default: those scored)"
    )
    parser.add_argument(
        "--same-face",
        type=options.distance_or_off,
        default=faces.SAME,
        metavar="L2|off",
        help="refuse to score people whose face is nearer to one in training, by dlib's embedding (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="print the CPU seconds of each stage, and the networks' own share"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of the painter, as that of `mytalk dub`; stated"
    )
    parser.add_argument(
        "--speech-encoder", metavar="ENCODER", help="of a motion model that hears learnt features, as dub takes it"
    )
    detector.add_option(parser)
    return options.add(parser)


def run(args: argparse.Namespace) -> int:
    """Benchmark, unless it is done; print the table and the verdicts."""
    settings = replace(options.settings(args, args.motion), precision=args.precision)
    no_judge = judges.missing()
    manifest = Manifest.load(args.shards)
    tasks = plan_tasks(manifest, settings)
    folders = {name: folder for name in MODELS if (folder := getattr(args, name)) is not None}
    whom = seen.refuse(manifest, settings.split, tasks, folders)
    named = {f"{name}_": (name, folder) for name, folder in folders.items()}
    cross_audio = args.protocol == pairs.CROSS_AUDIO
    if args.pairs and not cross_audio:
        raise UserError("--pairs says who is dubbed with whose speech; type --protocol cross-audio with it")
    digests = protocol.digests(manifest, settings, named)
    used = [name for name in judges.JUDGES if name not in no_judge]
    kind = protocol.videos(digests, args.detector, judges.sources(used), args.judge_frames)
    names = [saved.name_of(task.key) for task in tasks]
    methods = pairs.methods_of(args.method, names, {*kind.rows, *TAKEN})
    if methods:
        kind = protocol.with_methods(kind, methods)
    digests |= {**judges.digests(used), **pairs.method_digests(methods, names)}
    speeches = pairs.speeches(args.pairs, names) if args.pairs else None
    if cross_audio:
        kind = protocol.cross_audio(kind, by_csv=speeches is not None)
        digests.pop(ridge.NAME, None)
    if speeches is not None:
        digests["pairs"] = pairs.speech_digest(speeches)
    provenance = {"protocol": protocol.block(kind, manifest, settings, tasks, whom), "digests": digests}
    if provenance["protocol"]["crop_px"] != [CROP_PX]:
        raise UserError(f"{args.shards}: the benchmark dubs crops of {CROP_PX} px; extract again with that size")
    job = parallel.ScoringJob(
        "benchmark", args.out, tasks, provenance, other_files=(page.NAME,), videos=saved.VIDEOS, force=args.force
    )
    report = None if parallel.other_scores(job) else check.read(args.out)
    if report is None or not (args.out / page.NAME).is_file():
        report = _benchmark_all(job, manifest, settings, folders, args, no_judge, methods, speeches)
    return options.conclude(report, args, check.NAME, page.NAME)


def _faces(args: argparse.Namespace, manifest: Manifest, tasks: Sequence[Any], no_judge: dict[str, str]) -> str:
    """Whether faces of training are among those scored, in words; printed. Raises UserError for such a face."""
    if os.environ.get("RANK", "0") != "0":
        return ""  # the first process looks, and writes the report
    if args.same_face is None or args.split == faces.TRAINED_ON:
        words = "not checked: turned off" if args.same_face is None else "not checked: seen people are scored"
    elif "person" in no_judge:
        words = f"not checked: {no_judge['person']}"
    else:
        trained = manifest if args.trained_shards is None else Manifest.load(args.trained_shards)
        judge = judges.load(["person"])["person"]
        words = faces.check(manifest, tasks, trained, judge, args.same_face)
    print(f"faces of training people: {words}")
    return words


def _benchmark_all(
    job: parallel.ScoringJob,
    manifest: Manifest,
    settings: Settings,
    folders: dict[str, Path],
    args: argparse.Namespace,
    no_judge: dict[str, str],
    methods: dict[str, dict[str, Path]],
    speeches: dict[str, Path] | None,
) -> dict[str, Any]:
    refused = evaluators.refused(folders, no_judge)
    fitted = ridge.fit(manifest) if ridge.NAME in job.provenance["protocol"]["methods"] else None
    cross_audio = args.protocol == pairs.CROSS_AUDIO
    same_face = _faces(args, manifest, job.tasks, no_judge)

    def scorer(device) -> parallel.Scorer:
        from eval.rows import given, videos
        from mytalk.dub import dubbing

        models = dubbing.load_models(folders["motion"], folders["appearance"], str(device), args.speech_encoder)
        models.motion.guide(settings.guidance, settings.person_guidance)
        models.appearance.compute_in(settings.precision)
        judged = judges.load([name for name in judges.JUDGES if name not in no_judge], device)
        loaded = evaluators.load(folders, refused, device, judged, args.judge_frames)
        finder = detector.load(args.detector)
        others = functools.partial(given.of_clip, methods, finder) if methods else None
        bench = videos.Bench(manifest, settings, job.out, models, loaded, finder, fitted, others, cross_audio, speeches)
        if clock is not None:
            stages.watch_networks(clock, models, loaded, finder)
        return lambda task: videos.score(bench, task)

    def finish(scores: dict[str, ClipScore], environment: dict[str, str]) -> None:
        facts = None if fitted is None else fitted.facts
        told = {**environment, "same_face": same_face}
        of_videos.write(job.out, job.provenance, job.tasks, scores, told, refused, no_judge, facts)

    with stages.clocked() if args.profile else contextlib.nullcontext() as clock:
        parallel.run(job, scorer, finish)
    if clock is not None and os.environ.get("RANK", "0") == "0":
        print(clock.in_words())
    report = check.read(job.out)
    assert report is not None, "the first process wrote it"
    return report
