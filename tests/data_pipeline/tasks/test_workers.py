"""The same bytes by a pool, by processes that share the folder, and on Ray; after kill -9, and for broken videos."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline import pool
from data_pipeline.extract import command as extract
from data_pipeline.extract.work import tasks
from data_pipeline.shards import ledger
from data_pipeline.shards.manifest import Manifest
from data_pipeline.tasks import ray_runner
from mytalk.command import UserError
from tests.helpers import deadly, needs, numbered, stub_extract, stub_worker

OPTIONS = ("--corpus", "c", "--sources-per-shard", "2", "min_face_px=16", *stub_extract.ANY_SOUND)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return stub_extract.corpus(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory) -> tuple[dict[str, bytes], int]:
    """What one process without workers writes, and the number of its events."""
    out = tmp_path_factory.mktemp("whole") / "out"
    count = multiprocessing.get_context("fork").Value("i", 0)
    code, said = stub_extract.run(videos, out, *OPTIONS, count=count)
    assert code == 0, said
    return stub_extract.files(out), count.value


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def test_two_processes_and_a_pool_of_two_write_what_a_lone_one_writes(videos, whole, tmp_path):
    shared, pooled = tmp_path / "shared", tmp_path / "pooled"
    pool_of_two = stub_worker.start(videos, pooled, *OPTIONS, "--workers", "2")
    workers = [stub_worker.start(videos, shared, *OPTIONS, "--workers", "0") for _ in range(2)]
    for worker in workers:
        ended(worker)
    assert stub_extract.files(shared) == whole[0]
    ended(pool_of_two)
    assert stub_extract.files(pooled) == whole[0]


def test_a_worker_that_is_killed_costs_its_task_alone_and_another_takes_it_over(videos, whole, tmp_path):
    out = tmp_path / "out"
    first = stub_worker.start(videos, out, *OPTIONS, "--workers", "0")
    until = time.monotonic() + 60
    while not list(out.glob("parts/*.json")):
        assert time.monotonic() < until
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    made = {path: path.stat().st_mtime_ns for path in out.glob("parts/0*.json")}
    ended(first, -signal.SIGKILL)
    assert stub_extract.run(videos, out, *OPTIONS)[0] == 0
    assert stub_extract.files(out) == whole[0]
    assert {path: path.stat().st_mtime_ns for path in made} == made


def _held_up(videos: Path, out: Path, listed, go) -> None:
    """Extract in this process, which waits between its list and its work."""
    stub_extract.install()
    real = tasks.extract

    def waits(*given):
        listed.set()
        assert go.wait(60)
        return real(*given)

    tasks.extract = waits
    os._exit(extract.run(extract.arguments().parse_args([str(videos), str(out), *OPTIONS, "--workers", "0"])))


def test_a_worker_that_listed_fewer_videos_than_another_leaves_no_clip_out(tmp_path):
    """The other one still waits when this one has made its shards; it finds all closed, with its shard in it."""
    torch.set_num_threads(1)  # the threads of the process that is forked are not in its child
    videos, out, context = tmp_path / "videos", tmp_path / "out", multiprocessing.get_context("fork")
    workers = []
    for person in ("ann", "bob"):
        numbered.write(videos / person / "talk.mp4", numbered.regular(40))
        listed, go = context.Event(), context.Event()
        worker = context.Process(target=_held_up, args=(videos, out, listed, go))
        worker.start()
        assert listed.wait(60)
        workers.append((worker, go))
    for worker, go in workers:
        go.set()
        worker.join(60)
        assert worker.exitcode == 0
    assert {*Manifest.load(out).column("source")} == {"ann/talk.mp4", "bob/talk.mp4"}
    assert not (out / "tasks").exists()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.full)])
def test_killed_again_and_again_then_continued_gives_equal_bytes(videos, whole, tmp_path, kills):
    reference, events = whole
    out, draw = tmp_path / "out", random.Random(kills)
    for _ in range(kills):
        code, said = stub_extract.run(videos, out, *OPTIONS, kill_at=draw.randrange(events // 2))
        assert code in (-signal.SIGKILL, 0, 1), said
    codes = []
    while 0 not in codes:  # tasks that died twice are set aside, and tried again by the command after that
        assert len(codes) < 3
        codes.append(stub_extract.run(videos, out, *OPTIONS)[0])
    assert stub_extract.files(out) == reference


def test_a_bug_sets_its_shard_aside_names_it_and_the_same_command_tries_it_again(videos, whole, tmp_path, monkeypatch):
    from data_pipeline.extract import process

    def broken(out, part):
        if part["shard"] == 1:
            raise KeyError("a bug of ours")
        commit(out, part)

    commit = process.writer.commit
    monkeypatch.setattr(process.writer, "commit", broken)
    out = tmp_path / "out"
    code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 1
    assert "shard 1 is set aside (KeyError: 'a bug of ours')" in said
    lines = [json.loads(line) for line in (out / ledger.FILE).read_text().splitlines()]
    aside = [line for line in lines if line.get("reason") == "set_aside"]
    assert [line["shard"] for line in aside] == [1, 1]
    assert "a bug of ours" in (out / "errors.log").read_text()
    monkeypatch.undo()
    code, said = stub_extract.run(videos, out, *OPTIONS)
    assert code == 0, said
    (out / "errors.log").unlink()
    assert stub_extract.files(out) == whole[0]


@needs.ray
@pytest.mark.full
def test_ray_writes_the_same_bytes(videos, whole, tmp_path):
    ended(stub_worker.start(videos, tmp_path / "out", *OPTIONS, "--runner", "ray", "--workers", "2"))
    assert stub_extract.files(tmp_path / "out") == whole[0]


def mutated(folder: Path, count: int) -> Path:
    """Videos with bytes that were changed, cut out, repeated or lost, of three containers."""
    draw = random.Random(0)
    sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    whole = [
        numbered.write(folder / f"whole.{suffix}", numbered.regular(30), audio=sound).read_bytes()
        for suffix in ("mp4", "mkv", "mov")
    ]
    for number in range(count):
        data = bytearray(draw.choice(whole))
        for _ in range(draw.choice((1, 3, 30, 300))):
            at, size = draw.randrange(len(data)), draw.randrange(1, 50)
            change = draw.randrange(4)
            data[at : at + size] = (
                draw.randbytes(size),
                b"",
                bytes(data[at : at + size] * 2),
                bytes(len(data[at : at + size])),
            )[change]
        (folder / f"m{number:04d}.mp4").write_bytes(bytes(data or b"x"))
    return folder


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.full)])
def test_mutated_videos_end_in_the_ledger_and_no_other_way(tmp_path, count):
    folder = mutated(tmp_path / "videos", count)
    out = tmp_path / "out"
    if count < 100:
        code, said = stub_extract.run(folder, out, "min_face_px=16")
    else:
        worker = stub_worker.start(folder, out, "min_face_px=16", "--workers", "2", "--idle-seconds", "60")
        said, code = worker.communicate(timeout=60 + 3 * count)[0], worker.returncode
    assert code == 0, said
    parts = [json.loads(path.read_text()) for path in sorted((out / "parts").iterdir())]
    counts = ledger.balance([row["source"] for part in parts for row in part["sources"]], parts)
    assert counts.sources == count + 3
    assert not {"error", "timeout", "worker_died", "set_aside"} & counts.rejected.keys(), counts.rejected
    assert counts.extracted >= 3


@needs.ray
def test_without_a_cluster_at_the_address_it_is_one_line():
    with pytest.raises(UserError, match="no Ray cluster at"):
        ray_runner.run(iter([]), deadly.work, pool.Hooks(print), pool.TimeLimits(), "127.0.0.1:1")
