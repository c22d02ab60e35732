"""Verify names what is damaged: any one byte, a key, a length, a person in two splits; and nothing of whole shards."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.columns import column, mel
from data_pipeline.shards import checksums, manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import merging
from data_pipeline.tasks.runner import Runner
from data_pipeline.verify import command as verifying
from data_pipeline.verify import shard
from data_pipeline.verify.command import verdict, verified
from mytalk.digest import sha256_of
from tests.helpers.manifests import place_of


@pytest.fixture
def shards(filmed_shards, tmp_path) -> Path:
    return shutil.copytree(filmed_shards, tmp_path / "shards")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def test_whole_shards_are_sound_in_processes_too(shards, command, tmp_path):
    column.add(shards, "mel", mel.values, mel.made().width, of=mel.made().of)
    report = verified(str(shards), 1.0, Runner(0))
    assert report["findings"] == []
    assert report["decoded"] == report["clips"] == 16
    assert report["bytes"] == sum(path.stat().st_size for path in shards.glob("*.tar"))
    out = tmp_path / "verify.json"
    done = command("-m", "data_pipeline", "verify", str(shards), "--workers", "1", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SOUND: 6 shards, 16 clips")
    written = json.loads(out.read_text())
    assert 0 < written["decoded"] + 1 < report["decoded"]
    assert {**written, "decoded": 16} == report


@pytest.mark.parametrize("member", ["landmarks", "audio", "facts", "video"])
@pytest.mark.parametrize("where", ["first", "last"])
def test_one_flipped_byte_is_found_and_named(shards, member, where):
    """By shard, clip, member and place, although the block that its checksum covers holds other members too."""
    made = Manifest.load(shards)
    path, offset, size = place_of(made, 4, member)
    at = offset if where == "first" else offset + size - 1
    flip(path, at)
    report = verified(str(shards), 0.0, Runner(0))
    (finding,) = report["findings"]
    assert finding["check"] == "bytes"
    named = (finding["shard"], finding["file"], finding["key"], finding["member"], finding["byte"])
    assert named == (made.at(4, "shard"), path.name, made.at(4, "key"), member, at)
    assert verdict(report).startswith("DAMAGED: 6 shards")


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_read(filmed_shards, monkeypatch):
    monkeypatch.setattr(verifying, "verified", lambda *args: pytest.fail("shards were read"))
    args = verifying.arguments().parse_args([str(filmed_shards), "-o", str(filmed_shards / "manifest.json" / "x.json")])
    with pytest.raises(NotADirectoryError, match="manifest"):
        verifying.run(args)


def test_bytes_between_members_and_several_are_named(shards):
    made = Manifest.load(shards)
    path, offset, _ = place_of(made, 0, "audio")
    flip(path, offset - 500)
    (finding,) = verified(str(shards), 0.0, Runner(0))["findings"]
    assert (finding["key"], finding["member"]) == (made.at(0, "key"), "tar header of audio")
    flip(path, offset - 300)
    found = verified(str(shards), 0.0, Runner(0))["findings"]
    assert {one["check"] for one in found} == {"bytes"}
    assert {one["key"] for one in found} == {made.at(0, "key")}
    assert "audio" in {one["member"] for one in found}
    assert all("several bytes" in one["message"] for one in found)


def test_every_changed_byte_of_a_block_is_placed():
    block = bytes(range(256)) * 64
    stated = checksums.crc32(block)
    for at in (0, 1, 4321, len(block) - 1):
        for change in (1, 0x80, 0xFF):
            damaged = bytearray(block)
            damaged[at] ^= change
            assert checksums.flipped_byte(bytes(damaged), stated) == at
    damaged[5000] ^= 1
    assert checksums.flipped_byte(bytes(damaged), stated) is None


def test_a_tar_that_is_gone_short_or_without_checksums(shards):
    (shards / "motion-000000.tar").unlink()
    with open(shards / "frames-000001.tar", "r+b") as handle:
        handle.truncate(5000)
    (shards / "motion-000002.crc").write_bytes(b"nothing")
    found = {one["file"]: one["check"] for one in verified(str(shards), 0.0, Runner(0))["findings"]}
    names = ("motion-000000.tar", "frames-000001.tar", "motion-000002.crc")
    assert found == dict(zip(names, ("missing", "size", "checksums")))


def rewritten(shards: Path, **columns: list) -> None:
    made = Manifest.load(shards)
    table = made.table
    for name, values in columns.items():
        table = merging.set_column(table, name, pa.array(values, table.schema.field(name).type))
    header = {**made.header, "table": None}
    manifest_update.save(shards, table, header)


def test_keys_and_lengths_that_differ_from_the_shard_are_named(shards):
    made = Manifest.load(shards)
    keys, frames = made.column("key").tolist(), made.column("frames").tolist()
    keys[3], frames[7] = "another", frames[7] + 1
    rewritten(shards, key=keys, frames=frames)
    found = verified(str(shards), 0.0, Runner(0))["findings"]
    of_key = [one for one in found if one["check"] == "keys"]
    assert {one["key"] for one in of_key} == {"another"}
    assert [one["member"] for one in of_key] == ["landmarks", "audio", "facts", "video"], "the same order each time"
    of_length = [(one["key"], one["member"]) for one in found if one["check"] == "lengths"]
    assert of_length == [(keys[7], name) for name in ("audio", "landmarks", "video")]


def test_what_does_not_decode_is_named_where_it_is_decoded(shards):
    """Its checksums are right: it was written so."""
    made = Manifest.load(shards)
    path, offset, size = place_of(made, 2, "video")
    data = bytearray(path.read_bytes())
    data[offset + size - 900 : offset + size] = bytes(900)
    path.write_bytes(data)
    checksums.write(path, path.with_suffix(".crc"))
    found = verified(str(shards), 0.0, Runner(0))["findings"]
    assert [(one["check"], one["file"]) for one in found] == [("bytes", path.name)]
    header = json.loads((shards / "manifest.json").read_text())
    header["shards"][int(made.at(2, "shard"))]["frames"]["sha256"] = sha256_of(path)
    (shards / "manifest.json").write_text(json.dumps(header))
    assert verified(str(shards), 0.0, Runner(0))["findings"] == []
    found = verified(str(shards), 1.0, Runner(0))["findings"]
    assert {(one["check"], one["key"], one["member"]) for one in found} == {("decode", made.at(2, "key"), "video")}


def test_a_key_of_two_clips_is_named(shards):
    keys = Manifest.load(shards).column("key").tolist()
    rewritten(shards, key=[keys[0], keys[0], *keys[2:]])
    found = [one for one in verified(str(shards), 0.0, Runner(0))["findings"] if one["check"] == "manifest"]
    assert [(one["key"], one["message"]) for one in found] == [(keys[0], "2 clips have this key")]


def test_a_person_in_two_splits_and_a_torn_manifest_are_findings(shards, command):
    made = Manifest.load(shards)
    splits = made.column("split").tolist()
    splits[0] = "unseen"
    with pytest.raises(Exception, match="is in splits"):
        rewritten(shards, split=splits)
    table = merging.set_column(made.table, "split", pa.array(splits))
    pq.write_table(table, shards / "manifest.parquet")
    done = command("-m", "data_pipeline", "verify", str(shards), "--workers", "0", "--decode", "0")
    assert done.returncode == 1
    assert "split" in done.stdout
    assert "is in splits" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("DAMAGED")
    assert "1 manifest, 1 split" in done.stdout


def test_what_is_checked_together_continues_and_is_read_again_where_damaged_or_asked(shards, tmp_path, monkeypatch):
    """Killed after one shard, the others alone are read; two at once read each shard once.

    Who comes when all is done, as late elements of an array, reads none of the sound ones.
    """
    alone, share, checked = verified(str(shards), 0.5, Runner(0)), tmp_path / "share", []
    real = shard.check

    def counted(task, tick):
        if len(checked) == 1 and not (share / "continued").exists():
            raise KeyboardInterrupt
        checked.append(task.shard)
        return real(task, tick)

    monkeypatch.setattr(shard, "check", counted)
    with pytest.raises(KeyboardInterrupt):
        verified(str(shards), 0.5, Runner(0), share)
    (share / "continued").touch()
    assert verified(str(shards), 0.5, Runner(0), share) == alone
    assert sorted(checked) == list(range(alone["shards"]))
    checked.clear()
    flip(shards / "motion-000000.tar", 3000)
    assert verified(str(shards), 0.5, Runner(0), share) == alone, "a late one takes what was found"
    assert checked == []
    damaged = verified(str(shards), 0.5, Runner(0), share, again=True)
    assert damaged["counts"] == verified(str(shards), 0.5, Runner(0))["counts"] != {}
    flip(shards / "motion-000000.tar", 3000)
    checked.clear()
    assert verified(str(shards), 0.5, Runner(0), share) == alone
    assert checked == [0], "it was mended"
    shutil.rmtree(share)
    share.mkdir()
    (share / "continued").touch()
    checked.clear()
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(verified, str(shards), 0.5, Runner(0), share) for _ in range(2)]
        assert [one.result() for one in both] == [alone, alone]
    assert sorted({*checked}) == list(range(alone["shards"]))
