"""The end of an extraction: ledgers that add up, the manifest, and what to look at first."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipeline.extract import process
from data_pipeline.extract.listing import sources, walk
from data_pipeline.extract.work.protocol import PROTOCOL
from data_pipeline.shards import layout, manifest_update, throughput
from data_pipeline.shards import ledger as ledgers
from data_pipeline.shards.table.parts import from_parts
from data_pipeline.shards.throughput import Throughput
from mytalk import command, faults
from mytalk.speech.activity import EnergyRule

SET_ASIDE = "set_aside"  # a source whose task failed twice


def close(
    out: Path,
    listed: list[sources.Source],
    found: walk.Found,
    skipped: dict[str, str],
    aside: Mapping[int, str],
) -> int:
    """Balance the ledgers, write them and the manifest, print the sums; the exit code.

    `aside`: shards that nobody could make, and why; their sources are rejected.
    """
    shards = sorted({source.shard for source in listed})
    parts = [
        _without_shard(n, aside[n], listed) if n in aside else json.loads(layout.part_path(out, n).read_text())
        for n in shards
    ]
    counts = ledgers.balance((source.path for source in listed), parts, found.bytes_of, skipped)
    if counts.clips:
        table, header = from_parts(parts, json.loads((out / PROTOCOL).read_text()))
        manifest_update.commit(out, table, header)
    ledgers.write(out, parts, skipped)
    print(ledgers.table(counts))
    if counts.rejected[process.ERROR]:
        print(f"errors   {counts.rejected[process.ERROR]}; tracebacks in {out / faults.ERRORS_FILE}")
    for line in _look_first(out, counts, parts):
        print(line)
    if not counts.clips:
        print(f"nothing was extracted; the reasons are in {out / ledgers.FILE}", file=sys.stderr)
        return command.EXIT_NOT_DONE
    for shard, reason in aside.items():
        print(f"shard {shard} is set aside ({reason}); type the same command to try it again", file=sys.stderr)
    return command.EXIT_NOT_DONE if aside else command.EXIT_DONE


def _without_shard(shard: int, reason: str, listed: list[sources.Source]) -> dict[str, Any]:
    """The part of a shard that could not be made."""
    rows = [
        {"source": source.path, "identity": source.identity, "state": ledgers.REJECTED, "reason": SET_ASIDE}
        | {"message": reason, "spans": []}
        for source in listed
        if source.shard == shard
    ]
    return {"shard": shard, "sources": rows, "clips": [], "columns": {}}


def add_run(out: Path, frames: int, started: float, workers: int) -> None:
    """Note how fast this worker was."""
    if frames:
        seconds = time.monotonic() - started
        run = Throughput(frames, seconds, seconds * workers)
        throughput.append(out, run)
        print(f"frames   {run}")


def _look_first(out: Path, counts: ledgers.ExtractionCounts, parts: list[dict[str, Any]]) -> Iterator[str]:
    """What a person should look at before anything is trained on these clips."""
    rejected = Counter({state: n for state, n in counts.spans.items() if state != ledgers.KEPT})
    for rule, number in rejected.most_common(1):
        yield f"first    {number} of {counts.spans.total()} spans are rejected as {rule}: is its limit right?"
    for reason, number in counts.rejected.most_common(1):
        yield f"first    {number} of {counts.sources} sources give no clip for {reason}"
    silent = Counter(clip["facts"]["why_silent"] for part in parts for clip in part["clips"])
    silent.pop("", None)
    if silent:
        listed = ", ".join(f"{number} {why}" for why, number in silent.most_common())
        yield f"first    {silent.total()} of {counts.clips} clips teach no speech: {listed}"
    protocol = out / PROTOCOL
    if protocol.exists() and json.loads(protocol.read_text())["speech"] == EnergyRule.name:
        yield "first    without Silero's network music and noise may count as speech: pip install '.[judges]'"
    if counts.clips:
        yield f"pictures python -m data_pipeline stats {shlex.quote(str(out))} -o stats.html"
