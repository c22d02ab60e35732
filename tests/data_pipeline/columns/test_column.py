"""Later columns: read by windows and by webdataset, continued when killed, shifted with the sound."""

from __future__ import annotations

import io
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import webdataset

from data_pipeline.columns import column, mel
from data_pipeline.examples.motion import MotionExamples
from data_pipeline.sample import windows
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import manifest_update, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from mytalk.command import UserError
from mytalk.networks.speech_features import log_mel
from tests.helpers import stub_extract
from tests.helpers.indexing import (
    doubled,
    state,
)
from tests.helpers.killed import files, killed_after


def test_a_column_is_read_by_windows_and_by_webdataset(talker_shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(talker_shards, folder)
    before = files(folder)
    added = column.add(folder, "pair", doubled, 2)
    manifest = Manifest.load(folder)
    assert (added.clips, added.written, added.damaged) == (len(manifest), len(manifest), [])
    assert manifest.header["members"] == {"pair": {"column": "pair", "width": 2}}
    untouched = [name for name in before if not name.startswith("manifest")]
    assert all((folder / name).read_bytes() == before[name] for name in untouched)
    old = pa.parquet.read_table(io.BytesIO(before["manifest.parquet"]))
    assert manifest.table.select(old.column_names).equals(old)
    for row in range(len(manifest)):
        frames = int(manifest.at(row, "frames"))
        (window,) = reader.read(manifest, [ReadRequest(row, "pair", 4, 9)])
        assert window.dtype == np.float16
        np.testing.assert_array_equal(window, doubled(manifest, row)[4:9])
        np.testing.assert_array_equal(
            reader.read(manifest, [ReadRequest(row, "pair", 0, frames)])[0], doubled(manifest, row)
        )

    def stock(name: str) -> list[dict]:
        paths = sorted(str(path) for path in folder.glob(f"{name}-*.tar"))
        return list(webdataset.WebDataset(paths, shardshuffle=False).decode())

    assert [one["__key__"] for one in stock("pair")] == [one["__key__"] for one in stock("motion")]
    np.testing.assert_array_equal(stock("pair")[1]["pair.npy"], doubled(manifest, 1))
    whole = state(folder)
    assert column.add(folder, "pair", doubled, 2).written == 0
    assert state(folder) == whole
    for name, width in (("pair", 3), ("motion", 1), ("../x", 1), ("landmarks", 1)):
        with pytest.raises(UserError):
            column.add(folder, name, doubled, width)


def test_windows_want_a_column_and_get_its_frames(talker_shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(talker_shards, folder)
    column.add(folder, "pair", doubled, 2)

    class WithPair(windows.Windows):
        members = ("landmarks", "audio", "pair")

    manifest = Manifest.load(folder)
    drawn = WithPair(manifest, SamplingConfig(), ("frames",), Purpose.WINDOW, 5, 20)
    for slot in range(8):
        example = drawn.example(slot)
        landmarks, audio, pair = reader.read(manifest, drawn.requests(example))
        assert len(landmarks) == len(audio) // 640 == len(pair)
        assert pair[:, 0].tolist() == list(range(example.window.start, example.window.stop))


def test_wrong_features_are_refused_and_damaged_clips_hold_nan(talker_shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(talker_shards, folder)
    for make in (
        lambda m, row: np.zeros((3, 2)),
        lambda m, row: np.full((m.at(row, "frames"), 2), 1e6),
        lambda m, row: np.full((m.at(row, "frames"), 2), np.nan),
    ):
        with pytest.raises(ValueError, match="features"):
            column.add(folder, "pair", make, 2)
    assert not list(folder.rglob("*pair*"))

    def sometimes(manifest: Manifest, row: int) -> np.ndarray:
        if row == 1:
            raise reader.ClipError("k", "checksum", "it is damaged")
        return doubled(manifest, row)

    manifest = Manifest.load(folder)
    assert column.add(folder, "pair", sometimes, 2).damaged == [manifest.at(1, "key")]
    good, bad = reader.read(Manifest.load(folder), [ReadRequest(0, "pair", 0, 5), ReadRequest(1, "pair", 0, 5)])
    assert isinstance(good, np.ndarray)
    assert bad.reason == "not_finite"


def test_a_column_killed_anywhere_is_continued_to_equal_bytes(talker_shards, tmp_path):
    def run(folder: Path, events: int) -> tuple[int, int]:
        def add(event) -> None:
            def make(manifest, row):
                event()
                return np.full((manifest.at(row, "frames"), 2), row)

            column.add(folder, "pair", make, 2)

        return killed_after(add, events)

    shutil.copytree(talker_shards, tmp_path / "whole")
    code, events = run(tmp_path / "whole", 10_000)
    assert code == 0
    wanted = {name: data for name, data in files(tmp_path / "whole").items() if not name.endswith(".lock")}
    for after in (2, events // 2, *range(events - 4, events - 1)):  # the last four are of the manifest
        folder = tmp_path / f"killed-{after}"
        shutil.copytree(talker_shards, folder)
        assert run(folder, after)[0] == -signal.SIGKILL
        made = {path.name: path.stat().st_ino for path in folder.glob("pair-*.tar")}
        parts = {f"{path.stem}.tar" for path in (folder / "parts").glob("pair-*.json")}
        assert run(folder, 10_000)[0] == 0
        assert {name: data for name, data in files(folder).items() if not name.endswith(".lock")} == wanted
        assert all(
            (folder / name).stat().st_ino == made[name] for name in parts
        )  # what was committed is not made again


def test_mel_is_that_of_the_whole_clip(talker_shards, tmp_path, command):
    folder = tmp_path / "shards"
    shutil.copytree(talker_shards, folder)
    said = command("-m", "data_pipeline", "column", str(folder), "mel", timeout=600)
    assert said.returncode == 0, said.stderr
    manifest = Manifest.load(folder)
    assert f"mel      {len(manifest)} clips, {len(manifest)} of them written now, 320 values a frame" in said.stdout
    for row in (0, 5):
        frames = int(manifest.at(row, "frames"))
        (found,) = reader.read(manifest, [ReadRequest(row, "mel", 0, frames)])
        wanted = log_mel(torch.from_numpy(reader.read_audio(manifest, row))[None])[0]
        np.testing.assert_array_equal(found.reshape(-1, 80), wanted.numpy().astype(np.float16))
    assert "example:" in command("-m", "data_pipeline", "column", "--help").stdout
    assert "example:" in command("-m", "data_pipeline", "index", "--help").stdout


def test_extract_keeps_a_later_column(tmp_path):
    videos, out = stub_extract.corpus(tmp_path / "videos"), tmp_path / "out"
    options = ("--corpus", "c", "--sources-per-shard", "3", "min_face_px=16", *stub_extract.ANY_SOUND)
    assert stub_extract.run(videos, out, *options)[0] == 0
    column.add(out, "pair", doubled, 2)
    before = files(out)
    assert stub_extract.run(videos, out, *options)[0] == 0
    assert files(out) == before
    first = Manifest.load(out)
    shutil.copy(videos / first.at(0, "source"), videos / "new.mp4")
    assert stub_extract.run(videos, out, *options)[0] == 0
    grown = Manifest.load(out)
    assert len(grown) > len(first)
    assert grown.header["shards"][0]["pair"] == first.header["shards"][0]["pair"]
    good, none = reader.read(grown, [ReadRequest(0, "pair", 1, 4), ReadRequest(len(grown) - 1, "pair", 1, 4)])
    assert good[:, 0].tolist() == [1, 2, 3]
    assert none.reason == "layout"
    assert column.add(out, "pair", doubled, 2).written == len(grown) - len(first)


def test_stock_webdataset_decodes_our_shards_and_our_columns_in_equal_order(filmed_shards):
    def stock(name: str) -> list[dict]:
        return list(webdataset.WebDataset(sorted(map(str, filmed_shards.glob(f"{name}-*.tar"))), shardshuffle=False))

    manifest = Manifest.load(filmed_shards)
    keys = manifest.column("key").tolist()
    assert [one["__key__"] for one in stock("motion")] == [one["__key__"] for one in stock("frames")] == keys
    paths = sorted(map(str, filmed_shards.glob("motion-*.tar")))
    for row, one in enumerate(webdataset.WebDataset(paths, shardshuffle=False).decode()):
        landmarks = one["landmarks.npy"]
        assert landmarks.dtype == np.float16
        np.testing.assert_array_equal(landmarks.astype(np.float32), reader.read_landmarks(manifest, row))
        assert one["facts.json"]["identity"] == manifest.at(row, "identity")
        assert one["audio.wav"] == reader.read_member(manifest, row, "audio")


def test_features_of_the_speech_are_shifted_with_it(talker_shards, tmp_path):
    """Annotated after the column was made: frame t gives the values of t + 2; motion examples bring them along."""
    folder = shutil.copytree(talker_shards, tmp_path / "shards")
    column.add(folder, "mel", mel.values, 320, of="audio")
    plain = Manifest.load(folder)
    offsets = pa.array([2.0] * len(plain))
    manifest_update.save(folder, Manifest.load(folder).table.append_column("sync_offset", offsets), plain.header)
    late = Manifest.load(folder)
    (before,), (after,) = (
        reader.read(plain, [ReadRequest(3, "mel", 7, 17)]),
        reader.read(late, [ReadRequest(3, "mel", 5, 15)]),
    )
    np.testing.assert_array_equal(before, after)
    examples = MotionExamples(late, SamplingConfig(), WindowConfig(12, 24, 10), features="mel")
    batch = examples([0, 5, 9])
    for i, slot in enumerate((0, 5, 9)):
        place, source = examples.windows.example(slot)
        for (row, start, stop), held in ((place, batch.features_BTD[i]), (source, batch.source_features_BUD[i])):
            (wanted,) = reader.read(plain, [ReadRequest(row, "mel", start + 2, stop + 2)])
            np.testing.assert_array_equal(held[: stop - start], wanted.astype(np.float32))
            assert not held[stop - start :].any()
    with pytest.raises(UserError, match=r"no column holds 'hubert'; there are: .*mel"):
        MotionExamples(late, SamplingConfig(), WindowConfig(12, 24, 10), features="hubert")
