"""`python -m launch slurm`: what it refuses, what it gives to sbatch, and how it follows the job."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from launch.slurm import command as slurm_command
from launch.slurm.job import job_of
from launch.slurm.submit import refuse_mixed
from mytalk.command import UserError
from tests.helpers.slurm_stand_ins import TRAIN, Cluster, parsed, stand_in


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Cluster:
    return Cluster(tmp_path_factory.mktemp("cluster"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--", "nothing to start; name it after --"),
        ("-- os motion", "must be train or eval"),
        ("--nodes 0 -- train", "--nodes must be at least 1"),
        ("--gpus-per-node -1 -- train", "--gpus-per-node must be at least 0"),
        ("--gpus-per-node 0 --ranks-per-node 0 -- train", "--ranks-per-node must be at least 1"),
        ("--ranks-per-node 1 -- train", "leave --ranks-per-node out"),
        ("--cpus-per-rank 0 -- train", "--cpus-per-rank must be at least 1"),
        ("--signal-s 0 -- train", "--signal-s must be within"),
        ("--signal-s 65536 -- train", "--signal-s must be within"),
        ("--time 30 -- train", "--time must look like"),
        ("--time '12:00:00\n' -- train", "--time must look like"),
        ("--time 00:03:00 -- train", "is over before any work is done"),
        ("--partition=-x -- train", "--partition must be letters"),
        ("--account 'a\n#SBATCH --wrap=x' -- train", "--account must be letters"),
        ("--name 'a b' -- train", "--name must be letters"),
        ("--log /tmp/a%j -- train", "holds a %"),
        ("--log '/tmp/a\nb' -- train", "a job's output cannot be"),
        ("--log '/tmp/a\"b' -- train", "a job's output cannot be"),
        ("--sbatch=-x=1 -- train", "--sbatch takes KEY=VALUE"),
        ("--sbatch N=1 -- train", "--sbatch takes KEY=VALUE"),
        ("--sbatch 'mem=1\n#SBATCH --wrap=x' -- train", "a job's mem cannot be"),
        ("--sbatch mem= -- train", "a job's mem cannot be"),
        ("--array 0 -- data_pipeline", "--array takes N, or N%M"),
        ("--array 1-9 -- data_pipeline", "--array takes N, or N%M"),
        ("--array 4 --nodes 2 -- data_pipeline", "leave --nodes and --ranks-per-node out"),
        ("--array 4 -- train motion", "train is one job whose ranks share the work"),
        ("--array 4 -- eval benchmark", "type --nodes N instead of --array"),
        ("--array 4 -- os", "must be data_pipeline"),
        ("--array 4 --time 0:03:00 -- data_pipeline", "is over before any work is done"),
        ("-- data_pipeline extract a b", "add --array N"),
        ("--sbatch hetjob -- train", "heterogeneous jobs are not supported"),
        ("--sbatch het-group=1 -- train", "heterogeneous jobs are not supported"),
        ("--restarts 11 -- train", "--restarts must be within 0 and 10"),
        ("--restarts 2 -- eval benchmark", "--restarts is for train"),
        ("--follow 42 -- train", "leave the words out"),
        ("--follow 4x --", "--follow takes the number of a job"),
        ("--sbatch array=1-9 -- train", "would change what the script relies on"),
        ("--sbatch no-req -- train", "would change what the script relies on"),
        ("--container-mount /a:/b -- train", "are of no use without an image; add --container-image"),
        ("--container apptainer -- train", "are of no use without an image; add --container-image"),
        ("--container-image 'a;b' -- train", "cannot be one"),
        ("--container-image=-x -- train", "cannot be one"),
        ("--container-image a --container-mount x -- train", "--container-mount takes HOST:THERE"),
        ("--container-image a --container-mount '/a:/b,/c:/d' -- train", "--container-mount takes HOST:THERE"),
    ],
)
def test_impossible_options_are_refused_in_one_line(typed, said):
    typed_words = shlex.split(typed)
    before = ["--gpus-per-node", "0"] if "data_pipeline" in typed or "--array" in typed else []
    before = before or ["--nodes", "2", "--gpus-per-node", "2"]
    with pytest.raises(UserError) as refused:
        slurm_command.run(parsed(*before, "--dry-run", *typed_words))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def submitting(cluster: Cluster, command, log: Path, says: str, complains: str, code: int, words=TRAIN):
    told = {"PATH": f"{cluster.bin}:{os.environ['PATH']}", "RECORD": str(cluster.record)}
    told |= {"SAYS": says, "COMPLAINS": complains, "CODE": str(code)}
    typed = ["--nodes", "2", "--gpus-per-node", "4", "--log", str(log), *words]
    return command("-m", "launch", "slurm", "--detach", *typed, env=told), typed


def test_submitted_it_is_the_script_of_the_dry_run(cluster, command, tmp_path):
    """On stdin, so that no file is left behind; the job's number, its log (whose folder is made), and what to type."""
    log = tmp_path / "new" / "logs"
    done, typed = submitting(cluster, command, log, "42;here", "sbatch: be nice", 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "sbatch: be nice\n"
    assert cluster.strings("sbatch") == ["--parsable"]
    printed = command("-m", "launch", "slurm", "--dry-run", *typed)
    assert printed.stdout == (cluster.record / "script").read_text()
    assert "job 42: 2 x 4 processes\n" in done.stdout
    for line in (
        f"log:       {log}/slurm-42.out\n",
        "slurm --follow 42\n",
        "scancel --signal=USR1 42 ",
        "scancel 42\n",
    ):
        assert line in done.stdout
    assert log.is_dir()


def test_of_scoring_no_checkpoint_is_promised(cluster, command, tmp_path):
    done, _ = submitting(cluster, command, tmp_path, "42", "", 0, ["--", "eval", "motion"])
    assert done.returncode == 0, done.stderr
    assert "writes a checkpoint" not in done.stdout
    assert "USR1" not in done.stdout
    said = "stop:      scancel 42   (finished clips are kept; submit the same command to continue)\n"
    assert done.stdout.endswith(said)


@pytest.mark.parametrize(
    ("says", "complains", "code", "expected"),
    [
        (
            "",
            "sbatch: lua: hm\nsbatch: error: no such partition",
            1,
            "did not take the job: sbatch: error: no such part",
        ),
        ("", "", 3, "did not take the job: exit code 3"),
        ("", "", 0, "gave no number; look for train-motion in squeue"),
    ],
)
def test_what_sbatch_refuses_is_one_line(cluster, command, tmp_path, says, complains, code, expected):
    done, _ = submitting(cluster, command, tmp_path, says, complains, code)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_without_sbatch_it_says_where_to_go(command, tmp_path):
    typed = ["--nodes", "1", "--gpus-per-node", "1", *TRAIN]
    done = command("-m", "launch", "slurm", *typed, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "go to a login node of the cluster, or print the script with --dry-run" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_has_an_example(command):
    shown = command("-m", "launch", "slurm", "--help")
    assert shown.returncode == 0
    assert "python -m launch slurm --nodes 2 --gpus-per-node 8" in shown.stdout


SINFO = """#!/bin/bash
[ "$*" = "--noheader --format=%P|%G" ] || exit 1
printf 'gpu|gpu:a100:8(S:0-1)\ngpu|gpu:h100:8\ngpu|gpu:v100:4\ncpu*|(null)\nold|gpu:v100:4\n'
"""


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ("--nodes 2 --gpus-per-node 8 --partition gpu", "(a100, h100)"),
        ("--nodes 2 --gpus-per-node 4 --partition old,gpu", "(a100, h100, v100)"),
        ("--nodes 1 --gpus-per-node 8 --partition gpu", ""),
        ("--nodes 2 --gpus-per-node 4 --partition old", ""),
        ("--nodes 2 --gpus-per-node 8", ""),
        ("--nodes 2 --gpus-per-node 8 --partition gpu --sbatch constraint=h100", ""),
        ("--nodes 2 --gpus-per-node 0 --partition gpu", ""),
    ],
)
def test_gpus_of_several_kinds_are_refused_by_name(tmp_path, monkeypatch, more, refused):
    """The slowest would hold up the others; those with too few GPUs are not chosen by Slurm."""
    stand_in(tmp_path / "sinfo", SINFO)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = job_of(parsed(*more.split(), *TRAIN))
    if not refused:
        return refuse_mixed(job)
    with pytest.raises(UserError, match=re.escape(refused)):
        refuse_mixed(job)
