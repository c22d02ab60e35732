"""The manifest: reads by byte range equal whole reads, and what must be refused is."""

from __future__ import annotations

import copy
import io
import json
import os
import tarfile
import wave
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.shards import checksums, manifest_update, members, reader, video_reader
from data_pipeline.shards import manifest as manifests
from data_pipeline.shards.layout import MEMBERS
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import leaks, merging
from mytalk import command, media
from mytalk.command import UserError
from tests.helpers import numbered, stub_extract
from tests.helpers.manifests import place_of, row, table

OPTIONS = ("--corpus", "c", "--sources-per-shard", "3", "min_face_px=16", *stub_extract.ANY_SOUND)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("manifest")
    code, said = stub_extract.run(stub_extract.corpus(root / "videos"), root / "out", *OPTIONS)
    assert code == 0, said
    return root / "out"


@pytest.fixture
def manifest(folder) -> Manifest:
    return Manifest.load(folder)


def test_offsets_are_those_of_the_tars(manifest):
    assert len(manifest) == 7
    assert (np.diff(manifest.column("shard")) >= 0).all()
    for index, key in enumerate(manifest.column("key")):
        for member, (column, extension) in MEMBERS.items():
            path = manifest.shard_path(column, manifest.column("shard")[index])
            with tarfile.open(path) as tar:
                stored = tar.extractfile(f"{key}.{extension}").read()
            assert reader.read_member(manifest, index, member) == stored


def test_the_columns_equal_the_members(manifest):
    for index in range(len(manifest)):
        frames = manifest.column("frames")[index]
        facts = json.loads(reader.read_member(manifest, index, "facts"))
        for name in ("identity", "source", "start_frame", "face_px", "source_sha256", "yaw_deg"):
            assert facts[name] == manifest.column(name)[index]
        assert facts["crop"] == list(manifest.column("crop")[index])
        assert facts["stop_frame"] - facts["start_frame"] == frames
        points = np.load(io.BytesIO(reader.read_member(manifest, index, "landmarks")), allow_pickle=False)
        assert points.dtype == np.float16
        assert points.shape == (frames, 478, 3)
        with wave.open(io.BytesIO(reader.read_member(manifest, index, "audio"))) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
            assert sound.getnframes() == frames * 640


def test_pictures_landmarks_and_sound_of_a_clip_belong_together(manifest, folder):
    """Numbers shown in the crops are those the stub wrote into the landmarks, from the clip's first frame on."""
    for index in range(len(manifest)):
        frames = int(manifest.column("frames")[index])
        crop = np.array(manifest.column("crop")[index]).reshape(2, 3)
        points = reader.read_landmarks(manifest, index)
        in_source = (points.mean(axis=1)[:, 0] - crop[0, 2]) / crop[0, 0]
        from_landmarks = np.rint((in_source - 32) * 50).astype(int)
        pictures = video_reader.read_video(manifest, index, range(frames))
        assert pictures.shape == (frames, 256, 256, 3)
        source = folder.parent / "videos" / manifest.column("source")[index]
        start = int(manifest.column("start_frame")[index])
        shown = [numbered.number(frame) for frame in media.read_frames(source)][start : start + frames]
        assert np.abs(from_landmarks - shown).max() <= 3  # fp16
        heard = reader.read_audio(manifest, index)
        if not manifest.column("has_audio")[index]:
            assert not heard.any()
            continue
        sound = media.read_audio(source)[start * 640 : (start + frames) * 640]
        assert np.abs(heard[: len(sound)] - sound).max() <= 0.5001 / 32768 + 1e-6


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_windows_equal_parts_of_whole_reads(folder, data):
    manifest = Manifest.load(folder)
    index = data.draw(st.integers(0, len(manifest) - 1))
    frames = int(manifest.column("frames")[index])
    start = data.draw(st.integers(0, frames))
    stop = data.draw(st.integers(start, frames))
    whole = np.load(io.BytesIO(reader.read_member(manifest, index, "landmarks"))).astype(np.float32)
    np.testing.assert_array_equal(reader.read_landmarks(manifest, index, start, stop), whole[start:stop])
    pcm = reader.read_member(manifest, index, "audio")[44:]
    sound = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    np.testing.assert_array_equal(reader.read_audio(manifest, index, start, stop), sound[start * 640 : stop * 640])
    assert place_of(manifest, index, "landmarks", start, stop)[2] == (stop - start) * 478 * 6
    assert place_of(manifest, index, "audio", start, stop)[2] == (stop - start) * 1280


def test_windows_outside_a_clip_are_refused(manifest):
    frames = int(manifest.column("frames")[0])
    for start, stop in ((-1, 3), (0, frames + 1), (5, 4)):
        with pytest.raises(IndexError):
            reader.read_landmarks(manifest, 0, start, stop)
        with pytest.raises(IndexError):
            reader.read_audio(manifest, 0, start, stop)
    with pytest.raises(IndexError):
        video_reader.read_video(manifest, 0, [frames])


