"""`python -m data_pipeline annotate`: add columns of measured facts to the manifest of existing shards."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import pool
from data_pipeline.annotate import annotation
from data_pipeline.annotate.annotation import DAMAGED, Annotation, Options, PartTask
from data_pipeline.pool import Failure
from data_pipeline.shards import manifest_update
from data_pipeline.shards.layout import JOINED
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.manifest_update import Change, local_shards
from data_pipeline.shards.table import files, schema
from data_pipeline.storage.store import Store
from data_pipeline.tasks import runner as runners
from data_pipeline.tasks.runner import Runner
from data_pipeline.tasks.together import Job, Plan, together
from mytalk import atomic, command

# Name that is typed -> module, see annotation.Annotation.
ANNOTATIONS = {
    "sync": "data_pipeline.annotate.sync",  # the A/V offset, by a SyncNet of ours
    "speech": "data_pipeline.annotate.speech",  # share of speech, loudness of speech and noise
    "quality": "data_pipeline.annotate.quality",  # sharpness, and what a codec left as it was
    "people": "data_pipeline.annotate.people",  # who is the same person, by face
    "duplicates": "data_pipeline.annotate.duplicates",  # which clips are copies of one recording
}


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline annotate`."""
    parser = command.parser(
        "python -m data_pipeline annotate",
        "Measure facts of every clip and add them to the manifest as columns; shards are never rewritten. With each\n"
        "column manifest.json says what made it, with digests. sync: by how many frames the sound is late, which\n"
        "reading corrects where it is sure. speech: share of speech, levels of speech and noise. quality: sharpness,\n"
        "compression. duplicates: copies of one recording. people: who is the same person. Stopped at any moment, the\n"
        "same command continues; for shards added later, type it again. Typed on several machines that share SHARDS,\n"
        "or as a Slurm array, the commands divide the work.",
        "python -m data_pipeline annotate data/mine sync speech duplicates people --syncnet runs/syncnet/model",
    )
    parser.add_argument("shards", type=local_shards, help="folder that extract or index wrote")
    parser.add_argument("names", nargs="+", choices=tuple(ANNOTATIONS), metavar="COLUMN", help=", ".join(ANNOTATIONS))
    parser.add_argument("--syncnet", default="", metavar="FOLDER", help="model that measures sync")
    parser.add_argument("--replace", action="store_true", help="replace columns that came with the shards")
    runners.add_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Annotate, one name after the other, and print what was found."""
    runner, options = runners.given(args), Options(args.syncnet)
    for name in dict.fromkeys(args.names):
        for line in annotate(args.shards, name, options, runner, args.replace):
            print(line, flush=True)
    return command.EXIT_DONE


def annotate(folder: Path, name: str, options: Options, runner: Runner, replace: bool = False) -> list[str]:
    """Add the columns of an annotation for every shard that lacks them; returns lines of what was found.

    Any number of processes may do it at once. Raises UserError where what it needs is not there, or a column of its
    came with the shards; OSError.
    """
    return together(Annotating(folder, name, options, replace), runner)


class Annotating(Job[PartTask]):
    """The work of one annotation, a task a shard."""

    def __init__(self, folder: Path, name: str, options: Options, replace: bool):
        files.read_header(Store(folder))  # nothing is made in a folder without shards
        super().__init__(annotation.part_path(folder, name, 0).parent / "tasks")
        self.folder, self.name, self.options, self.replace = folder, name, options, replace
        self.module = annotation.load(ANNOTATIONS[name])
        self.made_by = self.module.made_by(options)
        self.damaged = 0

    def plan(self) -> Plan:
        self.manifest, torn = manifest_update.planned(self.folder)
        if not (torn or self.replace):
            _refuse_given(self.manifest, self.name, self.module)
        made_by = annotation.digest_of(self.made_by)
        self.tasks = {task.shard: task for task in _tasks(self.manifest, self.name, self.options, made_by)}
        self.pending = {n for n, task in self.tasks.items() if not annotation.finished(self.manifest, task)}
        if self.pending and torn:
            Manifest.load(self.folder)  # raises where another command died in the middle of it; else it was writing
            return self.plan()
        kind = annotation.digest_of([made_by, manifest_update.tars(self.manifest), len(self.manifest)])
        return Plan(kind, {n: task.stop - task.start for n, task in self.tasks.items()})

    def clean(self) -> None:
        atomic.sweep(self.board.parent)
        for number in self.pending:  # a part that was made otherwise
            annotation.part_path(self.folder, self.name, number).unlink(missing_ok=True)

    def done(self, number: int) -> bool:
        return annotation.part_path(self.folder, self.name, number).exists()

    def all_done(self) -> set[int]:
        stems = (Path(name).stem for name in os.listdir(self.board.parent) if name.endswith(".parquet"))
        return {int(stem) for stem in stems if stem.isdecimal()}

    def work(self) -> pool.Work:
        return annotation.write_part

    def took(self, number: int, result: int) -> None:
        self.damaged += result

    def condemn(self, task: PartTask, item: int, failure: Failure) -> PartTask:
        return dataclasses.replace(task, condemned=(*task.condemned, (item, f"{failure.cause}: {failure.message}")))

    def note(self) -> str:
        return f"{self.damaged} damaged" if self.damaged else ""

    def close(self) -> list[str]:
        return _enter(self.manifest, self.name, self.module, self.made_by, [*self.tasks])


def _refuse_given(manifest: Manifest, name: str, module: Annotation) -> None:
    """UserError where a column of this name came with the shards, as a corpus's own facts do."""
    ours = manifest.header.get(schema.ANNOTATIONS, {}).get(name, {}).get("columns", [])
    for column in module.COLUMNS:
        if column not in ours and manifest.has(column) and any(manifest.column(column) == manifest.column(column)):
            raise command.UserError(
                f"{manifest.folder}: column '{column}' came with the shards; leave {name} out, or add --replace"
            )


