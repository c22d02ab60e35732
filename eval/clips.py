"""`python -m eval clips`: the benchmark's clips as videos, for a method that is to dub them.

Writes OUT/KEY.mp4, each clip's crops with its own sound, and OUT/pairs.csv, the fixed list of who is dubbed with what:
it depends on the shards' table, the split and the seed alone. In cross-audio a clip is to be dubbed with the speech of
OUT/speech/KEY.wav: another person's, cut or repeated to the clip's length. What the method writes, in a folder DIR as
KEY.mp4, is scored by `eval score --pred DIR --real OUT --pairs OUT/pairs.csv`.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.members import audio_wav
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table.schema import SPLITS
from eval import options
from eval.rows import saved
from eval.rows.inputs import read_frames, swapped
from eval.rows.pairs import CROSS_AUDIO, PROTOCOLS
from eval.tasks import ScoringTask, Settings, other_speech, plan_tasks
from mytalk import atomic, command, media
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError
from mytalk.face.landmarks import FRAME_HZ
from mytalk.progress import Progress

PAIRS, SPEECH = "pairs.csv", "speech"


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = "python -m eval clips --shards shards --out to-be-dubbed --protocol cross-audio"
    parser = command.parser("python -m eval clips", __doc__, example)
    parser.add_argument("--shards", required=True, help="folder or URL of shards with a manifest")
    parser.add_argument("--out", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--split", default="unseen", help=f"one of {', '.join(SPLITS)} (default: %(default)s)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs (default: %(default)s)")
    parser.add_argument("--clips-per-person", type=options.count, help="at most so many (default: all)")
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the clips and the list; a clip that cannot be read is named, and the exit code is 1."""
    manifest = Manifest.load(args.shards)
    settings = Settings(args.split, seed=args.seed, clips_per_person=args.clips_per_person)
    tasks = plan_tasks(manifest, settings)
    if args.out.is_dir() and any(args.out.iterdir()) and not (args.out / PAIRS).is_file():
        raise UserError(f"{args.out} holds other files; name another folder with --out")
    progress, lines, lost = Progress("clips", len(tasks), "clips"), [], 0
    for task in tasks:
        try:
            lines.append(_written(manifest, settings, task, args.out, args.protocol == CROSS_AUDIO))
        except ClipError as error:
            lost += 1
            progress.say(f"left out: {error}")
        progress.step(1)
    progress.finish()
    if not lines:
        raise UserError(f"{args.shards}: no clip could be written")
    atomic.write_bytes(args.out / PAIRS, _csv(lines).encode())
    print(f"{len(lines)} of {len(tasks)} clips: {args.out / PAIRS}")
    return EXIT_DONE if not lost else EXIT_NOT_DONE


def _written(manifest: Manifest, settings: Settings, task: ScoringTask, out: Path, cross_audio: bool) -> dict[str, str]:
    """Write a clip, and the speech to dub it with; its line of the list. Raises ClipError, OSError."""
    window = task.scored
    name = saved.name_of(task.key)
    audio_S = reader.read_audio(manifest, window.row, window.start, window.stop)
    line = {"pred": f"{name}.mp4", "real": f"{name}.mp4", "person": task.person}
    if cross_audio:
        candidates = (
            swapped(audio_S, reader.read_audio(manifest, row)) for row in other_speech(manifest, settings, task)
        )
        other_S = next((speech_S for speech_S in candidates if speech_S is not None), None)
        if other_S is None:
            raise ClipError(task.key, "no_other_speech", "no other clip of the split has another sound")
        atomic.write_bytes(out / SPEECH / f"{name}.wav", audio_wav(other_S))
        line["speech"] = f"{SPEECH}/{name}.wav"
    media.write_video(out / f"{name}.mp4", read_frames(manifest, window), FRAME_HZ, audio_S)
    return line


def _csv(lines: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
