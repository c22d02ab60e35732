"""Where a host stands among those of a job, told by whoever started it. The table of docs/launch.md is this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mytalk.command import UserError

PORT = 29500  # torchrun's
PARTS = ("nodes", "node_rank", "processes", "host", "port")
# Who started it -> the variable of each part. A list of addresses stands for its first.
NAMES: dict[str, dict[str, str]] = {
    "torchrun, Kubeflow Trainer": {
        "nodes": "PET_NNODES",
        "node_rank": "PET_NODE_RANK",
        "processes": "PET_NPROC_PER_NODE",
        "host": "PET_MASTER_ADDR",
        "port": "PET_MASTER_PORT",
    },
    "SkyPilot": {
        "nodes": "SKYPILOT_NUM_NODES",
        "node_rank": "SKYPILOT_NODE_RANK",
        "processes": "SKYPILOT_NUM_GPUS_PER_NODE",
        "host": "SKYPILOT_NODE_IPS",
        "port": "MASTER_PORT",
    },
    "dstack": {
        "nodes": "DSTACK_NODES_NUM",
        "node_rank": "DSTACK_NODE_RANK",
        "processes": "DSTACK_GPUS_PER_NODE",
        "host": "DSTACK_MASTER_NODE_IP",
        "port": "MASTER_PORT",
    },
    "mpirun, one process a host": {
        "nodes": "OMPI_COMM_WORLD_SIZE",
        "node_rank": "OMPI_COMM_WORLD_RANK",
        "processes": "PET_NPROC_PER_NODE",
        "host": "MASTER_ADDR",
        "port": "MASTER_PORT",
    },
    "srun, one task a host": {
        "nodes": "SLURM_NNODES",
        "node_rank": "SLURM_NODEID",
        "processes": "SLURM_GPUS_ON_NODE",
        "host": "MASTER_ADDR",
        "port": "MASTER_PORT",
    },
}
# What tells that a launcher is there.
TOLD_BY = {"SKYPILOT_NODE_RANK", "DSTACK_NODE_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_NODEID"}
TOLD_BY |= {"PET_NNODES", "PET_NODE_RANK"}


@dataclass(frozen=True)
class Place:
    """A host among those of a job."""

    nodes: int
    node_rank: int
    processes: int
    endpoint: str


def place(environment: Mapping[str, str], given: Mapping[str, Any]) -> Place:
    """This host's place: what was typed, else what the environment says. UserError where it is incomplete."""
    names = next((names for names in NAMES.values() if TOLD_BY & {n for n in names.values() if environment.get(n)}), {})
    texts: dict[str, Any] = {part: environment.get(name) for part, name in names.items()}
    host, _, port = str(given.get("endpoint", "")).rpartition(":")
    typed = {**given, **({"host": host, "port": port} if given.get("endpoint") else {})}
    texts |= {part: typed[part] for part in PARTS if part in typed}
    nodes = number("nodes", texts.get("nodes") or 1, names, 1)
    processes = number("processes", texts.get("processes") or 1, names, 1)
    if nodes > 1:
        missing = [part for part in ("node_rank", "host") if texts.get(part) in (None, "")]
        if missing:
            asked = [names.get(part) or option(part) for part in missing]
            raise UserError(f"this is one of {nodes} hosts, but {' and '.join(asked)} is not set; set it, or type it")
    node_rank = number("node_rank", texts.get("node_rank") or 0, names, 0)
    if node_rank >= nodes:
        raise UserError(f"host {node_rank} of {nodes} is none; they count from 0 to {nodes - 1}")
    first = (str(texts.get("host") or "127.0.0.1").split() or ["127.0.0.1"])[0]
    return Place(nodes, node_rank, processes, f"{first}:{number('port', texts.get('port') or PORT, names, 1)}")


def option(part: str) -> str:
    """The option that sets a part."""
    return "--endpoint HOST:PORT" if part in ("host", "port") else f"--{part.replace('_', '-')}"


def number(part: str, text: Any, names: Mapping[str, str], least: int) -> int:
    """A part as a number; UserError names the variable or option that is none."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise UserError(f"{names.get(part) or option(part)} must be a number of at least {least}, not {text!r}")
    return value
