"""What stays the same on a cluster from job to job, in one small YAML that is named once: `--cluster lab`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mytalk import config
from mytalk.command import UserError

FOLDER = Path("configs/clusters")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
INTERFACE = re.compile(r"[A-Za-z0-9_.,^=@-]+")


@dataclass
class Cluster:
    """The keys of a cluster's file. Each launcher takes what concerns it; docs/launch.md has the table."""

    hostfile: str = ""  # ssh
    partition: str = ""  # Slurm
    account: str = ""  # Slurm
    gpus_per_node: int = 0
    cpus_per_rank: int = 0
    time: str = ""  # Slurm
    image: str = ""  # of a container: Slurm, Kubernetes, SkyPilot
    container: str = ""  # Slurm: pyxis or apptainer
    mounts: list[str] = field(default_factory=list)  # Slurm: HOST:CONTAINER[:ro]
    interface: str = ""  # network interface of gloo and NCCL
    environment: dict[str, str] = field(default_factory=dict)
    scratch: str = ""  # of a node, on its own disk: where ranks put what is temporary
    folder: str = ""  # ssh: of the checkout, on the hosts
    python: str = ""  # ssh, Slurm
    namespace: str = "default"  # Kubernetes
    queue: str = ""  # Kubernetes: Kueue's
    volumes: dict[str, str] = field(default_factory=dict)  # Kubernetes: claim -> folder
    shm_gb: float = 8.0  # Kubernetes: size of /dev/shm
    node_selector: dict[str, str] = field(default_factory=dict)  # Kubernetes
    accelerators: str = ""  # SkyPilot, such as H100:8
    cloud: str = ""  # SkyPilot

    def variables(self) -> dict[str, str]:
        """The environment of every rank."""
        by_interface = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), self.interface)
        scratch = {"TMPDIR": self.scratch} if self.scratch else {}
        return {**(by_interface if self.interface else {}), **scratch, **self.environment}


def cluster_of(name: str | None) -> Cluster:
    """The facts of `configs/clusters/NAME.yaml`, or of a file that is named itself; none without a name.

    Raises UserError where it is not there or says what cannot be.
    """
    if name is None:
        return Cluster()
    file = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UserError(f"no cluster file {file}; there are: {there or 'none'}; docs/launch.md shows one")
    cluster = config.load(Cluster, file)
    for variable, value in cluster.environment.items():
        if not VARIABLE.fullmatch(variable) or "\0" in value:
            raise UserError(f"{file}: environment: {variable!r} cannot be a variable")
    if cluster.interface and not INTERFACE.fullmatch(cluster.interface):
        raise UserError(f"{file}: interface {cluster.interface!r} cannot be one")
    if cluster.scratch and not (cluster.scratch.startswith("/") and cluster.scratch.isprintable()):
        raise UserError(f"{file}: scratch must be an absolute folder, not {cluster.scratch!r}")
    if cluster.container not in ("", "pyxis", "apptainer"):
        raise UserError(f"{file}: container must be pyxis or apptainer, not {cluster.container!r}")
    return cluster
