"""What measurements and a dry run say together: a verdict for each thing, the bottleneck, and the rate to expect."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.hosts import probe

MOST_SKEW_S = 2.0
LEAST_OPEN_FILES = 1024
LEAST_SHM_BYTES = 1 << 30
SLOW = 0.7  # of the median: a rank that holds up the others
CHECKPOINTS = 3  # that must fit: those kept, and the one being written
OK, WARN, BAD = "ok", "WARN", "BAD"


@dataclass(frozen=True)
class Verdict:
    """One row of the table."""

    what: str
    verdict: str
    found: str


def verdicts(ranks: Sequence[dict[str, Any]], planned: dict[str, Any], read_per_example: float) -> list[Verdict]:
    """Of what each rank has measured and what `train --dry-run` says. `read_per_example`: bytes of shards."""
    rows = [alike(ranks), clocks(ranks), *room(ranks, planned), slow_ranks(ranks)]
    rates = expected(ranks, planned, read_per_example)
    narrow = min(rates, key=lambda name: rates[name])
    for name, rate in rates.items():
        rows.append(Verdict(f"{name} allows", WARN if name == narrow else OK, f"{rate:.3g} examples/s"))
    rows.append(Verdict("bottleneck", OK, f"{narrow}: at most {rates[narrow]:.3g} examples/s in all"))
    return rows


def expected(ranks: Sequence[dict[str, Any]], planned: dict[str, Any], read_per_example: float) -> dict[str, float]:
    """Examples a second of the whole job that each resource allows: the slowest rank counts for all."""
    size = len(ranks)
    rates = {"compute": size * min(one["flops_per_s"] for one in ranks) / max(planned["flops_per_example"], 1.0)}
    read = min(one["read_bytes_per_s"] for one in ranks)
    if read and read_per_example:
        rates["storage"] = size * read / read_per_example
    reduced = min(one["reduce_bytes_per_s"] for one in ranks)
    if reduced:
        step_s = 4 * sum(planned["parameters"].values()) / reduced
        rates["network"] = planned["global_batch"] / max(step_s, 1e-12)
    return rates


def alike(ranks: Sequence[dict[str, Any]]) -> Verdict:
    """Whether all have the same code and versions."""
    for one in ranks[1:]:
        if unlike := probe.difference(ranks[0], one):
            return Verdict("code", BAD, f"{ranks[0]['host']} and {one['host']}: {unlike}")
    return Verdict("code", OK, f"{ranks[0]['code']} on {len({one['host'] for one in ranks})} hosts")


def clocks(ranks: Sequence[dict[str, Any]]) -> Verdict:
    """How far the clocks are apart; all were read at about the same moment."""
    times = [one["time"] for one in ranks]
    skew = max(times) - min(times)
    return Verdict("clocks", OK if skew < MOST_SKEW_S else WARN, f"{skew:.2f} s apart")


def room(ranks: Sequence[dict[str, Any]], planned: dict[str, Any]) -> list[Verdict]:
    """Memory, /dev/shm, disk and open files, the least of all machines against what is needed."""
    stage = planned["memory_bytes"][str(planned["zero_stage"])]
    per_host: dict[str, int] = {}
    for one in ranks:
        per_host[one["host"]] = per_host.get(one["host"], 0) + 1
    most = max(per_host.values())
    memory, needed = min(one["memory_bytes"] for one in ranks), most * stage["peak"]
    rows = [Verdict("memory", OK if memory > needed else BAD, f"{gb(memory)} are free, {gb(needed)} are needed a host")]
    shm = [one["shm_bytes"] for one in ranks if one["shm_bytes"] is not None]
    least = min(shm, default=0)
    rows.append(Verdict("/dev/shm", OK if least >= LEAST_SHM_BYTES else WARN, f"{gb(least)} are free"))
    disk, copies = min(one["disk_bytes"] for one in ranks), CHECKPOINTS * len(ranks) * stage["host"]
    rows.append(
        Verdict(
            "disk", OK if disk > copies else BAD, f"{gb(disk)} are free, {CHECKPOINTS} checkpoints take {gb(copies)}"
        )
    )
    files = min(one["open_files"] for one in ranks)
    rows.append(Verdict("open files", OK if files >= LEAST_OPEN_FILES else WARN, f"{files} a process"))
    return rows


def slow_ranks(ranks: Sequence[dict[str, Any]]) -> Verdict:
    """Ranks that compute or read much slower than the median; all others would wait for them."""
    named = []
    for key, word in (("flops_per_s", "computes"), ("read_bytes_per_s", "reads")):
        middle = statistics.median(one[key] for one in ranks)
        named += [
            f"rank {one['rank']} on {one['host']} {word} at {one[key] / middle:.0%} of the median"
            for one in ranks
            if middle and one[key] < SLOW * middle
        ]
    return Verdict("slow ranks", WARN if named else OK, "; ".join(named) or "none")


def machines(ranks: Sequence[dict[str, Any]]) -> list[str]:
    """A table of what each machine is and measured: the least of its ranks."""
    rows = [("machine", "ranks", "code", "memory", "/dev/shm", "disk", "reads/s", "FLOP/s", "all-reduce/s")]
    first = {one["rank"]: one["host"] for one in ranks}
    for host in dict.fromkeys(first[rank] for rank in sorted(first)):
        own = [one for one in ranks if one["host"] == host]

        def least(key: str, own: Sequence[dict[str, Any]] = own) -> float:
            return min(one[key] or 0 for one in own)

        sizes = [gb(least(key)) for key in ("memory_bytes", "shm_bytes", "disk_bytes", "read_bytes_per_s")]
        flops = f"{least('flops_per_s') / 1e9:.3g} G"
        rows.append((host, str(len(own)), own[0]["code"], *sizes, flops, gb(least("reduce_bytes_per_s"))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def gb(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.3g} GB"
