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
ENOUGH = 3.0  # times what is asked of a loader, at which nobody waits for it
IDLE = 0.25  # of a step without the networks' work, from which on something is to be gained
CHECKPOINTS = 3  # that must fit: those kept, and the one being written
OK, WARN, BAD = "ok", "WARN", "BAD"


@dataclass(frozen=True)
class Verdict:
    """One row of the table."""

    what: str
    verdict: str
    found: str


@dataclass(frozen=True)
class Step:
    """What a step was seen to take, in seconds, on the rank that waits for the others least."""

    seconds: float
    data: float  # waiting for its loader
    compute: float  # forward and backward, as its networks alone take
    rest: float  # gradients sent and added up, the optimizer's step, waiting for slower ranks

    def parts(self) -> dict[str, float]:
        """By the resource that each part asks for."""
        return {"data": self.data, "compute": self.compute, "exchange": self.rest}


def step_of(ranks: Sequence[dict[str, Any]], accumulation: int) -> Step:
    """Of what all ranks have measured at the same time: the others wait for the one that waits least."""
    steps = []
    for one in ranks:
        compute = min(accumulation * one["compute_s"], one["step_s"] - one["wait_s"])
        steps.append(Step(one["step_s"], one["wait_s"], compute, one["step_s"] - one["wait_s"] - compute))
    slowest = max(step.seconds for step in steps)
    least = min(steps, key=lambda step: step.rest)
    return Step(slowest, least.data, least.compute, slowest - least.data - least.compute)


def verdicts(ranks: Sequence[dict[str, Any]], planned: dict[str, Any], read_per_example: float) -> list[Verdict]:
    """Of what each rank has measured and what `train --dry-run` says. `read_per_example`: bytes of shards."""
    rows = [alike(ranks), data(ranks), clocks(ranks), *room(ranks, planned), slow_ranks(ranks, planned)]
    return [*rows, *expected(ranks, planned, read_per_example)]


def expected(ranks: Sequence[dict[str, Any]], planned: dict[str, Any], read_per_example: float) -> list[Verdict]:
    """Where the time of a step goes, what each resource alone would allow, and examples a second of the whole job."""
    size, (_, accumulation, micro) = len(ranks), planned["batch"]
    step = step_of(ranks, accumulation)
    rate = planned["global_batch"] / step.seconds
    machine = rate / len({one["host"] for one in ranks}) * read_per_example
    loads = size * min(one["loader_examples_per_s"] for one in ranks)
    computes = size * micro / max(one["compute_s"] for one in ranks)
    alone = {
        "data": f"the loaders alone give {loads:.3g} examples/s, {megabytes(machine)} a machine are asked for",
        "compute": f"the networks alone take {computes:.3g} examples/s",
        "exchange": "gradients, the optimizer's step and waiting for slower ranks"
        + (f"; all-reduce {gb(min(one['reduce_bytes_per_s'] for one in ranks))} a second" if size > 1 else ""),
    }
    narrow = max(step.parts(), key=lambda name: step.parts()[name])
    rows = [
        # Networks that are at work all the time are what is wanted.
        Verdict(
            name,
            WARN if name != "compute" and seconds > IDLE * step.seconds else OK,
            f"{seconds / step.seconds:.0%} of a step: {alone[name]}",
        )
        for name, seconds in step.parts().items()
    ]
    rows.append(Verdict("bottleneck", OK, f"{narrow}: {step.parts()[narrow]:.3g} of {step.seconds:.3g} s a step"))
    taken = min(one["steps"] for one in ranks)
    assumes = f"as {taken} steps went just now; if the machines stay as busy, without checkpoints and validation"
    return [*rows, Verdict("rate", OK, f"{rate:.3g} examples/s in all, {assumes}")]


def data(ranks: Sequence[dict[str, Any]]) -> Verdict:
    """Whether all read the same clips."""
    for one in ranks[1:]:
        if one["data"] != ranks[0]["data"]:
            return Verdict("shards", BAD, f"{ranks[0]['host']} and {one['host']} see other clips or settings")
    return Verdict("shards", OK, f"the same {ranks[0]['data']} on all")


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
    gpus = [bytes_of(gpu) for one in ranks for gpu in one["gpus"]]
    on_host = stage["host"] if gpus else stage["peak"]
    memory, needed = min(one["memory_bytes"] for one in ranks), most * on_host
    rows = [Verdict("memory", OK if memory > needed else BAD, f"{gb(memory)} are free, {gb(needed)} are needed a host")]
    if gpus:
        asked = stage["peak"] - stage["host"]
        fits = OK if min(gpus) > asked else BAD
        rows.append(Verdict("GPU memory", fits, f"{gb(min(gpus))} a GPU, {gb(asked)} are needed, as a CPU takes it"))
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


def bytes_of(gpu: str) -> float:
    """Memory of a GPU as its driver names it, such as `NVIDIA H100 80GB HBM3, 81559 MiB`."""
    return float(gpu.rpartition(",")[2].split()[0]) * 2**20


def slow_ranks(ranks: Sequence[dict[str, Any]], planned: dict[str, Any]) -> Verdict:
    """Ranks that compute much slower than the median, or load so while little is left: all others wait for them."""
    named, needed = [], planned["global_batch"] / len(ranks) / max(one["step_s"] for one in ranks)
    computes = statistics.median(1 / one["compute_s"] for one in ranks)
    loads = statistics.median(one["loader_examples_per_s"] for one in ranks)
    for one in ranks:
        shares = {"computes": 1 / one["compute_s"] / computes, "loads": one["loader_examples_per_s"] / loads}
        if one["loader_examples_per_s"] > ENOUGH * needed:
            del shares["loads"]
        for word, share in shares.items():
            if share < SLOW:
                named.append(f"rank {one['rank']} on {one['host']} {word} at {share:.0%} of the median")
    return Verdict("slow ranks", WARN if named else OK, "; ".join(named) or "none")


def machines(ranks: Sequence[dict[str, Any]], micro_batch: int) -> list[str]:
    """A table of what each machine is and measured: the least of its ranks."""
    rows = [("machine", "ranks", "code", "memory", "/dev/shm", "disk", "loads/s", "computes/s", "all-reduce/s")]
    first = {one["rank"]: one["host"] for one in ranks}
    for host in dict.fromkeys(first[rank] for rank in sorted(first)):
        own = [one for one in ranks if one["host"] == host]

        def least(key: str, own: Sequence[dict[str, Any]] = own) -> float:
            return min(one[key] or 0 for one in own)

        sizes = [gb(least(key)) for key in ("memory_bytes", "shm_bytes", "disk_bytes")]
        computes = micro_batch / max(one["compute_s"] for one in own)
        rates = f"{least('loader_examples_per_s'):.3g}", f"{computes:.3g}", gb(least("reduce_bytes_per_s"))
        rows.append((host, str(len(own)), own[0]["code"], *sizes, *rates))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def megabytes(count: float) -> str:
    """Bytes a second in words."""
    return f"{count / 1e6:.3g} MB/s"


def gb(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.3g} GB"
