"""Videos behind a web server and in S3 give the shards of the same videos on a disk; faults are tried again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data_pipeline.annotate import command as annotate
from data_pipeline.index import command as index
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.split import command as split
from data_pipeline.storage import inputs, store
from data_pipeline.storage.inputs import Ahead, TooLarge
from data_pipeline.tasks.runner import Runner
from data_pipeline.verify.command import verified
from mytalk.command import UserError
from tests.helpers import stub_extract
from tests.helpers.faulty_http import FaultyServer
from tests.helpers.s3 import bucket

OPTIONS = ("--corpus", "c", "min_face_px=16", *stub_extract.ANY_SOUND)
TABLE = "path,person\nann/talk.mp4,ann\nbob/short.mp4,bob\ncat/cut.mp4,cat\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Three videos of which one breaks off, and their table."""
    whole = stub_extract.corpus(tmp_path_factory.mktemp("whole"))
    folder = tmp_path_factory.mktemp("videos")
    for name in ("ann/talk.mp4", "bob/short.mp4", "cat/cut.mp4"):
        (folder / name).parent.mkdir()
        shutil.copy(whole / name, folder / name)
    (folder / "videos.csv").write_text(TABLE)
    return folder


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory) -> dict[str, bytes]:
    """What is extracted from the disk."""
    out = tmp_path_factory.mktemp("disk") / "out"
    code, said = stub_extract.run(videos, out, *OPTIONS, "--layout", "table")
    assert code == 0, said
    return made(out)


def made(out: Path) -> dict[str, bytes]:
    """Tars and parts, which name no place that videos came from."""
    assert not list(out.rglob(".tmp-*"))
    return {name: data for name, data in stub_extract.files(out).items() if name.endswith(".tar") or "parts/" in name}


@pytest.fixture
def quick(monkeypatch) -> None:
    """No time is lost between tries, and pieces have a few kB."""
    monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(inputs, "PIECE_BYTES", 10_000)


def test_a_web_server_that_fails_now_and_then_gives_equal_shards(videos, shards, tmp_path, quick):
    faults = iter([503, "ok", "cut", "ok", "short", 500, "ok", "ok", "ok", "shift"] * 20)
    with FaultyServer(videos, faults) as server:
        code, said = stub_extract.run(server.url, tmp_path / "out", *OPTIONS, "--layout", "table")
        assert code == 0, said
    assert made(tmp_path / "out") == shards
    assert len(server.asked) > 15


def test_a_table_of_urls_names_what_is_gone_and_what_may_not_be_read(videos, tmp_path, quick):
    def fault(method: str, path: str):
        return 403 if "secret" in path else "ok"

    with FaultyServer(videos, fault) as server:
        (tmp_path / "v").mkdir()
        urls = [f"{server.url}/{name}" for name in ("ann/talk.mp4", "gone.mp4", "secret.mp4")]
        (tmp_path / "v/videos.csv").write_text("path,person\n" + "".join(f"{url},p\n" for url in urls))
        code, said = stub_extract.run(tmp_path / "v", tmp_path / "out", *OPTIONS, "--layout", "table")
        assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    ends = {
        line["source"].partition("?")[0].rpartition("/")[2]: line.get("reason") for line in lines if "source" in line
    }
    assert ends == {"talk.mp4": None, "gone.mp4": "missing", "secret.mp4": "not_readable"}


def test_s3_gives_equal_shards_and_is_listed(videos, shards, tmp_path, monkeypatch):
    with bucket(monkeypatch) as client:
        for path in videos.rglob("*.*"):
            client.upload_file(str(path), "bucket", f"corpus/{path.relative_to(videos).as_posix()}")
        code, said = stub_extract.run("s3://bucket/corpus", tmp_path / "out", *OPTIONS)
        assert code == 0, said
        assert made(tmp_path / "out") == shards
        words = (str(videos), tmp_path / "kept", *OPTIONS, "--layout", "table", "--to", "s3://bucket/shards")
        for _ in range(2):  # the second finds all done
            code, said = stub_extract.run(*words)
            assert code == 0, said
        assert not list((tmp_path / "kept").glob("*.tar"))
        sent = {
            name: client.get_object(Bucket="bucket", Key=f"shards/{name}")["Body"].read()
            for name in (entry["Key"].removeprefix("shards/") for entry in _listed(client, "shards/"))
        }
        assert {name: data for name, data in sent.items() if name.endswith(".tar") or "parts/" in name} == shards
        manifest = Manifest.load("s3://bucket/shards")
        assert reader.read_landmarks(manifest, 0).shape[1:] == (478, 3)
        annotated_and_split(tmp_path / "all", "s3://bucket/shards")


