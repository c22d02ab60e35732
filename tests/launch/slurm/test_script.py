"""`python -m launch slurm`: its script run by bash among stand-ins of Slurm. A real one: slurm/test_two_nodes.py."""

from __future__ import annotations

import json
import shlex
import signal
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.slurm.job import CONTAINERS, job_of
from launch.slurm.script import in_allocation, script
from tests.helpers.checkout import ROOT
from tests.helpers.slurm_stand_ins import SRUN, TRAIN, Cluster, parsed, stand_in


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("cluster"))


def options(text: str) -> dict[str, str | None]:
    """The #SBATCH lines."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {key: value if equals else None for key, equals, value in (line.partition("=") for line in lines)}


NASTY = st.sampled_from(
    [
        "a b",
        "$(exit 9)",
        "`exit`",
        "'",
        '"',
        ";",
        "\\",
        "\n#PBS -N x",
        "\\'\r\n$x",
        "",
        "*",
        "~",
        "--",
        "{}",
        "\udcff",
        "!",
    ]
)
WORDS = st.lists(
    st.one_of(NASTY, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))), max_size=4
)


@settings(max_examples=20, deadline=None)
@given(words=WORDS, nodes=st.integers(1, 3), ranks=st.integers(1, 2))
def test_every_rank_gets_its_words_and_its_place(cluster, words, nodes, ranks):
    """Whatever is in a word, python gets it unchanged; RANK and the others are as torchrun would set them.

    No word begins a line of the script: sbatch would read it as an option if it looked like one.
    """
    job = cluster.job(nodes=nodes, ranks_per_node=ranks)
    done = cluster.run(job, ["train", "motion", *words])
    assert script(job, ["train", "motion", *words]).count("\n") == script(job, ["train", "motion"]).count("\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for rank in range(nodes * ranks):
        assert cluster.strings(f"{rank}.argv") == ["-m", "train", "motion", *words]
        told = cluster.environment(rank)
        assert (told["RANK"], told["LOCAL_RANK"]) == (str(rank), str(rank % ranks))
        assert (told["WORLD_SIZE"], told["LOCAL_WORLD_SIZE"]) == (str(nodes * ranks), str(ranks))
        assert (told["MASTER_ADDR"], told["MASTER_PORT"]) == ("first-of-n[1-2]", "23456")
        assert told["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((75, 75, 75, 75), 75), ((0, 0, 0, 0), 0), ((0, 1, 0, 0), 1), ((75, 137, 75, 75), 137), ((1, 2, 143, 0), 143)],
)
def test_75_requeues_and_every_other_code_is_handed_on(cluster, codes, expected):
    done = cluster.run(cluster.job(), ["train"], codes)
    assert done.returncode == expected
    assert cluster.requeued() == ("requeue 123456" if expected == 75 else "")
    assert ("requeueing job 123456" in done.stdout) == (expected == 75)


SLEEP = """#!/bin/bash
echo "$1" >> "$RECORD/pauses"
number=$(wc -l < "$RECORD/pauses")
if ((number <= MADE)); then mkdir -p "$CHECKPOINTS/step-100000$number"; fi
"""


@pytest.mark.parametrize(
    ("code", "made", "restarts", "pauses"),
    [
        (137, 0, 2, [5, 10]),
        (70, 3, 2, [5, 5, 5, 5, 10]),
        (70, 0, 8, [5, 10, 20, 40, 80, 160, 300, 300]),
        (1, 0, 2, []),
        (2, 0, 2, []),
        (0, 0, 2, []),
        (75, 0, 2, [5, 10]),
        (75, 0, 0, []),
        (75, 1, 2, [5]),  # the second start came to a checkpoint: it is requeued
    ],
)
def test_a_crash_is_tried_again_and_a_newer_checkpoint_begins_the_count_anew(
    cluster, tmp_path, code, made, restarts, pauses
):
    """`made`: starts that come to a new checkpoint. 75 without one, as where storage stays gone, is a crash."""
    run = tmp_path / "a 'run'; $(exit 9)"
    (run / "checkpoints/step-999999").mkdir(parents=True)
    stand_in(cluster.bin / "sleep", SLEEP)
    job = cluster.job(nodes=1, ranks_per_node=1, restarts=restarts)
    more = {"MADE": str(made), "CHECKPOINTS": str(run / "checkpoints")}
    done = cluster.run(job, ["train", "motion", f"run={run}"], (code,), **more)
    assert done.returncode == code
    requeued = code == 75 and made > 0
    assert cluster.requeued() == ("requeue 123456" if requeued else "")
    assert ("submit job 123456 again" in done.stderr) == (code == 75 and not requeued)
    told = cluster.record / "pauses"
    assert [int(line) for line in told.read_text().splitlines()] == pauses if pauses else not told.exists()
    noted = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()] if pauses else []
    assert [one["event"] for one in noted] == ["restart"] * len(pauses)
    assert all((one["code"], one["world_size"]) == (code, 1) for one in noted)


def test_a_training_whose_checkpoint_is_newer_is_requeued_and_one_whose_storage_is_gone_is_not(cluster, tmp_path):
    for run, moved in ((tmp_path / "kept", "step-1000000"), (tmp_path / "gone", "")):
        (run / "checkpoints/step-999999").mkdir(parents=True)
        become = f"mkdir {run}/checkpoints/{moved}" if moved else f"mv {run} {run}.away"
        python = stand_in(cluster.bin / "once", f"#!/bin/bash\necho $$ > $RECORD/0.pid\n{become}\nexit 75\n")
        job = cluster.job(nodes=1, ranks_per_node=1, python=str(python))
        assert cluster.run(job, ["train", "motion", f"run={run}"]).returncode == 75
        assert cluster.requeued() == ("requeue 123456" if moved else ""), run


def test_the_batch_shell_finds_the_run_folder_of_a_container(cluster):
    job = cluster.job(container="pyxis", image="a.sif", mounts=("/data:/data:ro", "/scratch/me:/runs"))
    assert "ls -d -- /scratch/me/mine/checkpoints/step-*" in script(job, ["train", "motion", "run=/runs/mine"])
    assert "ls -d -- runs/mine/checkpoints/step-*" in script(job, ["train", "motion", "run=runs/mine"])


def test_who_may_not_requeue_is_told_to_submit_again(cluster):
    done = cluster.run(cluster.job(), ["train"], (75,) * 4, requeue=1)
    assert done.returncode == 75
    assert done.stderr == "job 123456 cannot be requeued; submit it again to continue\n"


def test_a_rank_is_the_process_that_is_signalled_and_survives_early_and_late_signals(cluster):
    """No shell in between, and TERM and USR1 ignored until training catches them and after it has ended."""
    done = cluster.run(cluster.job(), ["train"])
    assert done.stderr == "", "the stand-in for srun compares process ids"
    ignored = int((cluster.record / "3.ignored").read_text().split()[1], 16)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        assert ignored >> (number - 1) & 1, signal.Signals(number).name


def test_scoring_is_ended_by_any_signal_and_is_sent_none_before_its_time(cluster):
    """It goes on where it stopped without having to be asked for a checkpoint."""
    done = cluster.run(cluster.job(), ["eval", "motion"])
    assert (done.returncode, done.stderr) == (0, "")
    ignored = int((cluster.record / "3.ignored").read_text().split()[1], 16)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        assert not ignored >> (number - 1) & 1, signal.Signals(number).name
    text = script(cluster.job(), ["eval", "motion"])
    assert "signal" not in options(text)
    typed = ["--nodes", "1", "--gpus-per-node", "1", "--time", "00:03:00", "--", "eval", "motion"]
    assert job_of(parsed(*typed)).time == "00:03:00", "no time is kept for a checkpoint"


def test_the_batch_shell_outlives_usr1(cluster):
    """`scancel --full` signals it as well; it must still requeue."""
    job, telling = cluster.job(nodes=1, ranks_per_node=1), "import os, signal; os.kill(os.getppid(), signal.SIGUSR1)"
    srun = cluster.bin / "srun"
    stand_in(srun, f"#!/bin/bash\nexec {shlex.join([sys.executable, '-c', telling + '; raise SystemExit(75)'])}\n")
    try:
        done = cluster.run(job, ["train"])
    finally:
        stand_in(srun, SRUN)
    assert done.returncode == 75
    assert cluster.requeued() == "requeue 123456"


def test_cpus_and_threads_of_a_rank(cluster):
    """srun is told the CPUs again (it does not inherit them), threads are as many, and the user's own wish wins."""
    job = cluster.job(cpus_per_rank=3)
    cluster.run(job, ["train"])
    assert "--cpus-per-task=3" in cluster.strings("srun")
    assert options(script(job, ["train"]))["cpus-per-task"] == "3"
    assert cluster.environment(0)["OMP_NUM_THREADS"] == "3"
    cluster.run(job, ["train"], OMP_NUM_THREADS="7")
    assert cluster.environment(0)["OMP_NUM_THREADS"] == "7"
    array = script(cluster.job(cpus_per_rank=3, elements=2), ["data_pipeline", "extract"])
    assert "OMP_NUM_THREADS:-1}" in array, "an element has a process for each CPU"
    cluster.run(cluster.job(), ["train"])
    assert not any(word.startswith("--cpus-per-task") for word in cluster.strings("srun"))


