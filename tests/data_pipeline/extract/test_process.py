"""One shard from its sources: whatever is raised about a source is its own ledger line."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from data_pipeline.extract import clips, process, video
from data_pipeline.extract.listing import sources
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.video import Tools
from data_pipeline.pool import Failure, ItemFailed
from data_pipeline.shards import ledger
from mytalk import faults
from tests.helpers import stub_extract

PATHS = ("ann/talk.mp4", "bob/talk.mp4")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return stub_extract.corpus(tmp_path_factory.mktemp("videos"))


def one_shard(videos: Path, out: Path, **more) -> process.ShardTask:
    listed = tuple(sources.Source(path, 0, "c/x", 0) for path in PATHS)
    return process.ShardTask(videos, out, 0, listed, "c", Rules(min_face_px=16), **more)


class Raising(stub_extract.StubDetector):
    """Raises an error at the first picture that it is shown, and works afterwards."""

    def __init__(self, error: BaseException):
        self.error, self.raised = error, False

    def find(self, frame):
        if not self.raised:
            self.raised = True
            raise self.error
        return super().find(frame)


@pytest.fixture(autouse=True)
def no_cuts(monkeypatch):
    monkeypatch.setattr(video, "with_cuts", stub_extract.no_cuts)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE])
def test_an_error_of_the_machine_rejects_no_source(videos, tmp_path, number):
    with pytest.raises(OSError, match="the machine") as caught:
        process.write_shard(
            one_shard(videos, tmp_path), Tools(Raising(OSError(number, "the machine"))), lambda item, n: None
        )
    assert caught.value.errno == number
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("odd"), "error"),
        (KeyError("odd"), "error"),
        (OSError("without a number"), "error"),
        (PermissionError(errno.EACCES, "Permission denied"), "not_readable"),
    ],
)
def test_whatever_is_raised_about_a_source_is_its_line_and_the_others_go_on(videos, tmp_path, error, reason):
    part = process.write_shard(one_shard(videos, tmp_path), Tools(Raising(error)), lambda item, n: None)
    first, second = part["sources"]
    assert (first["state"], first["reason"], second["state"]) == ("rejected", reason, "extracted")
    assert ledger.balance(PATHS, [part]).clips == len(part["clips"]) == 1
    log = tmp_path / faults.ERRORS_FILE
    assert log.exists() == (reason == "error")
    if reason == "error":
        assert first["message"].startswith(type(error).__name__)
        assert log.read_text().startswith("ann/talk.mp4")
        assert "Traceback" in log.read_text()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_storage_error_asks_for_another_try(videos, tmp_path, number):
    with pytest.raises(ItemFailed) as caught:
        process.write_shard(one_shard(videos, tmp_path), Tools(Raising(OSError(number, "x"))), lambda item, n: None)
    assert caught.value.failure.cause == "storage"
    assert not list(tmp_path.rglob("*.json"))


def test_missing_memory_asks_for_another_try(videos, tmp_path):
    for error in (MemoryError(), OSError(errno.ENOMEM, "x")):
        with pytest.raises(MemoryError):
            process.write_shard(one_shard(videos, tmp_path), Tools(Raising(error)), lambda item, n: None)


def test_a_fault_in_writing_a_clip_leaves_no_clip_of_its_source(videos, tmp_path, monkeypatch):
    def break_off(crops):
        raise ValueError("the encoder has a bug")

    monkeypatch.setattr(clips.media, "encode_frames", break_off)
    part = process.write_shard(one_shard(videos, tmp_path), Tools(stub_extract.StubDetector()), lambda item, n: None)
    assert [row["reason"] for row in part["sources"]] == ["error", "error"]
    assert part["clips"] == []
    assert not list(tmp_path.glob("*.tar"))


def test_a_condemned_source_is_not_read_and_the_others_are_kept(videos, tmp_path):
    task = one_shard(videos, tmp_path, condemned={0: Failure("worker_died", "its worker process died")})
    part = process.write_shard(task, Tools(stub_extract.StubDetector()), lambda item, n: None)
    assert [row["state"] for row in part["sources"]] == ["rejected", "extracted"]
    assert ledger.balance(PATHS, [part]).rejected == {"worker_died": 1}