@pytest.mark.parametrize(
    ("to", "said_of_it"),
    [
        ("s3://gone/shards", "no such file or folder (s3://gone/shards/sources.json)"),
        ("x://bucket/shards", "does not know the protocol 'x://'"),
        ("shards", "is no URL"),
    ],
)
def test_a_place_that_takes_no_shards_is_refused_before_any_is_made(
    videos, tmp_path, monkeypatch, quick, to, said_of_it
):
    with bucket(monkeypatch):
        code, said = stub_extract.run(videos, tmp_path / "out", *OPTIONS, "--layout", "table", "--to", to)
    assert code == 1
    assert said_of_it in said
    assert not list(tmp_path.rglob("*.tar"))
    assert not list(tmp_path.rglob("parts/*"))


def annotated_and_split(out: Path, url: str) -> None:
    """A local manifest over remote shards is annotated, split and verified like any; indexed again, it keeps that."""
    steps = [(index, [str(out), url]), (annotate, [str(out), "quality", "--workers", "0"])]
    steps += [(split, [str(out), "--everyone", "train"]), (index, [str(out), url])]
    for command, words in steps:
        assert command.run(command.arguments().parse_args(words)) == 0
    manifest = Manifest.load(out)
    assert {*manifest.column("split")} == {"train"}
    assert (manifest.column("sharpness_px") > 0).all()
    assert manifest.shard_file("motion", 0).name == f"{url}/motion-000000.tar"
    report = verified(str(out), 1.0, Runner(0))
    assert (report["sound"], report["decoded"]) == (True, len(manifest))
    with pytest.raises(UserError, match="a query, user or password"):
        index.run(index.arguments().parse_args([str(out), "https://a:b@host/shards"]))


def _listed(client, prefix: str) -> list[dict]:
    return client.list_objects_v2(Bucket="bucket", Prefix=prefix)["Contents"]


def test_a_server_that_is_down_ends_the_run_as_run_me_again(videos, tmp_path, quick):
    with FaultyServer(videos) as server:
        pass
    code, said = stub_extract.run(server.url, tmp_path / "out", *OPTIONS, "--layout", "table")
    assert code == 75, said
    assert len(said.strip().splitlines()) == 1


def test_one_file_is_read_ahead_within_the_limit_and_none_is_left(tmp_path):
    (tmp_path / "served").mkdir()
    for name, size in (("a", 600), ("b", 300), ("c", 700), ("d", 2000)):
        (tmp_path / "served" / name).write_bytes(bytes(size))
    out = tmp_path / "out"
    out.mkdir()

    def on_disk() -> int:
        return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())

    with FaultyServer(tmp_path / "served") as server:
        items = [[(server.url, name)] for name in "abcd"]
        with Ahead(out, items, 1000) as ahead:
            for number, size in enumerate((600, 300, 700)):
                (path,) = ahead.files(number, lambda: None)
                assert path.stat().st_size == size
                assert on_disk() <= 1000
            with pytest.raises(TooLarge, match="scratch-gb"):
                ahead.files(3, lambda: None)
        assert not list(out.iterdir())


def test_a_video_that_is_too_large_for_the_local_disk_is_one_line(videos, tmp_path, quick):
    with FaultyServer(videos) as server:
        stub_extract.run(server.url, tmp_path / "out", *OPTIONS, "--layout", "table", "--scratch-gb", "0.00001")
    lines = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    assert {line["reason"] for line in lines if "source" in line} <= {"too_large", "truncated", "too_short"}
    assert any("raise --scratch-gb" in line.get("message", "") for line in lines)
