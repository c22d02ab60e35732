"""A training on a cloud through SkyPilot: a task YAML, run as a managed job that is recovered when its machines go."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from launch.clusters.job import ClusterJob, as_yaml, job_of, parser_of
from mytalk.command import EXIT_DONE, EXIT_RUN_AGAIN, UserError

PROGRAM = "python -m launch skypilot"
PORT = 29500
CLOUDS = ("aws", "azure", "gcp", "kubernetes", "lambda", "nebius", "oci", "runpod", "slurm", "ssh", "vast")
SETUP = "python -m venv .venv && .venv/bin/pip install --quiet -c constraints.txt -e '.[train]'"


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch skypilot`."""
    parser = parser_of(
        PROGRAM,
        "Run a command on machines that SkyPilot rents: the checkout is copied there, the environment is made, and "
        "a managed job recovers when a machine is taken away or a rank ends with 75.",
        f"{PROGRAM} --cluster lab --nodes 2 --gpus-per-node 8 --dry-run -- train motion "
        "--config configs/paper/motion.yaml shards=s3://mine/shards run=/runs/motion "
        "identity=/runs/identity/model",
    )
    parser.add_argument("--mount", action="append", default=[], metavar="FOLDER=URL", help="a bucket at a folder there")
    parser.add_argument(
        "--on-demand", action="store_true", help="machines that are not taken away, at their full price"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the task, or launch it as a managed job."""
    job = job_of(args, in_container=False)
    text = as_yaml([task(job, mounts(args.mount), spot=not args.on_demand)])
    if args.dry_run:
        sys.stdout.write(text)
        return EXIT_DONE
    sky = shutil.which("sky")
    if sky is None:
        raise UserError("there is no sky here; pip install skypilot in an environment of its own, or use --dry-run")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return subprocess.run([sky, "jobs", "launch", "--name", job.name, file.name], check=False).returncode


def mounts(given: list[str]) -> dict[str, str]:
    """Folders and what lies there, from FOLDER=URL."""
    found = {}
    for text in given:
        folder, equals, url = text.partition("=")
        if not equals or not folder.startswith("/") or "://" not in url or not url.isprintable():
            raise UserError(f"--mount takes FOLDER=URL, such as /data=s3://bucket, not {text!r}")
        found[folder] = url
    return found


def task(job: ClusterJob, file_mounts: dict[str, str], spot: bool = True) -> dict[str, Any]:
    """The task. `run` is given to a shell by SkyPilot, so every word is quoted."""
    asked: dict[str, Any] = {"use_spot": spot}
    if job.image:
        asked["image_id"] = f"docker:{job.image}"
    accelerators = job.cluster.accelerators or (f"GPU:{job.gpus}" if job.gpus else "")
    if accelerators:
        asked["accelerators"] = accelerators
    if job.cpus:
        asked["cpus"] = f"{job.cpus}+"
    if job.cluster.cloud:
        if job.cluster.cloud not in CLOUDS:
            raise UserError(f"cloud must be one of {', '.join(CLOUDS)}, not {job.cluster.cloud!r}")
        asked["infra"] = job.cluster.cloud
    asked["job_recovery"] = {"max_restarts_on_errors": job.restarts, "recover_on_exit_codes": [EXIT_RUN_AGAIN]}
    variables = {"MASTER_PORT": str(PORT), **job.cluster.variables()}
    typed = job.command(".venv/bin/python", "--processes", str(job.processes))
    found: dict[str, Any] = {
        "name": job.name,
        "num_nodes": job.nodes,
        "workdir": ".",
        "resources": asked,
        "envs": variables,
        "setup": SETUP,
        "run": f"exec {shlex.join(typed)}\n",
    }
    return found | ({"file_mounts": file_mounts} if file_mounts else {})
