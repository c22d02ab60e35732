"""`python -m launch preflight`: verdicts of made measurements, and a real run on this machine."""

from __future__ import annotations

import json

import pytest

from launch.preflight import command
from launch.preflight.verdicts import BAD, OK, WARN, expected, machines, verdicts
from mytalk.command import UserError
from tests.helpers.training import TINY

PLANNED = {
    "flops_per_example": 1e9,
    "parameters": {"motion": 25_000_000},
    "global_batch": 64,
    "zero_stage": 1,
    "memory_bytes": {"1": {"peak": 2_000_000_000, "host": 100_000_000}},
}


def rank(number: int, **more) -> dict:
    facts = {"code": "a", "commit": "1", "python": "3.11", "packages": {"torch": "2.13.0"}, "time": 1000.0}
    facts |= {"memory_bytes": 64e9, "shm_bytes": 8e9, "disk_bytes": 1e12, "open_files": 65536}
    rates = {"read_bytes_per_s": 2e8, "flops_per_s": 1e13, "reduce_bytes_per_s": 1e10}
    return {"rank": number, "host": f"n{number // 2}", **facts, **rates, **more}


def of(ranks: list[dict], read: float = 1e4) -> dict[str, tuple[str, str]]:
    return {row.what: (row.verdict, row.found) for row in verdicts(ranks, PLANNED, read)}


def test_rates_are_those_of_the_slowest_rank_and_the_narrowest_is_named():
    ranks = [rank(number) for number in range(4)]
    assert expected(ranks, PLANNED, 1e5) == pytest.approx(
        {"compute": 4 * 1e13 / 1e9, "storage": 4 * 2e8 / 1e5, "network": 64 / (4 * 25e6 / 1e10)}
    )
    found = of(ranks)
    assert found["bottleneck"][1].startswith("network: at most 6.4e+03 examples/s")
    assert found["network allows"][0] == WARN
    assert of(ranks, read=1e7)["bottleneck"][1].startswith("storage: at most 80 ")
    assert of([rank(0, reduce_bytes_per_s=0.0, flops_per_s=1e9)])["bottleneck"][1].startswith("compute: at most 1 ")


@pytest.mark.parametrize(
    ("what", "verdict", "change"),
    [
        ("code", BAD, {"code": "b"}),
        ("clocks", WARN, {"time": 1003.0}),
        ("memory", BAD, {"memory_bytes": 3.9e9}),
        ("/dev/shm", WARN, {"shm_bytes": 64e6}),
        ("disk", BAD, {"disk_bytes": 1e9}),
        ("open files", WARN, {"open_files": 256}),
        ("slow ranks", WARN, {"flops_per_s": 5e12}),
        ("slow ranks", WARN, {"read_bytes_per_s": 1e8}),
    ],
)
def test_one_machine_that_lacks_something_is_found(what, verdict, change):
    good = [rank(number) for number in range(4)]
    assert of(good)[what][0] == OK
    found = of([*good[:3], rank(3, **change)])
    assert found[what][0] == verdict
    assert [other for other, (is_now, _) in found.items() if is_now != of(good)[other][0]] == [what]


@pytest.mark.full
def test_this_machine_is_looked_at(talker_shards, tmp_path, command):
    words = ["train", "motion", "--config", TINY, f"shards={talker_shards}", f"run={tmp_path / 'run'}"]
    done = command("-m", "launch", "preflight", "--processes", "2", "--json", "--", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [one["rank"] for one in found["ranks"]] == [0, 1]
    assert all(one["reduce_bytes_per_s"] > 0 and one["read_bytes_per_s"] > 0 for one in found["ranks"])
    named = {row["what"]: row["verdict"] for row in found["verdicts"]}
    assert named["code"] == named["settings"] == OK
    assert not (tmp_path / "run").exists()
    refused = command("-m", "launch", "preflight", "--processes", "3", "--", *words)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "global_batch 8 cannot be shared by 3 processes" in refused.stderr


def test_every_machine_is_a_row_of_the_slowest_of_its_ranks():
    rows = machines([rank(0), rank(1, flops_per_s=3e9), rank(2), rank(3)])
    assert [row.split()[:3] for row in rows] == [["machine", "ranks", "code"], ["n0", "2", "a"], ["n1", "2", "a"]]
    assert "  3 G  " in rows[1]
    assert "  1e+04 G  " in rows[2]


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
