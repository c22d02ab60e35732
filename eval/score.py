"""`python -m eval score`: how well landmarks generated for unseen people follow their speech.

Writes OUT/report.json (see eval/report.py), OUT/clips.jsonl with every clip's scores, and OUT/openings.png.
The same command, typed again, continues; under `torchrun -m eval score ...` the processes share the clips.
"""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from data_pipeline.manifest import SPLITS, Manifest
from eval import gate, plan, protocol, records, report, summary
from mytalk import atomic, command
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError
from mytalk.progress import Progress

PICTURE = "openings.png"
LONGEST_WAIT = timedelta(hours=6)  # of a process for the slowest one; the default of 10 minutes is too short


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = command.parser(
        "python -m eval score",
        __doc__,
        "python -m eval score --shards shards --model runs/motion/model --out runs/scores",
    )
    chosen = plan.Settings()
    made.add_argument("--shards", type=Path, required=True, help="folder of shards with a manifest")
    made.add_argument("--model", type=Path, required=True, help="folder of a motion model")
    made.add_argument("--out", type=Path, required=True, help="folder of the report")
    made.add_argument("--split", default=chosen.split, help=f"one of {', '.join(SPLITS)} (default: %(default)s)")
    made.add_argument("--steps", type=_count, default=chosen.sampler_steps, help="sampler steps (default: %(default)s)")
    made.add_argument("--seed", type=int, default=chosen.seed, help="of noise and pairings (default: %(default)s)")
    made.add_argument(
        "--source-frames",
        type=_count,
        default=chosen.source_frames,
        help="frames of the person that the model sees (default: %(default)s)",
    )
    made.add_argument("--clips-per-person", type=_count, help="score at most this many (default: all)")
    made.add_argument("--force", action="store_true", help="replace what OUT holds of other weights or settings")
    made.add_argument("--require-gate", action="store_true", help="exit code 1 where the gate fails")
    return made


def run(args: argparse.Namespace) -> int:
    """Score, or find it done; print the table and the gate."""
    settings = plan.Settings(args.split, args.steps, args.seed, args.source_frames, args.clips_per_person)
    manifest = Manifest.load(args.shards)
    tasks = plan.tasks(manifest, settings)
    belongs = {
        "protocol": protocol.block(manifest, settings, tasks),
        "digests": protocol.digests(manifest, args.model),
    }
    foreign = _foreign(args.out, belongs, args.force)
    made = None if foreign else report.read(args.out)
    if made is None:
        made = _score_all(args.out, args.model, manifest, settings, tasks, belongs, foreign)
    if os.environ.get("RANK", "0") == "0":
        print(report.in_words(made))
        print(gate.in_words(made["methods"]))
        print(f"{args.out / report.NAME}")
    return EXIT_NOT_DONE if args.require_gate and not made["gate"]["passed"] else EXIT_DONE


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def _foreign(out: Path, belongs: dict[str, Any], force: bool) -> list[Path]:
    """Files in `out` of another protocol or of other data or weights. Raises UserError unless `force`."""
    held: dict[Path, dict[str, Any]] = {}
    found = report.read(out)
    if found is not None:
        held[out / report.NAME] = report.belongs(found)
    for path in records.files(out):
        said, _ = records.read(path)
        if said is not None:
            held[path] = said
    foreign = [path for path, said in held.items() if said != belongs]
    if foreign and not force:
        said = held[foreign[0]]
        names = [
            f"{block}.{name}"
            for block in belongs
            for name in belongs[block]
            if said[block].get(name) != belongs[block][name]
        ]
        raise UserError(
            f"{out} holds scores that differ in {', '.join(names)}; name another folder, or replace them with --force"
        )
    return foreign


def _score_all(
    out: Path,
    model_folder: Path,
    manifest: Manifest,
    settings: plan.Settings,
    tasks: list[plan.Task],
    belongs: dict[str, Any],
    foreign: list[Path],
) -> dict[str, Any]:
    """Score the clips that no earlier run finished, each in one of the processes; the first writes the report."""
    import torch  # after everything that can be refused without it
    from accelerate import PartialState

    from eval import clip
    from mytalk.motion import load_model

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    model = load_model(model_folder, state.device)
    done = {score.key: score for score in _finished(out, foreign)}
    state.wait_for_everyone()  # all have read before the files are put together
    if state.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        atomic.sweep(out)
        for path in foreign:
            path.unlink()
        records.write_whole(out, belongs, list(done.values()))
    state.wait_for_everyone()
    left = [task for task in tasks if task.key not in done]
    progress = Progress("score", len(tasks), "clips", done=len(done)) if state.is_main_process else None
    with records.part(out, state.process_index, belongs) as append:
        for place in range(state.process_index, len(left), state.num_processes):
            append(clip.score(manifest, settings, left[place], model))
            if progress:  # the other processes are about as far
                progress.step(min(state.num_processes, len(left) - place))
    state.wait_for_everyone()
    if state.is_main_process and progress:
        found = _finished(out, [])
        done = {score.key: score for score in found}
        assert len(found) == len(done), "the processes share the clips: none is scored twice"
        missing = [task.key for task in tasks if task.key not in done]
        if missing:
            raise UserError(f"{len(missing)} clips have no score; all processes must see the same folder {out}")
        progress.finish()
        scores = [done[task.key] for task in tasks]
        records.write_whole(out, belongs, scores)
        _write_picture(out, scores)
        environment = {"device": state.device.type, "torch": torch.__version__}
        report.write(out, summary.build(belongs, tasks, done, environment))
    state.wait_for_everyone()
    state.destroy_process_group()
    made = report.read(out)
    assert made is not None, "the first process wrote it"
    return made


def _finished(out: Path, foreign: list[Path]) -> list[records.ClipScore]:
    """Scores in all files of `out` but the foreign ones."""
    return [score for path in records.files(out) if path not in foreign for score in records.read(path)[1]]


def _write_picture(out: Path, scores: list[records.ClipScore]) -> None:
    from eval import pictures

    shown = [score for score in scores if score.openings_px]
    if shown:
        with atomic.file(out / PICTURE) as handle:
            pictures.openings(shown).save(handle, format="PNG")
