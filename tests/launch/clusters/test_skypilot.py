"""`python -m launch skypilot`: the task, its words through the shell that it is given to, what is refused."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.clusters import skypilot
from launch.clusters.job import as_yaml, job_of
from mytalk.command import UserError

NASTY = st.sampled_from(["$(exit 9)", "`exit`", "'", '"', ";", "\\", "a\nb", "# x", ": y", "~", "*", "{}", "!"])
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


def parsed(*typed: str):
    return skypilot.arguments().parse_args(list(typed))


@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.one_of(NASTY, TEXT), max_size=4))
def test_every_word_passes_yaml_and_the_shell_unchanged(tmp_path_factory, words):
    job = job_of(
        parsed("--nodes", "2", "--gpus-per-node", "8", "--name", "x", "--", "train", *words), in_container=False
    )
    folder = tmp_path_factory.mktemp("sky")
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text("#!/bin/bash\nprintf '%s\\0' \"$@\"\n")
    python.chmod(0o755)
    (task,) = yaml.safe_load_all(as_yaml([skypilot.task(job, {})]))
    done = subprocess.run(["bash", "-c", task["run"]], cwd=folder, capture_output=True)
    assert done.stderr == b""
    assert [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]] == [
        *("-m", "launch", "node", "--processes", "8", "--", "train", *words)
    ]


def test_the_task_of_the_example_cluster(command):
    typed = ["--cluster", "lab", "--nodes", "2", "--mount", "/data=s3://mine", "--dry-run", "--", "train", "motion"]
    done = command("-m", "launch", "skypilot", *typed)
    assert done.returncode == 0, done.stderr
    task = yaml.safe_load(done.stdout)
    assert (task["name"], task["num_nodes"], task["file_mounts"]) == ("train-motion", 2, {"/data": "s3://mine"})
    assert task["resources"]["job_recovery"] == {"max_restarts_on_errors": 3, "recover_on_exit_codes": [75]}
    assert task["resources"]["accelerators"] == "GPU:8"
    assert "constraints.txt" in task["setup"]


@pytest.mark.parametrize(("more", "spot"), [([], True), (["--on-demand"], False)])
def test_machines_are_spot_unless_others_are_asked_for(capsys, more, spot):
    assert skypilot.run(parsed(*more, "--dry-run", "--", "train", "motion")) == 0
    assert yaml.safe_load(capsys.readouterr().out)["resources"]["use_spot"] is spot


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--mount", "data=s3://x", "--", "train", "motion"], "--mount takes FOLDER=URL"),
        (["--mount", "/data=/x", "--", "train", "motion"], "--mount takes FOLDER=URL"),
        (["--name", "a b", "--", "train", "motion"], "--name must be small letters"),
    ],
)
def test_what_cannot_be_a_task_is_refused(typed, said):
    with pytest.raises(UserError, match=said):
        skypilot.run(parsed("--dry-run", *typed))
