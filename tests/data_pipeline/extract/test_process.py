"""One shard from its sources: whatever is raised about a source is its own ledger line."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline.extract import clips, process, video
from data_pipeline.extract.listing import sources
from data_pipeline.extract.rules.rules import Rules, described
from data_pipeline.extract.video import Tools
from data_pipeline.pool import Failure, ItemFailed
from data_pipeline.shards import ledger, manifest_update, reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import requirements
from data_pipeline.shards.table.parts import from_parts
from mytalk import config, digest, faults
from mytalk.command import UserError
from mytalk.face import crop
from mytalk.media import opening, pictures, sound
from mytalk.speech.activity import EnergyRule
from tests.helpers import numbered, stub_extract

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


def test_pictures_may_be_kept_at_twice_the_side_and_nothing_else_changes(videos, tmp_path):
    """Landmarks and facts are those at 256; who asks for no more reads pictures of 256; the manifest says the side."""
    found = {}
    for side_px in (256, 512):
        out = tmp_path / str(side_px)
        out.mkdir()
        task = one_shard(videos, out)
        rules = dataclasses.replace(task.rules, frames_px=side_px)
        task = dataclasses.replace(task, rules=rules)
        part = process.write_shard(task, Tools(stub_extract.StubDetector()), lambda item, n: None)
        manifest_update.save(out, *from_parts([part], {"crop_px": 256}))
        found[side_px] = Manifest.load(out)
    small, large = found[256], found[512]
    assert not small.has("frames_px")
    assert large.column("frames_px").tolist() == [512, 512]
    assert np.array_equal(reader.read_landmarks(small, 1), reader.read_landmarks(large, 1))
    for name in ("crop_px", "face_px", "yaw_deg", "movement", "key"):
        assert small.column(name).tolist() == large.column(name).tolist(), name
    np.testing.assert_allclose(small.column("blur"), large.column("blur"), rtol=0.1)
    native = video_reader.read_video(large, 0, [3, 20], 512)
    assert native.shape == (2, 512, 512, 3)
    usual = video_reader.read_video(large, 0, [3, 20])
    assert np.array_equal(usual, [crop.reduced(picture, 256) for picture in native])
    assert np.abs(usual.astype(int) - video_reader.read_video(small, 0, [3, 20], 512)).mean() < 3, "none is enlarged"
    with pytest.raises(UserError, match=r"frames of 256 px and model.size_px is 512; extract with\s+frames_px=512"):
        requirements.refuse_small_frames(small, [0, 1], 512)
    requirements.refuse_small_frames(large, [0, 1], 512)
    assert config.to_dict(Rules()).keys() - described(Rules()).keys() == {"frames_px"}, "folders of before go on"
    with pytest.raises(ValueError, match="frames_px must be 256 or 512, not 300"):
        Rules(frames_px=300)


class SlowSpeech(EnergyRule):
    """Takes its time for each second."""

    def __init__(self, passes):
        self.passes = passes

    def speech_T(self, audio_S, on_block=lambda: None):
        for _ in range(len(audio_S) // 16_000):
            self.passes()
            on_block()
        return super().speech_T(audio_S, on_block)


def test_a_source_ticks_while_it_is_hashed_and_heard_and_passed_over(tmp_path, monkeypatch):
    """Each MiB, piece of sound and decoded picture takes a second: none may pass in silence."""
    silent_s = [0]

    def passes(*_):
        silent_s[-1] += 1

    def tick(item, n):
        silent_s.append(0)

    class SlowHash:
        def __init__(self):
            self.real = hashlib.sha256()

        def update(self, block):
            passes()
            self.real.update(block)

        def hexdigest(self):
            return self.real.hexdigest()

    def slow_packets(*args):
        for packet in opening.packets(*args):
            passes()
            yield packet

    path = numbered.write(tmp_path / "v/a.mp4", numbered.regular(200), audio=np.full(48_000 * 8, 0.1, np.float32))
    with open(path, "ab") as file:
        file.write((5 << 20).to_bytes(4, "big") + b"free" + bytes((5 << 20) - 8))
    monkeypatch.setattr(digest, "hashlib", SimpleNamespace(sha256=SlowHash))
    monkeypatch.setattr(sound, "packets", slow_packets)
    monkeypatch.setattr(pictures, "packets", slow_packets)
    (tmp_path / "out").mkdir()
    source = sources.Source("a.mp4", 0, "c/x", 0, ranges_s=[[6.0, 8.0]])
    task = process.ShardTask(tmp_path / "v", tmp_path / "out", 0, (source,), "c", Rules(min_face_px=16))
    part = process.write_shard(task, Tools(stub_extract.StubDetector(), SlowSpeech(passes)), tick)
    assert part["sources"][0]["state"] == "extracted"
    assert sum(silent_s) > 400
    assert max(silent_s) <= 4


def test_a_source_without_a_frame_in_its_ranges_says_so_and_one_still_does_not_make_a_still_picture(tmp_path):
    times_s = [*numbered.regular(25), *(2.2 + t for t in numbered.regular(25))]  # 31 of 80 frames stand
    quiet_S = np.full(48_000 * 5, 0.1, np.float32)
    numbered.write(tmp_path / "a.mp4", times_s, audio=quiet_S, first=stub_extract.FACELESS)
    slide = [Fraction(0), Fraction(4), *numbered.regular(5, start_s=5)]
    numbered.write(tmp_path / "b.mp4", slide, audio=quiet_S)
    (tmp_path / "out").mkdir()
    listed = (
        sources.Source("a.mp4", 0, "c/x", 0, ranges_s=[[60.0, 70.0]]),
        sources.Source("a.mp4", 0, "c/x", 0),
        sources.Source("b.mp4", 0, "c/x", 0),
    )
    task = process.ShardTask(tmp_path, tmp_path / "out", 0, listed, "c", Rules(min_face_px=16))
    part = process.write_shard(task, Tools(stub_extract.StubDetector()), lambda item, n: None)
    assert [row["reason"] for row in part["sources"]] == ["no_frame", "no_face", "still_picture"]
