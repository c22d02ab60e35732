"""Ranges of files in S3, against a server that speaks it."""

from __future__ import annotations

import pytest

from data_pipeline.storage.cache import Cache
from data_pipeline.storage.store import Store, Unreachable
from tests.helpers.faulty_http import FaultyServer
from tests.helpers.stores import (
    CHUNK,
    content,
    fast,
    noise,
    patience,
    sliced,
)


@pytest.fixture
def credentials(monkeypatch):
    names = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_s3_ranges_are_slices(folder, tmp_path, credentials):
    """Against moto, which speaks S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        credentials.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for name, data in content(folder).items():
            client.put_object(Bucket="bucket", Key=f"some/shards/{name}", Body=data)
        ranges = [("f6", 10, 2000), ("f5", 11_900, 900), ("f5", 90_000, 9), ("f0", 0, 5), ("a b#c%.tar", 3, 9)] * 5
        for cache in (None, Cache(tmp_path, 10 << 20)):
            store = Store("s3://bucket/some/shards", cache)
            assert store.read(ranges) == sliced(content(folder), ranges)
            assert store.whole("f6") == content(folder)["f6"]
            assert (store.size("f6"), store.exists("f5"), store.exists("none")) == (5 * CHUNK + 77, True, False)
            assert not store.exists("")  # a folder is no file
            for act in (store.whole, store.size, lambda name, store=store: store.read([(name, 0, 1)])):
                with pytest.raises(FileNotFoundError):
                    act("none")
    finally:
        server.stop()


@pytest.mark.parametrize("fault", [500, 503, "cut", "short", "stall"])
def test_s3_faults_are_tried_again(tmp_path, credentials, fault):
    """A ranged GetObject by path is a plain GET: the faulty server is S3 enough."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "f").write_bytes(noise(1, 5000))
    with FaultyServer(tmp_path, [fault, "ok", fault]) as server:
        credentials.setenv("AWS_ENDPOINT_URL", server.url)
        ranges = [("f", 10, 100), ("f", 20, 3000)]
        assert fast("s3://bucket", **patience(fault)).read(ranges) == sliced({"f": noise(1, 5000)}, ranges)
        assert sum(method == "GET" for method, *_ in server.asked) <= 4  # the client adds no tries of its own
    with FaultyServer(tmp_path, lambda method, path: fault) as server:
        credentials.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(Unreachable, match="s3://bucket/f: not read in 2 tries"):
            fast("s3://bucket", tries=2, **patience(fault)).read(ranges[:1])
        assert sum(method == "GET" for method, *_ in server.asked) == 2  # the client adds no tries of its own
    with FaultyServer(tmp_path, lambda method, path: 403) as server:
        credentials.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(PermissionError):
            fast("s3://bucket").read(ranges[:1])