def test_the_lines_for_sbatch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs of mine"
    more = ["--sbatch", "gres=gpu:4", "--sbatch", "exclusive", "--sbatch", "comment=a #b", "--log", str(folder)]
    typed = ["--nodes", "2", "--gpus-per-node", "8", "--time", "1-12:00:00", "--partition", "a,b", "--account", "me"]
    job = job_of(parsed(*typed, *more, *TRAIN))
    assert options(script(job, ["train"])) == {
        "job-name": "train-motion",
        "nodes": "2",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "time": "1-12:00:00",
        "partition": "a,b",
        "account": "me",
        "chdir": str(tmp_path),
        "output": f'"{folder}/slurm-%j.out"',
        "signal": "USR1@120",
        "open-mode": "append",
        "requeue": None,
        "gres": "gpu:4",
        "exclusive": None,
        "comment": '"a #b"',
    }


@pytest.mark.parametrize("kind", CONTAINERS)
def test_in_a_container_ranks_still_get_their_words_and_place(cluster, kind):
    """pyxis: options of srun; apptainer: a program before Python, which is the process that is signalled."""
    stand_in(cluster.bin / "apptainer", '#!/bin/bash\nwhile [[ $1 != *.sif ]]; do shift; done\nshift\nexec "$@"\n')
    mounts = ("/data:/data:ro", "/my runs;$(x):/runs")
    variables = (("NCCL_DEBUG", "a b;$(exit 9)"), ("X", "line\n#SBATCH --wrap=x"))
    job = cluster.job(container=kind, image="a.sif", mounts=mounts, variables=variables, folder="/some; folder")
    done = cluster.run(job, ["train", "a $(exit 9)"])
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.strings("3.argv") == ["-m", "train", "a $(exit 9)"]
    assert cluster.environment(3)["RANK"] == "3"
    assert cluster.environment(3)["NCCL_DEBUG"] == "a b;$(exit 9)"
    assert cluster.environment(3)["X"] == "line\n#SBATCH --wrap=x"
    assert "\n#SBATCH --wrap" not in script(job, ["train"])
    told, started = cluster.strings("srun"), [str(cluster.python), "-m", "x"]
    pyxis = [f"--container-mounts={','.join(mounts)}", "--container-image=a.sif", "--container-workdir=/some; folder"]
    assert {*pyxis} <= {*told} if kind == "pyxis" else not any(word.startswith("--container") for word in told)
    looked_at = in_allocation(job, ["x"])  # before a training, in the same container
    assert {*pyxis} <= {*looked_at} if kind == "pyxis" else looked_at[-5:] == ["/some; folder", "a.sif", *started]
    if kind == "apptainer":
        assert ["--bind", "/some; folder:/some; folder", "--bind", mounts[0]] == told[told.index("--bind") :][:4]


