"""A training on Kubernetes: a JobSet whose pods start and restart together, or Kubeflow Trainer's runtime and TrainJob.

Both come from one model of the job (launch/clusters/job.py) and hold the same pod. Exit codes decide what follows a
failure (docs/launch.md): a pod that ends with 75 fails its Job, and the JobSet restarts all for free; 1 or 2 fails the
JobSet for good; anything else, such as 137, restarts all a limited number of times.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from typing import Any

from launch.clusters.facts import cluster_of
from launch.clusters.job import ClusterJob, as_yaml, job_of, named, parser_of
from launch.clusters.kubectl import KINDS, PROGRAM, Kubectl
from launch.words import is_training, settings_of
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, EXIT_RUN_AGAIN, EXIT_USAGE, UserError

CONTAINER = "node"  # the name that Kubeflow Trainer gives to the container that trains
PORT = 29500
CONFIG = "/etc/mytalk"  # where the ConfigMap lies in the container
QUEUE = "kueue.x-k8s.io/queue-name"
TRAINER_STEP = "trainer.kubeflow.org/trainjob-ancestor-step"  # by which the controller finds the Job that trains
INDEX = "batch.kubernetes.io/job-completion-index"
FOR_GOOD = [EXIT_NOT_DONE, EXIT_USAGE]


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m launch kubernetes`."""
    parser = parser_of(
        PROGRAM,
        "Run a command on several nodes of a Kubernetes cluster, as a JobSet (default) or as Kubeflow Trainer's "
        "TrainingRuntime and TrainJob. A signal's end (75) restarts all pods for free, a crash a few times, a setting "
        "that must be mended never.",
        f"{PROGRAM} --cluster lab --nodes 4 --dry-run -- train motion --config configs/paper/motion.yaml "
        "shards=/data/mine run=/runs/motion identity=/runs/identity/model",
    )
    parser.add_argument("--kind", choices=tuple(KINDS), default="jobset", help="what is submitted")
    parser.add_argument("--detach", action="store_true", help="submit, and do not follow the logs")
    parser.add_argument("--follow", metavar="NAME", help="the logs and the state of a job that was submitted before")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the job, or submit and follow it; UserError for what cannot be submitted."""
    if args.follow is not None:
        if args.words:
            raise UserError("--follow is of a job that was submitted before; leave the words out")
        kubectl = Kubectl(cluster_of(args.cluster).namespace, named(args.follow), args.kind, args.cluster)
        return kubectl.follow(new=False)
    job = resolved(job_of(args))
    if args.dry_run:
        sys.stdout.write(as_yaml(documents(job, args.kind)))
        return EXIT_DONE
    kubectl = Kubectl(job.cluster.namespace, job.name, args.kind, args.cluster)
    print("\n".join(kubectl.submit(documents(job, args.kind))), flush=True)
    return EXIT_DONE if args.detach else kubectl.follow()


def resolved(job: ClusterJob) -> ClusterJob:
    """The job with every setting of its training. UserError for settings that training would refuse."""
    if not is_training(job.words):
        return job
    done = subprocess.run(
        [sys.executable, "-m", *job.words, "--show-config"], capture_output=True, text=True, check=False
    )
    if done.returncode == EXIT_DONE:
        return dataclasses.replace(job, config=done.stdout)
    line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if "is missing; install it with" not in line:
        raise UserError(line.partition("error: ")[2] or line)
    print(f"the ConfigMap holds only what was typed: {line.partition('error: ')[2]}", file=sys.stderr)
    return job


def documents(job: ClusterJob, kind: str) -> list[dict[str, Any]]:
    """What is submitted: the ConfigMap of the settings, and the job."""
    if kind == "jobset":
        return [config_map(job), jobset(job)]
    return [config_map(job), training_runtime(job), train_job(job)]


def metadata(job: ClusterJob) -> dict[str, Any]:
    """Name, namespace, and the queue of Kueue where there is one."""
    labels = {"app.kubernetes.io/name": "mytalk"} | ({QUEUE: job.cluster.queue} if job.cluster.queue else {})
    return {"name": job.name, "namespace": job.cluster.namespace, "labels": labels}


def config_map(job: ClusterJob) -> dict[str, Any]:
    """Every setting as it was when the job was submitted; where they are not known here, those that were typed."""
    typed = json.dumps(settings_of(job.words), indent=2, default=str)
    data = {"config.yaml": job.config} if job.config else {"settings.json": typed}
    data["words.json"] = json.dumps(job.words)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(job), "data": data}


def resources(job: ClusterJob) -> dict[str, Any]:
    """What a pod asks for."""
    amounts = {"nvidia.com/gpu": str(job.gpus)} if job.gpus else {}
    if job.cpus:
        amounts["cpu"] = str(job.cpus)
    return {"limits": amounts, "requests": amounts} if amounts else {}


def environment(job: ClusterJob, place: bool) -> list[dict[str, Any]]:
    """The variables of a pod; its `place` in the names of torchrun, where Kubeflow Trainer does not set them."""
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in job.cluster.variables().items()]
    if "OMP_NUM_THREADS" not in job.cluster.environment:
        found.append({"name": "OMP_NUM_THREADS", "value": str(max(1, job.cpus // job.processes))})
    if place:
        index = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
        first = f"{job.name}-{CONTAINER}-0-0.{job.name}"
        told = {"PET_NNODES": job.nodes, "PET_NPROC_PER_NODE": job.processes, "PET_MASTER_ADDR": first}
        found += [{"name": name, "value": str(value)} for name, value in (told | {"PET_MASTER_PORT": PORT}).items()]
        found.append({"name": "PET_NODE_RANK", "valueFrom": index})
    return found


def pod(job: ClusterJob, place: bool) -> dict[str, Any]:
    """The pod of a node."""
    claims = job.cluster.volumes
    mounts: list[dict[str, Any]] = [
        {"name": f"claim-{number}", "mountPath": path} for number, path in enumerate(claims.values())
    ]
    volumes: list[dict[str, Any]] = [
        {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": name}} for number, name in enumerate(claims)
    ]
    mounts += [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "config", "mountPath": CONFIG, "readOnly": True}]
    size = f"{max(1, round(job.cluster.shm_gb * 1024))}Mi"
    volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    if job.cluster.scratch:
        mounts.append({"name": "scratch", "mountPath": job.cluster.scratch})
        volumes.append({"name": "scratch", "emptyDir": {}})
    volumes.append({"name": "config", "configMap": {"name": job.name}})
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.image,
        "command": escaped(job.command()),
        "env": environment(job, place),
        "volumeMounts": mounts,
    }
    if asked := resources(job):
        container["resources"] = asked
    if place:
        container["ports"] = [{"containerPort": PORT}]
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": job.grace_s,
        "containers": [container],
        "volumes": volumes,
    }
    if job.cluster.node_selector:
        spec["nodeSelector"] = dict(job.cluster.node_selector)
    return spec


def escaped(words: list[str]) -> list[str]:
    """Words in which Kubernetes replaces no $(VARIABLE): a $ before a parenthesis is written twice."""
    return [word.replace("$", "$$") for word in words]


def job_template(job: ClusterJob, place: bool) -> dict[str, Any]:
    """The Job: a pod for each node, which all fail when one does."""
    codes = {"containerName": CONTAINER, "operator": "In"}
    rules = [
        {"action": "FailJob", "onExitCodes": {**codes, "values": [EXIT_RUN_AGAIN]}},
        {"action": "FailJob", "onExitCodes": {**codes, "values": FOR_GOOD}},
    ]
    return {
        "spec": {
            "parallelism": job.nodes,
            "completions": job.nodes,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "podFailurePolicy": {"rules": rules},
            "template": {"metadata": {"labels": {"app.kubernetes.io/name": "mytalk"}}, "spec": pod(job, place)},
        }
    }


def failure_policy(job: ClusterJob) -> dict[str, Any]:
    """What follows when the Job has failed; its message names the exit code that its rule matched."""
    failed = {"onJobFailureReasons": ["PodFailurePolicy"]}
    again, good = (rf"exit code ({'|'.join(map(str, codes))}) " for codes in ([EXIT_RUN_AGAIN], FOR_GOOD))
    rules = [
        {"name": name, "action": action, "onJobFailureMessagePatterns": [pattern], **failed}
        for name, action, pattern in (
            ("runAgain", "RestartJobSetAndIgnoreMaxRestarts", again),
            ("forGood", "FailJobSet", good),
        )
    ]
    return {"maxRestarts": job.restarts, "rules": rules}


def jobset_spec(job: ClusterJob, place: bool) -> dict[str, Any]:
    """One replicated Job; names of pods that lead to their addresses."""
    template = job_template(job, place)
    return {
        "network": {"enableDNSHostnames": True, "subdomain": job.name},
        "failurePolicy": failure_policy(job),
        "replicatedJobs": [{"name": CONTAINER, "replicas": 1, "template": template}],
    }


def jobset(job: ClusterJob) -> dict[str, Any]:
    """The JobSet."""
    spec = jobset_spec(job, place=True)
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata(job), "spec": spec}


def training_runtime(job: ClusterJob) -> dict[str, Any]:
    """Kubeflow Trainer's runtime: the same Job, to which the controller adds PET_* and the network."""
    spec = jobset_spec(job, place=False)
    del spec["network"]
    spec["replicatedJobs"][0]["template"]["metadata"] = {"labels": {TRAINER_STEP: "trainer"}}
    template = {"mlPolicy": {"numNodes": job.nodes, "torch": {}}, "template": {"spec": spec}}
    kind = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime"}
    return {**kind, "metadata": metadata(job), "spec": template}


def train_job(job: ClusterJob) -> dict[str, Any]:
    """The TrainJob that runs it."""
    trainer: dict[str, Any] = {
        "image": job.image,
        "command": escaped(job.command()),
        "numNodes": job.nodes,
        "numProcPerNode": job.processes,
    }
    if asked := resources(job):
        trainer["resourcesPerNode"] = asked
    reference = {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": job.name}
    kind = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"}
    return {**kind, "metadata": metadata(job), "spec": {"runtimeRef": reference, "trainer": trainer}}
