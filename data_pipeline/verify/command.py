"""`python -m data_pipeline verify`: whether shards are what their manifest says."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import pool
from data_pipeline.pool import Failure
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import files, leaks, schema
from data_pipeline.storage.store import Store
from data_pipeline.tasks import runner as runners
from data_pipeline.tasks.runner import Runner
from data_pipeline.tasks.together import Job, Plan, together
from data_pipeline.verify import shard as shards
from data_pipeline.verify.shard import Checked, Finding, ShardTask
from mytalk import atomic, command

FORMAT = 1  # of the JSON
MOST_LINES = 20  # findings that are printed; the JSON has all
TABLE, SPLIT = "manifest", "split"


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline verify`."""
    parser = command.parser(
        "python -m data_pipeline verify",
        "Check shards against their manifest: the bytes of every tar (SHA-256, checksums), that each clip lies under\n"
        "its key where the manifest says, in equal order in all columns, that landmarks, sound and pictures have the\n"
        "clip's length, that a share of the clips decodes, and that no person is in two splits. What is wrong is\n"
        "named by shard, file, clip, member and, for one changed byte, its place. Nothing is written or mended.",
        "python -m data_pipeline verify data/mine --decode 0.05 -o verify.json",
    )
    parser.add_argument("shards", help="folder that extract or index wrote, or its URL")
    parser.add_argument(
        "--decode", type=float, default=0.05, metavar="SHARE", help="of the clips to decode whole; 1: all (%(default)s)"
    )
    parser.add_argument(
        "--share",
        type=Path,
        metavar="FOLDER",
        help="check together with whoever else types this command with this folder, on any machine that sees it; "
        "killed, the same command continues from what is there; done, it says the same again, having read anew only "
        "shards that were damaged",
    )
    parser.add_argument(
        "--again", action="store_true", help="with --share: read all anew; to be typed once, not by an array"
    )
    runners.add_options(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write every finding as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, print the verdict, and return 0 where nothing is wrong."""
    if not 0 <= args.decode <= 1:
        raise command.UserError("--decode is a share from 0 to 1")
    if args.again and args.share is None:
        raise command.UserError("--again forgets what lies in --share FOLDER; name it, or leave --again out")
    if args.out:
        atomic.refuse_unwritable(args.out)
    report = verified(args.shards, args.decode, runners.given(args), args.share, args.again)
    if args.out:
        atomic.write_json(args.out, report)
    for finding in report["findings"][:MOST_LINES]:
        print(Finding(**finding).line())
    if len(report["findings"]) > MOST_LINES:
        where = args.out or f"the JSON of: python -m data_pipeline verify {shlex.quote(args.shards)} -o FILE"
        print(f"and {len(report['findings']) - MOST_LINES} more, in {where}")
    print(verdict(report))
    return command.EXIT_DONE if report["sound"] else command.EXIT_NOT_DONE


def verdict(report: dict[str, Any]) -> str:
    """The report in a line."""
    seen = (
        f"{report['shards']} shards, {report['clips']} clips ({report['decoded']} decoded), "
        f"{report['bytes'] / 1e6:.1f} MB"
    )
    if report["sound"]:
        return f"SOUND: {seen}: nothing wrong"
    counted = ", ".join(f"{count} {check}" for check, count in report["counts"].items())
    return f"DAMAGED: {seen}: {counted}"


def verified(
    folder: str, decode: float, runner: Runner, share: Path | None = None, again: bool = False
) -> dict[str, Any]:
    """The report of a folder or URL; `share`: a folder through which several processes check together.

    What was found there before is taken, but of damaged shards; with `again` all is read anew.

    Raises UserError where there is no manifest, OSError.
    """
    with contextlib.ExitStack() as stack:
        place = share or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return together(Verifying(folder, decode, place, again), runner)


class Verifying(Job[ShardTask]):
    """The work of one check, a task a shard. What was found of a shard lies in PLACE/KIND."""

    name = "verify"

    def __init__(self, folder: str, decode: float, place: Path, again: bool = False):
        files.read_header(Store(folder))  # nothing is made for a folder without shards
        super().__init__(place / "tasks")
        self.folder, self.decode, self.place, self.again = folder, decode, place, again
        self.parts: Path | None = None
        self.found = 0

    def plan(self) -> Plan:
        store = Store(self.folder)
        header = files.read_header(store)
        opened, self.digest = files.open_table(store)
        self.manifest = Manifest(self.folder, header, opened=opened, store=store)
        digest = shards.digest_of(header, self.digest)
        self.tasks = {task.shard: task for task in _tasks(self.manifest, self.folder, digest, self.decode)}
        kind = hashlib.sha256(f"{digest} {self.decode}".encode()).hexdigest()
        self.parts = self.place / kind[:16]
        self.parts.mkdir(parents=True, exist_ok=True)
        return Plan(kind, {number: task.stop - task.start for number, task in self.tasks.items()})

    def clean(self) -> None:
        assert self.parts is not None
        atomic.sweep(self.parts)
        before = [_part_path(self.parts, number) for number in sorted(self.all_done())]
        for path in before:
            if self.again or _read(path).findings:  # a damaged shard may have been mended
                path.unlink()
        if kept := sum(path.exists() for path in before):
            print(f"verify   {kept} of {len(self.tasks)} shards were found sound before; --again reads them anew")

    def done(self, number: int) -> bool:
        assert self.parts is not None
        return _part_path(self.parts, number).exists()

    def all_done(self) -> set[int]:
        found = () if self.parts is None else os.listdir(self.parts)
        return {int(name[:-5]) for name in found if name.endswith(".json") and name[:-5].isdecimal()}

    def work(self) -> pool.Work:
        assert self.parts is not None
        return functools.partial(check_into, self.parts)

    def took(self, number: int, result: int) -> None:
        self.found += result

    def note(self) -> str:
        return f"{self.found} findings"

    def condemn(self, task: ShardTask, item: int, failure: Failure) -> ShardTask:
        return dataclasses.replace(task, condemned=f"{failure.message} ({failure.cause})")

    def close(self) -> dict[str, Any]:
        assert self.parts is not None
        return self._report([_read(_part_path(self.parts, number)) for number in sorted(self.tasks)])

    def _report(self, in_order: list[Checked]) -> dict[str, Any]:
        findings: list[Finding] = []
        if self.digest != self.manifest.digest:
            text = f"{schema.TABLE} is not the one that {schema.HEADER} names; type what wrote it again"
            findings.append(Finding(TABLE, text, file=schema.TABLE))
        findings += _of_table(self.manifest)
        findings += [finding for checked in in_order for finding in checked.findings]
        unlisted = sum(checked.unlisted for checked in in_order)
        counts = Counter(finding.check for finding in findings) + Counter(unlisted=unlisted)
        return {
            "format": FORMAT,
            "sound": not findings,
            "manifest": self.digest,
            "shards": len(self.tasks),
            "clips": len(self.manifest),
            "decoded": sum(checked.decoded for checked in in_order),
            "bytes": sum(checked.bytes for checked in in_order),
            "counts": dict(counts),
            "findings": [finding.listed() for finding in findings],
        }


def check_into(parts: Path, task: ShardTask, tick: Callable[[int, int], None]) -> int:
    """Check a shard and write what was found; how much that is."""
    checked = shards.check(task, tick)
    atomic.write_json(_part_path(parts, task.shard), dataclasses.asdict(checked))
    return len(checked.findings)


def _part_path(parts: Path, shard: int) -> Path:
    return parts / f"{shard:06d}.json"


def _read(path: Path) -> Checked:
    values = json.loads(path.read_text())
    return Checked(**{**values, "findings": [Finding(**finding) for finding in values["findings"]]})


def _tasks(manifest: Manifest, folder: str, digest: str, decode: float) -> list[ShardTask]:
    return [ShardTask(folder, digest, shard, start, stop, decode) for shard, start, stop in manifest.ranges()]


def _of_table(manifest: Manifest) -> list[Finding]:
    """What is wrong with the table itself: people in two splits, a key twice, shards out of order or without rows."""
    findings = []
    try:
        leaks.refuse_leaks(manifest, manifest.folder)
    except command.UserError as error:
        findings.append(Finding(SPLIT, str(error).removeprefix(f"{manifest.folder}: ")))
    findings += [Finding(TABLE, f"{count} clips have this key", key=key) for key, count in _repeated(manifest).items()]
    shard_n = manifest.column("shard")
    if (np.diff(shard_n) < 0).any():
        findings.append(Finding(TABLE, "its rows are not in the order of shards"))
    for shard in sorted({entry["shard"] for entry in manifest.header["shards"]} - {*np.unique(shard_n).tolist()}):
        findings.append(Finding(TABLE, "no clip of the table is in it", shard))
    return findings


def _repeated(manifest: Manifest) -> dict[str, int]:
    """Keys that several clips have, and how many. Of all keys only 8 bytes each are held at once."""
    pieces = [
        np.array([hash(key) for key in batch["key"].to_pylist()], np.int64) for batch in manifest.batches(["key"])
    ]
    hashes = np.sort(np.concatenate(pieces)) if pieces else np.zeros(0, np.int64)
    twice = {*hashes[1:][hashes[1:] == hashes[:-1]].tolist()}
    if not twice:
        return {}
    seen: Counter[str] = Counter()
    for batch in manifest.batches(["key"]):
        seen.update(key for key in batch["key"].to_pylist() if hash(key) in twice)
    return {key: count for key, count in seen.items() if count > 1}
