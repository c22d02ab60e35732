"""`python -m launch preflight`: verdicts of made measurements, and a real run on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.preflight import command, where
from launch.preflight.verdicts import BAD, OK, WARN, machines, step_of, verdicts
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from tests.helpers.training import TINY

PLANNED = {
    "global_batch": 64,
    "batch": [4, 2, 8],  # ranks, micro-batches of each, examples of one
    "zero_stage": 1,
    "memory_bytes": {"1": {"peak": 2_000_000_000, "host": 100_000_000}},
}


def rank(number: int, **more) -> dict:
    facts = {"code": "a", "commit": "1", "python": "3.11", "packages": {"torch": "2.13.0"}, "time": 1000.0}
    facts |= {"gpus": [], "memory_bytes": 64e9, "shm_bytes": 8e9, "disk_bytes": 1e12, "open_files": 65536}
    rates = {"loader_examples_per_s": 100.0, "compute_s": 0.2, "reduce_bytes_per_s": 1e10}
    step = {"steps": 30, "step_s": 0.64, "wait_s": 0.04, "data": "d"}
    return {"rank": number, "host": f"n{number // 2}", **facts, **rates, **step, **more}


def of(ranks: list[dict], read: float = 1e4) -> dict[str, tuple[str, str]]:
    return {row.what: (row.verdict, row.found) for row in verdicts(ranks, PLANNED, read)}


def test_the_rate_is_the_measured_one_and_the_largest_part_of_a_step_is_named():
    found = of([rank(number) for number in range(4)])
    assert found["data"] == (
        OK,
        "6% of a step: the loaders alone give 400 examples/s, 0.5 MB/s a machine are asked for",
    )
    assert found["compute"] == (OK, "62% of a step: the networks alone take 160 examples/s")
    assert found["exchange"][0] == WARN
    assert found["exchange"][1].startswith("31% of a step")
    assert found["exchange"][1].endswith("all-reduce 10 GB a second")
    assert found["bottleneck"] == (OK, "compute: 0.4 of 0.64 s a step")
    assert found["rate"][1].startswith("100 examples/s in all, as 30 steps went just now")


@pytest.mark.parametrize(
    ("all_ranks", "one_rank", "narrow", "seconds"),
    [
        ({"wait_s": 0.5}, {}, "data", 0.5),
        ({"compute_s": 0.05}, {}, "exchange", 0.5),
        ({"wait_s": 0.0}, {"wait_s": 0.6, "compute_s": 0.02}, "data", 0.6),  # the others wait for the one without data
        ({"wait_s": 0.0, "compute_s": 0.02}, {"compute_s": 0.31}, "compute", 0.62),  # and for the slow one
        ({"wait_s": 0.0, "compute_s": 9.0}, {}, "compute", 0.64),  # alone it took longer than in the step
    ],
)
def test_the_bottleneck_is_that_of_the_rank_that_the_others_wait_for(all_ranks, one_rank, narrow, seconds):
    ranks = [rank(number, **all_ranks) for number in range(3)]
    found = of([*ranks, rank(3, **{**all_ranks, **one_rank})])
    assert found["bottleneck"][1] == f"{narrow}: {seconds:.3g} of 0.64 s a step"
    assert (found[narrow][0] == WARN) == (narrow != "compute")
    step = step_of(ranks, 2)
    assert sum(step.parts().values()) == pytest.approx(step.seconds)


def test_networks_that_are_at_work_all_the_time_are_no_warning():
    found = of([rank(number, compute_s=0.31, wait_s=0.0) for number in range(4)])
    assert found["bottleneck"][1].startswith("compute: 0.62 of 0.64")
    assert {verdict for verdict, _ in found.values()} == {OK}


def test_bytes_of_an_example_are_asked_with_all_settings_of_the_training(monkeypatch):
    """Filters and sizes of windows too, wherever they were given."""
    shown = "shards: data/x\nwhere: face_px >= 200\n"

    def said(words: list[str]) -> str:
        if words[0] == "train":
            assert words == ["train", "motion", "--config", "c.yaml", "where=face_px >= 200", "--show-config"]
            return shown
        assert words[:3] == ["data_pipeline", "plan", "data/x"]
        assert Path(words[words.index("--config") + 1]).read_text() == shown
        return json.dumps({"ranks": [{"slots": 4, "bytes": 100}, {"slots": 4, "bytes": 60}]})

    monkeypatch.setattr(command, "typed", said)
    words = ["train", "motion", "--config", "c.yaml", "where=face_px >= 200"]
    assert command.read_per_example(words, {"recipe": "motion", "world_size": 2}) == 20


@pytest.mark.parametrize(
    ("what", "verdict", "change"),
    [
        ("code", BAD, {"code": "b"}),
        ("clocks", WARN, {"time": 1003.0}),
        ("memory", BAD, {"memory_bytes": 3.9e9}),
        ("/dev/shm", WARN, {"shm_bytes": 64e6}),
        ("disk", BAD, {"disk_bytes": 1e9}),
        ("open files", WARN, {"open_files": 256}),
        ("slow ranks", WARN, {"compute_s": 0.4}),
        ("slow ranks", WARN, {"loader_examples_per_s": 60.0}),
        ("shards", BAD, {"data": "e"}),
    ],
)
def test_one_machine_that_lacks_something_is_found(what, verdict, change):
    good = [rank(number, compute_s=0.25) for number in range(4)]
    assert of(good)[what][0] == OK
    found = of([*good[:3], rank(3, **{"compute_s": 0.25, **change})])
    assert found[what][0] == verdict
    assert [other for other, (is_now, _) in found.items() if is_now != of(good)[other][0]] == [what]


@pytest.mark.full
def test_this_machine_is_looked_at(talker_shards, tmp_path, command):
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", f"run={tmp_path / 'run'}"]
    done = command("-m", "launch", "preflight", "--processes", "2", "--json", "--", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [one["rank"] for one in found["ranks"]] == [0, 1]
    assert "MB/s a machine" in next(row["found"] for row in found["verdicts"] if row["what"] == "data")
    assert all(one["reduce_bytes_per_s"] > 0 and one["loader_examples_per_s"] > 0 for one in found["ranks"])
    named = {row["what"]: row["verdict"] for row in found["verdicts"]}
    assert named["code"] == named["settings"] == named["shards"] == OK
    assert list(tmp_path.iterdir()) == []
    refused = command("-m", "launch", "preflight", "--processes", "3", "--", *words)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "global_batch 8 cannot be shared by 3 processes" in refused.stderr


def test_with_gpus_the_copy_for_checkpoints_alone_is_needed_on_the_host():
    kinds = ["NVIDIA H100 80GB HBM3, 81559 MiB", "Tesla, small, 1024 MiB"]
    for gpu, verdict in zip(kinds, (OK, BAD)):
        found = of([rank(number, gpus=[kinds[0], gpu], memory_bytes=0.3e9) for number in range(4)])
        assert found["GPU memory"][0] == verdict
        assert found["memory"][0] == OK
    assert found["GPU memory"][1] == "1.07 GB a GPU, 1.9 GB are needed, as a CPU takes it"
    assert "GPU memory" not in of([rank(number) for number in range(4)])


def test_every_machine_is_a_row_of_the_slowest_of_its_ranks():
    rows = machines([rank(0), rank(1, compute_s=0.4), rank(2), rank(3, loader_examples_per_s=7.0)], 8)
    assert [row.split()[:3] for row in rows] == [["machine", "ranks", "code"], ["n0", "2", "a"], ["n1", "2", "a"]]
    assert rows[1].split()[-5:-2] == ["GB", "100", "20"]
    assert rows[2].split()[-5:-2] == ["GB", "7", "40"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--nodes 2 --hostfile x", "leave --hostfile and --processes out"),
        ("--nodes 2", "how many GPUs"),
        ("--nodes 0 --gpus-per-node 0", "--nodes must be at least 1"),
        ("--processes 0", "--processes must be at least 1"),
        ("--hostfile nowhere", "nowhere cannot be read as a hostfile"),
        ("--cluster {plain}", "names no hostfile; add --hostfile FILE, or --nodes N"),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, typed, said):
    (tmp_path / "c.yaml").write_text("partition: x\n")
    words = typed.format(plain=tmp_path / "c.yaml").split()
    with pytest.raises(UserError, match=said):
        command.run(command.arguments().parse_args([*words, "--", "train", "motion"]))


def test_nodes_are_looked_at_in_the_clusters_container(monkeypatch):
    monkeypatch.chdir(ROOT)
    there = where.place(command.arguments().parse_args(["--cluster", "lab", "--nodes", "2", "--", "train", "motion"]))
    job = there.job
    assert (there.size, job.container, job.image, job.python) == (16, "pyxis", "mytalk-train:1", "python")
    assert job.mounts == ("/data:/data", "/runs:/runs")
