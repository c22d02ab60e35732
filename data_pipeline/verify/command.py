"""`python -m data_pipeline verify`: whether shards are what their manifest says."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import pool
from data_pipeline.pool import Failure
from data_pipeline.shards import manifest as manifests
from data_pipeline.shards.manifest import Manifest
from data_pipeline.storage.store import Store
from data_pipeline.verify import shard as shards
from data_pipeline.verify.shard import Checked, Finding, ShardTask
from mytalk import atomic, command
from mytalk.machine import cores
from mytalk.progress import Progress

FORMAT = 1  # of the JSON
MOST_LINES = 20  # findings that are printed; the JSON has all
IDLE_S = 600.0
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
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: one per core)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write every finding as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, print the verdict, and return 0 where nothing is wrong."""
    if not 0 <= args.decode <= 1 or args.workers < 0:
        raise command.UserError("--decode is a share from 0 to 1, and --workers at least 0")
    report = verified(args.shards, args.decode, args.workers)
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


def verified(folder: str, decode: float, workers: int) -> dict[str, Any]:
    """The report of a folder or URL. Raises UserError where there is no manifest, OSError."""
    store = Store(folder)
    header = manifests.read_header(store)
    opened, digest = manifests.open_table(store)
    findings: list[Finding] = []
    if digest != header["table"]["sha256"]:
        text = f"manifest.parquet is not the one that {manifests.HEADER} names; type the command that wrote it again"
        findings.append(Finding(TABLE, text, file=manifests.TABLE))
    manifest = Manifest(folder, header, opened=opened, store=store)
    findings += _of_table(manifest)
    tasks = _tasks(manifest, folder, shards.digest_of(header, digest), decode)
    done: dict[int, Checked] = {}
    progress = Progress("verify", len(manifest), "clips")
    hooks = pool.Hooks[ShardTask](
        on_done=lambda task, checked: done.update({task.shard: checked}),
        on_tick=lambda task, item, n: progress.step(n, f"{sum(len(one.findings) for one in done.values())} findings"),
        condemn=_condemned,
    )
    pool.run(tasks, shards.check, workers, hooks, pool.TimeLimits(idle_s=IDLE_S))
    progress.finish()
    in_order = [done[shard] for shard in sorted(done)]
    findings += [finding for checked in in_order for finding in checked.findings]
    unlisted = sum(checked.unlisted for checked in in_order)
    counts = Counter(finding.check for finding in findings) + Counter(unlisted=unlisted)
    return {
        "format": FORMAT,
        "sound": not findings,
        "manifest": digest,
        "shards": len(tasks),
        "clips": len(manifest),
        "decoded": sum(checked.decoded for checked in in_order),
        "bytes": sum(checked.bytes for checked in in_order),
        "counts": dict(counts),
        "findings": [finding.listed() for finding in findings],
    }


def _condemned(task: ShardTask, item: int, failure: Failure) -> ShardTask:
    return dataclasses.replace(task, condemned=f"{failure.message} ({failure.cause})")


def _tasks(manifest: Manifest, folder: str, digest: str, decode: float) -> list[ShardTask]:
    shard_n = manifest.column("shard")
    first = np.flatnonzero(np.diff(shard_n, prepend=-1))
    ranges = zip(shard_n[first].tolist(), first.tolist(), [*first[1:].tolist(), len(shard_n)])
    return [ShardTask(folder, digest, shard, start, stop, decode) for shard, start, stop in ranges]


def _of_table(manifest: Manifest) -> list[Finding]:
    """What is wrong with the table itself: people in two splits, a key twice, shards out of order or without rows."""
    findings = []
    try:
        manifests.refuse_leaks(manifest, manifest.folder)
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