def test_the_clusters_file_fills_in_what_is_not_typed(monkeypatch):
    monkeypatch.chdir(ROOT)
    job = job_of(parsed("--cluster", "lab", "--nodes", "2", *TRAIN))
    assert (job.gpus_per_node, job.cpus_per_rank, job.partition) == (8, 8, "gpu")
    assert (job.container, job.image, job.python) == ("pyxis", "mytalk-train:1", "python")
    assert ("NCCL_SOCKET_IFNAME", "eth0") in job.variables
    other = job_of(parsed("--cluster", "lab", "--nodes", "2", "--container", "apptainer", *TRAIN))
    assert (other.container, other.image, other.mounts) == ("apptainer", "mytalk-train:1", job.mounts)
    typed = job_of(parsed("--cluster", "lab", "--nodes", "2", "--gpus-per-node", "4", "--partition", "x", *TRAIN))
    assert (typed.gpus_per_node, typed.partition) == (4, "x")


@pytest.mark.parametrize(("given", "ranks"), [([], "1"), (["--ranks-per-node", "3"], "3")])
def test_without_gpus_none_are_asked_for(given, ranks):
    text = script(job_of(parsed("--nodes", "1", "--gpus-per-node", "0", *given, *TRAIN)), ["train"])
    assert "gpus-per-node" not in text
    assert options(text)["ntasks-per-node"] == ranks


