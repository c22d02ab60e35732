"""`python -m eval benchmark`: dub people that training leaves out, and measure the videos.

Each clip is dubbed with its own speech, with another clip's, and with a mouth that stands still, by the code of
`python -m mytalk dub`; beside them stands the clip itself, through the same codec. Every row is an mp4, read
again, its landmarks detected anew. Writes OUT/report.json (see eval/report.py), OUT/report.html (one file, opens
anywhere), OUT/clips.jsonl, and the videos of some clips in OUT/videos. The same command, typed again, continues;
under `torchrun -m eval benchmark ...` or `python -m launch local` the processes share the clips.
"""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import Manifest
from eval import dub_protocol, judges, kept, options, page, plan, protocol, records, report, summary, work
from mytalk import command
from mytalk.command import UserError
from mytalk.face import detector
from mytalk.face.landmarks import CROP_PX

NAMED = ("motion", "appearance", "syncnet", "identity")  # models that can be named


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = (
        "python -m eval benchmark --shards shards --motion runs/motion/model --appearance runs/appearance/model "
        "--syncnet runs/syncnet/model --identity runs/identity/model --out runs/benchmark"
    )
    made = command.parser("python -m eval benchmark", __doc__, example)
    made.add_argument("--motion", type=Path, required=True, help="folder of a motion model")
    made.add_argument("--appearance", type=Path, required=True, help="folder of an appearance model")
    made.add_argument("--syncnet", type=Path, help="folder of a SyncNet; without it there is no sync metric")
    made.add_argument("--identity", type=Path, help="folder of an identity encoder; without it no identity metric")
    detector.add_option(made)
    return options.add(made)


def run(args: argparse.Namespace) -> int:
    """Benchmark, or find it done; print the table and the verdicts."""
    settings = options.settings(args)
    manifest = Manifest.load(args.shards)
    tasks = plan.tasks(manifest, settings)
    folders = {name: folder for name in NAMED if (folder := getattr(args, name)) is not None}
    digests = protocol.digests(manifest, {f"{name}_": (name, folder) for name, folder in folders.items()})
    belongs = {
        "protocol": protocol.block(dub_protocol.kind(digests, args.detector), manifest, settings, tasks),
        "digests": digests,
    }
    if belongs["protocol"]["crop_px"] != [CROP_PX]:
        raise UserError(f"{args.shards}: the benchmark dubs crops of {CROP_PX} px; extract again with that size")
    job = work.Job("benchmark", args.out, tasks, belongs, beside=(page.NAME,), videos=kept.VIDEOS, force=args.force)
    foreign = work.foreign(job)
    made = None if foreign else report.read(args.out)
    if made is None or not (args.out / page.NAME).is_file():
        made = _benchmark_all(job, manifest, settings, folders, args.detector)
    return options.conclude(made, args, report.NAME, page.NAME)


def _benchmark_all(
    job: work.Job, manifest: Manifest, settings: plan.Settings, folders: dict[str, Path], detector_name: str
) -> dict[str, Any]:
    refused = judges.refused(folders)

    def scorer(device) -> work.Scorer:
        from eval import dubbed

        bench = _bench(manifest, settings, job.out, folders, refused, detector_name, device)
        return lambda task: dubbed.score(bench, task)

    def finish(scores: dict[str, records.ClipScore], environment: dict[str, str]) -> None:
        environment["date"] = datetime.now(timezone.utc).date().isoformat()
        made = summary.build(job.belongs, job.tasks, scores, environment, refused)
        report.check(made)
        page.write(job.out, made, list(scores.values()))
        report.write(job.out, made)  # last: where it is, all is there

    work.run(job, scorer, finish)
    made = report.read(job.out)
    assert made is not None, "the first process wrote it"
    return made


def _bench(
    manifest: Manifest,
    settings: plan.Settings,
    out: Path,
    folders: dict[str, Path],
    refused: dict[str, str],
    detector_name: str,
    device,
):
    """Load the models and the detector. Raises UserError for folders that hold no such model."""
    from eval import dubbed
    from eval.dub_metrics import Judges
    from mytalk.dub import dubbing
    from mytalk.networks import identity

    models = dubbing.load_models(folders["motion"], folders["appearance"], str(device))
    sync = None
    if not set(dub_protocol.SYNC) <= set(refused):
        from mytalk.networks import syncnet

        sync = syncnet.load_model(folders["syncnet"], device)
    who = None
    if not set(dub_protocol.IDENTITY) <= set(refused):
        who = identity.load_model(folders["identity"], device)
    return dubbed.Bench(manifest, settings, out, models, Judges(sync, who), detector.load(detector_name))