def copy_of(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("size", [0, 1, 5000, checksums.BLOCK_BYTES, 3 * checksums.BLOCK_BYTES + 7])
def test_checksums_are_zlibs_crc32(size):
    """Whatever makes them: the files on disk were, and are, CRC-32."""
    data = np.random.default_rng(size).bytes(size)
    assert checksums.crc32(data) == zlib.crc32(data)
    blocks = [data[at : at + checksums.BLOCK_BYTES] for at in range(0, size, checksums.BLOCK_BYTES)]
    stated = np.array([zlib.crc32(block) for block in blocks], "<u4")
    assert checksums.first_damaged(data, 0, stated) is None
    for block in range(len(stated)):
        stated[block] ^= 1
        assert checksums.first_damaged(data, 0, stated) == block
        assert (
            checksums.first_damaged(data[block * checksums.BLOCK_BYTES :], block * checksums.BLOCK_BYTES, stated)
            == block
        )
        stated[block] ^= 1


def test_damaged_shards_are_content_errors(folder, tmp_path):
    copy = copy_of(folder, tmp_path)
    manifest = Manifest.load(copy)
    path, offset, size = place_of(manifest, 0, "landmarks")
    bad = bytearray(path.read_bytes())
    bad[offset + size - 2 : offset + size] = np.float16(np.nan).tobytes()
    path.write_bytes(bad)
    with pytest.raises(reader.ClipError) as caught:
        reader.read_landmarks(manifest, 0)
    assert caught.value.reason == "checksum"
    checksums.write(path, copy / "motion-000000.crc")
    with pytest.raises(reader.ClipError) as caught:
        reader.read_landmarks(manifest, 0)
    assert caught.value.reason == "not_finite"
    bad[offset + size - 2 : offset + size] = np.float16(-65504).tobytes()  # near the camera, and all that fp16 holds
    path.write_bytes(bad)
    checksums.write(path, copy / "motion-000000.crc")
    assert reader.read_landmarks(manifest, 0)[-1, -1, 2] == -65504
    os.truncate(path, offset + 100)
    with pytest.raises(reader.ClipError) as caught:
        reader.read_landmarks(manifest, 0)
    assert (caught.value.reason, caught.value.key) == ("short", manifest.column("key")[0])
    video, offset, size = place_of(manifest, 0, "video")
    bad = bytearray(video.read_bytes())
    bad[offset : offset + size] = bytes(size)
    video.write_bytes(bad)
    checksums.write(video, copy / "frames-000000.crc")
    with pytest.raises(reader.ClipError) as caught:
        video_reader.read_video(manifest, 0, [0])
    assert caught.value.reason == "corrupt"


def test_a_damaged_clip_is_a_users_to_mend_and_travels_between_processes():
    error = reader.ClipError("a-0", "short", "its shard ends 3 bytes too early")
    assert isinstance(error, UserError)
    assert str(error) == (
        "clip a-0: its shard ends 3 bytes too early; mend its shard or extract it again, then run the same command"
    )
    sent = copy.copy(error)  # by what pickle goes by
    assert (type(sent), str(sent), sent.key, sent.reason) == (reader.ClipError, str(error), "a-0", "short")


def test_a_missing_shard_is_an_error_of_the_machine(folder, tmp_path):
    copy = copy_of(folder, tmp_path)
    (copy / "motion-000000.tar").unlink()
    with pytest.raises(FileNotFoundError):
        reader.read_landmarks(Manifest.load(copy), 0)


def test_a_forked_reader_goes_on(manifest):
    expected = reader.read_landmarks(manifest, 0)
    child = os.fork()
    if child == 0:
        same = np.array_equal(reader.read_landmarks(manifest, 0), expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(reader.read_landmarks(manifest, 0), expected)


def test_audio_keeps_16_bit_exactly():
    steps = np.arange(-32768, 32768, dtype=np.float64) / 32768
    back = members.from_pcm(members.audio_wav(steps)[44:])
    np.testing.assert_array_equal(back, steps.astype(np.float32))
    assert members.from_pcm(members.audio_wav([2.0, -2.0])[44:]).tolist() == [32767 / 32768, -1]


# Refusals --------------------------------------------------------------------------------------------


def test_invariant_3_a_person_in_two_splits_is_refused(tmp_path):
    fine = table(row("c/a", "train"), row("c/b", "val"), row("c/a", "train", "x"), row("c/d", ""))
    made = manifest_update.save(tmp_path, fine, {})
    assert Manifest.load(tmp_path).digest == made.digest
    for bad in (
        table(row("c/a", "train"), row("c/b", "val"), row("c/a", "val", "x")),
        table(row("c/a", "train", "same"), row("c/b", "unseen", "same")),
        fine.append_column("duplicate_group", pa.array(["g", "g", "g", "h"])),
    ):
        with pytest.raises(command.UserError, match="--force"):
            manifest_update.save(tmp_path, bad, {})
        _save_unchecked(tmp_path, bad)
        with pytest.raises(command.UserError, match="is in splits"):
            Manifest.load(tmp_path)


def _save_unchecked(folder, bad) -> None:
    """What another program might write: every digest right, the split wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "refuse_leaks", lambda table, folder: None)
        manifest_update.save(folder, bad, {})


def test_what_is_missing_or_of_another_format_is_refused_with_the_command(folder, tmp_path):
    with pytest.raises(command.UserError, match="python -m data_pipeline extract"):
        Manifest.load(tmp_path)
    copy = copy_of(folder, tmp_path)
    header = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(command.UserError, match="format 99, this version reads 3; extract into another folder"):
        Manifest.load(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(command.UserError, match="not JSON"):
        Manifest.load(copy)
    (copy / "manifest.json").write_text(json.dumps(header))
    Manifest.load(copy)
    (copy / "manifest.parquet").write_bytes((copy / "manifest.parquet").read_bytes() + b"x")
    with pytest.raises(command.UserError, match="not of one write"):
        Manifest.load(copy)
    (copy / "manifest.parquet").unlink()
    with pytest.raises(command.UserError, match=r"manifest\.parquet is missing"):
        Manifest.load(copy)


def test_rows_of_a_split(tmp_path):
    made = manifest_update.save(tmp_path, table(row("c/a", ""), row("c/b", "")), {})
    with pytest.raises(command.UserError, match="python -m data_pipeline split"):
        made.rows("train")
    made = manifest_update.save(tmp_path, table(row("c/a", "train"), row("c/b", "val"), row("c/d", "train")), {})
    assert made.rows("train").tolist() == [0, 2]
    with pytest.raises(command.UserError, match="no clip is in split 'unseen'"):
        made.rows("unseen")
    with pytest.raises(command.UserError, match="no split 'test'"):
        made.rows("test")
    with pytest.raises(command.UserError, match="no column 'sync'"):
        made.column("sync")


def test_who_does_not_speak_teaches_no_speech(tmp_path):
    """A clip of which nothing is said counts as speech, and so does every clip of a manifest without the columns."""
    facts: list[dict] = [
        {"speaks": True},
        {},
        {"speaks": False, "why_silent": "music"},
        {"speaks": False, "why_silent": "not_speaking"},
        {"has_audio": False, "speaks": False, "why_silent": "no_sound"},
        {"has_audio": False},  # of a folder of before
        {"speaks": False, "why_silent": None},  # of other people's tars
        {"has_audio": None, "speaks": None, "why_silent": None},
    ]
    rows = [row(f"c/p{n}", "train", key=f"k{n}") | fact for n, fact in enumerate(facts)]
    made = manifest_update.save(tmp_path, table(*rows), {})
    for manifest in (made, Manifest.load(tmp_path)):
        assert np.flatnonzero(manifest.with_speech()).tolist() == [0, 1, 7]
        assert manifest.rows("train").tolist() == list(range(8))
        assert manifest.rows("train", with_speech=True).tolist() == [0, 1, 7]
        reasons = {"music": 1, "no_sound": 2, "not_speaking": 2}
        assert manifest.silent_by_reason(np.arange(8)) == reasons
        assert manifest.silent_by_reason(np.array([0, 2])) == {"music": 1}
    older = Manifest(tmp_path, made.header, made.table.drop_columns(["has_audio", "speaks", "why_silent"]))
    assert older.with_speech().all()
    assert older.silent_by_reason(np.arange(8)) == {}
    mute = manifest_update.save(tmp_path, table(rows[2]), {})
    with pytest.raises(UserError, match="no clip of split 'train' has speech"):
        mute.rows("train", with_speech=True)


def test_what_is_known_of_old_clips_survives_new_ones():
    old = table(row("c/a", "train", key="one"), row("c/b", "val", key="two"))
    old = old.append_column("sync_offset", pa.array([1.0, 2.0]))
    fresh = table(row("c/z", "", key="new"), row("c/b", "", key="two"), row("c/a", "", key="one"))
    merged, _ = merging.carry_over(fresh, {"shards": []}, old, {"shards": []})
    assert merged["split"].to_pylist() == ["", "val", "train"]
    assert merged["sync_offset"].to_pylist() == [None, 2.0, 1.0]


def test_the_header_says_how_the_shards_were_made(manifest, folder):
    import hashlib

    protocol = manifest.header["protocol"]
    assert protocol["frame_hz"] == 25
    assert protocol["crop_px"] == 256
    for shard in manifest.header["shards"]:
        for column in ("motion", "frames"):
            data = manifest.shard_path(column, shard["shard"]).read_bytes()
            assert shard[column] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert manifest.digest == hashlib.sha256((folder / "manifest.parquet").read_bytes()).hexdigest()


def test_a_writer_between_its_two_renames_is_waited_for(folder, tmp_path, monkeypatch):
    """The table is new, the header comes a moment later: the reader looks once more."""
    copy = copy_of(folder, tmp_path)
    old = Manifest.load(copy)
    header = (copy / "manifest.json").read_bytes()
    made = manifest_update.save(copy, old.table.append_column("late", pa.array([0.0] * len(old))), old.header)
    new = (copy / "manifest.json").read_bytes()
    (copy / "manifest.json").write_bytes(header)
    monkeypatch.setattr(manifests.time, "sleep", lambda _: (copy / "manifest.json").write_bytes(new))
    assert Manifest.load(copy).digest == made.digest