ARRAY = ["--array", "8%2", "--", "data_pipeline", "extract", "a", "b"]


def test_an_array_is_of_processes_that_know_nothing_of_each_other(cluster):
    job = job_of(parsed("--cpus-per-rank", "3", *ARRAY))
    told = options(script(job, ["data_pipeline"]))
    assert (told["array"], told["nodes"], told["ntasks-per-node"], told["cpus-per-task"]) == ("0-7%2", "1", "1", "3")
    assert told["output"].endswith("/slurm-%A_%a.out")
    assert (told["signal"], told["open-mode"]) == ("USR1@120", "append")
    assert {"requeue"} <= told.keys()
    assert options(script(job_of(parsed("--array", "8", *ARRAY[2:])), ["data_pipeline"]))["array"] == "0-7"
    assert "array" not in options(script(cluster.job(), ["train"]))


ELEMENT = {"SLURM_ARRAY_JOB_ID": "123456", "SLURM_ARRAY_TASK_ID": "7", "WORLD_SIZE": "of a terminal"}


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (138, True), (1, False), (137, False)])
def test_an_element_of_an_array_is_requeued_by_its_own_number(cluster, code, requeued):
    """75 as everywhere; 138 is that USR1 came, which the command does not catch."""
    job = cluster.job(nodes=1, ranks_per_node=1, gpus_per_node=0, elements=8)
    done = cluster.run(job, ["data_pipeline", "a $(exit 9)"], (code,), **ELEMENT)
    assert (done.returncode, done.stderr) == (code, "")
    assert cluster.requeued() == ("requeue 123456_7" if requeued else "")
    assert cluster.strings("0.argv") == ["-m", "data_pipeline", "a $(exit 9)"]
    told = cluster.environment(0)
    assert not {"WORLD_SIZE", "MASTER_ADDR", "LOCAL_WORLD_SIZE"} & told.keys()
    assert told["SLURM_ARRAY_TASK_ID"] == "7"
    ignored = int((cluster.record / "0.ignored").read_text().split()[1], 16)
    assert not ignored >> (signal.SIGUSR1 - 1) & 1
