"""Drawn people extracted by a pool, an array on a Slurm of two nodes, and a Ray cluster of two nodes: equal bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_pipeline.shards import throughput
from data_pipeline.shards.manifest import Manifest
from mytalk import media
from mytalk.face.landmarks import FRAME_HZ
from tests.helpers import needs, stub_extract
from tests.helpers.checkout import ROOT
from tests.helpers.two_nodes import NODES, TwoNodes

pytestmark = [
    pytest.mark.full,
    needs.drawn_people,
]
EXTRACT = ("data_pipeline", "extract")
OPTIONS = ("--corpus", "drawn", "--sources-per-shard", "1")


@pytest.fixture(scope="module")
def videos(command, tmp_path_factory) -> Path:
    """Eight videos of three drawn people: three that were drawn, and parts of them."""
    folder = tmp_path_factory.mktemp("drawn") / "videos"
    size = ("--identities", "3", "--clips-per-identity", "1", "--seed", "0", "--seconds", "3")
    command("-m", "data_pipeline", "demo", str(folder), *size, check=True)
    drawn = sorted(folder.rglob("*.mp4"))
    for number in range(8 - len(drawn)):
        source = drawn[number % len(drawn)]
        frames = media.read_frames(source, FRAME_HZ, stop=60 - number, notes=media.Notes())
        media.write_video(source.with_name(f"part{number}.mp4"), frames, FRAME_HZ)
    return folder


@pytest.fixture(scope="module")
def whole(command, videos) -> dict[str, bytes]:
    """What a pool of two writes."""
    out = videos.parent / "pool"
    done = command("-m", *EXTRACT, str(videos), str(out), *OPTIONS, "--workers", "2")
    assert done.returncode == 0, done.stderr
    return stub_extract.files(out)


def test_an_array_on_two_slurm_nodes_writes_what_a_pool_writes(command, videos, whole, tmp_path):
    out, logs = tmp_path / "out", tmp_path / "logs"
    with TwoNodes(tmp_path) as slurm:
        typed = ["--", *EXTRACT, str(videos), str(out), *OPTIONS, "--workers", "0"]
        array = ["-m", "launch", "slurm", "--array", "2", "--log", str(logs), *typed]
        done = command(*array, env=slurm.environment)
        said = "".join(path.read_text() for path in logs.iterdir())
        assert done.returncode == 0, done.stdout + done.stderr + said
        number = done.stdout.split()[1].rstrip(":")
        nodes = re.findall(r"BatchHost=(\S+)", slurm.ask("scontrol", "show", "job", number))
    assert sorted(nodes) == sorted(NODES)
    frames = [json.loads(line)["frames"] for line in (out / throughput.FILE).read_text().splitlines()]
    assert len(frames) == 2, f"both nodes took a part: {said}"
    assert stub_extract.files(out) == whole


def test_two_corpora_are_built_by_an_array_as_on_one_machine(command, videos, tmp_path):
    """docs/data.md's way from two corpora that lie differently to one annotated, split and verified set of shards."""
    corpora = tmp_path / "corpora"
    for person in ("p000", "p001"):
        shutil.copytree(videos / person, corpora / "mine" / person)
    shutil.copytree(videos / "p002", corpora / "other" / "clips")
    rows = "".join(f"clips/{path.name},{path.stem}\n" for path in sorted((corpora / "other/clips").iterdir()))
    (corpora / "other/videos.csv").write_text("path,person\n" + rows)

    def written(name: str) -> Path:
        text = {
            "out": str(tmp_path / name / "out"),
            "corpora": [
                {"name": "mine", "videos": str(corpora / "mine")},
                {"name": "other", "videos": str(corpora / "other"), "layout": "table"},
            ],
            "rules": ["min_seconds=1"],
            "extract": ["--sources-per-shard", "1", "--workers", "0"],
            "annotate": ["speech", "duplicates", "--workers", "0"],
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(text))
        return tmp_path / f"{name}.yaml"

    done = command("-m", "data_pipeline", "build", str(written("alone")))
    assert done.returncode == 0, done.stderr
    logs = tmp_path / "logs"
    with TwoNodes(tmp_path) as slurm:
        array = ["-m", "launch", "slurm", "--array", "2", "--log", str(logs), "--"]
        done = command(*array, "data_pipeline", "build", str(written("array")), env=slurm.environment)
    assert done.returncode == 0, done.stdout + done.stderr + "".join(path.read_text() for path in logs.iterdir())
    alone, by_array = (stub_extract.files(tmp_path / name / "out") for name in ("alone", "array"))
    for files in (alone, by_array):
        for name in [name for name in files if name.endswith((throughput.FILE, "built.json"))]:
            files.pop(name)  # how fast it was, and the name of `out`
    assert by_array == alone
    assert Manifest.load(tmp_path / "array/out").has("copy_group")


def executing(raylet: int) -> list[int]:
    """Ray's workers below this raylet that are at a task."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) if folder.name.isdecimal() else 0
            if parent == raylet and (folder / "cmdline").read_bytes().startswith(b"ray::_one"):
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@needs.ray
@pytest.mark.parametrize("lost", [False, True], ids=["both", "one is lost"])
def test_a_ray_cluster_of_two_nodes_writes_what_a_pool_writes(videos, whole, tmp_path, lost, monkeypatch):
    """Also where one of the two vanishes while it is at a task: that task is done again by the other."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    size = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    try:
        second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        raylets = [node.all_processes["raylet"][0].process.pid for node in (cluster.head_node, second)]
        words = [*EXTRACT, str(videos), str(tmp_path / "out"), *OPTIONS, "--runner", "ray", "--ray", cluster.address]
        with open(tmp_path / "said", "w") as said:
            told = {**os.environ, "OMP_NUM_THREADS": "1"}
            driver = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=told, stdout=said, stderr=said)
        until = time.monotonic() + 120
        while not all(map(executing, raylets)):
            assert driver.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        if lost:
            cluster.remove_node(second, allow_graceful=False)
        assert driver.wait(240) == 0, (tmp_path / "said").read_text()
    finally:
        cluster.shutdown()
    assert stub_extract.files(tmp_path / "out") == whole