def _tasks(manifest: Manifest, name: str, options: Options, made_by: str) -> list[PartTask]:
    folder, module = Path(manifest.folder), ANNOTATIONS[name]
    return [
        PartTask(folder, manifest.digest, name, module, shard, start, stop, options, made_by)
        for shard, start, stop in manifest.ranges()
    ]


def _enter(manifest: Manifest, name: str, module: Annotation, made_by: dict[str, Any], shards: list[int]) -> list[str]:
    """Write the manifest with the columns; returns lines of what was found. Raises RunAgain where its clips changed."""
    folder, leaks = Path(manifest.folder), list[str]()
    own = annotation.parts(folder, name, shards, ["key", *module.COLUMNS, *module.KEPT, DAMAGED])
    joined = module.join(manifest, own, made_by)
    columns = {column: joined.columns.get(column, own[column]).cast(kind) for column, kind in module.COLUMNS.items()}
    entry = {"columns": [*module.COLUMNS], "made_by": made_by, "digest": annotation.digest_of(made_by)}

    def change(now: Manifest) -> Change:
        manifest_update.refuse_other_clips(now, manifest)
        header = {**now.header, schema.ANNOTATIONS: {**now.header.get(schema.ANNOTATIONS, {}), name: entry}}
        header, lines = _without_leaks(now, header, columns)
        leaks.extend(lines)
        return Change(columns, header)

    manifest_update.update(folder, change)
    return [*joined.lines, *leaks, *_summary(name, own)]


def _without_leaks(
    manifest: Manifest, header: dict[str, Any], columns: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The header, and lines, where a group of a new column lies in two splits: the split then joins it no more.

    So the column can be written, and the next `split` asks for --force.
    """
    lines = []
    for name in (name for name in columns if name in JOINED):
        split_n, _ = manifest.codes("split")
        code = columns[name].dictionary_encode()
        there_n = code.is_valid().to_numpy(zero_copy_only=False) & (split_n != _unassigned(manifest))
        pairs = np.unique(np.stack([code.indices.fill_null(0).to_numpy()[there_n], split_n[there_n]]), axis=1)
        leaking = int((np.bincount(pairs[0]) > 1).sum()) if pairs.size else 0
        if leaking:
            split = dict(header.get("split") or {})
            if kept := [other for other in split.pop("joined", []) if other != name]:
                split["joined"] = kept
            header = {**header, "split": split} if "split" in header else header
            lines.append(
                f"split    {leaking} groups of {name} lie in two splits; assign people again with: python -m "
                f"data_pipeline split {manifest.folder} --force"
            )
    return header, lines


def _unassigned(manifest: Manifest) -> int:
    """The code of clips without a split; -1 where all have one."""
    names = manifest.codes("split")[1]
    return names.index("") if "" in names else -1


def _summary(name: str, parts: pa.Table) -> list[str]:
    """What was annotated, and of what clips it could not be measured."""
    lost = Counter(reason.partition(":")[0] for reason in parts[DAMAGED].to_pylist() if reason)
    if lost:
        counted = ", ".join(f"{count} {reason}" for reason, count in lost.items())
        print(f"{lost.total()} clips could not be measured and have no {name}: {counted}", file=sys.stderr)
    return [f"{name:<8} {len(parts) - lost.total()} of {len(parts)} clips"]
