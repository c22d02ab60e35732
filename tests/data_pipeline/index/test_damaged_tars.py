"""Tars of others that are damaged or hostile: every sample ends in one state, with a named reason."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.index import merge, third_party
from data_pipeline.index.field_mapping import FieldMapping
from data_pipeline.index.tar_samples import TarMember, Unusable
from data_pipeline.shards import members, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from mytalk.command import UserError
from tests.helpers.indexing import (
    OPTIONS,
    clip,
    indexed,
    ledger_of,
    npy,
    raw_tar,
    reasons,
    tar_of,
)
from tests.helpers.manifests import place_of


def test_a_flipped_bit_in_a_third_party_tar_is_found(tmp_path):
    tar = tar_of(tmp_path / "tars" / "a.tar", [(f"k{n}", clip(n)) for n in range(2)])
    indexed(tmp_path / "out", tar, *OPTIONS)
    manifest = Manifest.load(tmp_path / "out")
    path, offset, _ = place_of(manifest, 1, "landmarks", 5, 6)
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    (found,) = reader.read(manifest, [ReadRequest(1, "landmarks", 5, 6)])
    assert isinstance(found, reader.ClipError)
    assert found.reason == "checksum"


NPY, SILENCE = npy(np.zeros((30, 478, 3), np.float16)), members.audio_wav(np.zeros(30 * 640))
BROKEN = {
    "no-landmarks": ({"lm.npy": None}, "no_landmarks"),
    "no-audio": ({"wav": None}, "no_audio"),
    "fp32": ({"lm.npy": npy(np.zeros((30, 478, 3), np.float32))}, "landmarks_dtype"),
    "big-endian": ({"lm.npy": npy(np.zeros((30, 478, 3), ">f2"))}, "landmarks_dtype"),
    "pickled": ({"lm.npy": npy(np.array([{"a": 1}], dtype=object))}, "landmarks_dtype"),
    "points": ({"lm.npy": npy(np.zeros((30, 468, 2), np.float16))}, "landmarks_shape"),
    "flat": ({"lm.npy": npy(np.zeros(30, np.float16))}, "landmarks_shape"),
    "none": ({"lm.npy": npy(np.zeros((0, 478, 3), np.float16))}, "landmarks_shape"),
    "fortran": ({"lm.npy": npy(np.asfortranarray(np.zeros((30, 478, 3), np.float16)))}, "landmarks_shape"),
    "huge": ({"lm.npy": NPY.replace(b"(30, 478, 3), }" + b" " * 9, b"(30000000000, 478, 3), }")}, "landmarks_shape"),
    "negative": ({"lm.npy": NPY.replace(b"(30, ", b"(-3, ")}, "landmarks_shape"),
    "cut": ({"lm.npy": npy(np.zeros((30, 478, 3), np.float16))[:-2]}, "landmarks_shape"),
    "nan": ({"lm.npy": npy(np.full((30, 478, 3), np.nan, np.float16))}, "landmarks_not_finite"),
    "empty": ({"lm.npy": b""}, "landmarks_npy"),
    "text": ({"lm.npy": b"no array" * 40}, "landmarks_npy"),
    "deep": ({"lm.npy": b"\x93NUMPY\x01\x00\xf0\x00" + b"(" * 240}, "landmarks_npy"),
    "pickle": ({"lm.npy": b"\x80\x04\x95cos\nsystem\n"}, "landmarks_npy"),
    "rate": ({"wav": members.audio_wav(np.zeros(30 * 640), 22050)}, "audio_format"),
    "mp3": ({"wav": b"ID3" + bytes(100)}, "audio_format"),
    "no-sound": ({"wav": b""}, "audio_format"),
    "float-wav": ({"wav": SILENCE.replace(struct.pack("<IH", 16, 1), struct.pack("<IH", 16, 3))}, "audio_format"),
    "short-sound": ({"wav": members.audio_wav(np.zeros(29 * 640))}, "audio_length"),
    "wrong-sound": ({"wav": SILENCE[:40] + b"\xff" * 4 + SILENCE[44:]}, "audio_length"),
    "cut-sound": ({"wav": members.audio_wav(np.zeros(30 * 640))[:-2]}, "audio_length"),
    "facts": ({"meta.json": b"{nothing"}, "facts_json"),
    "listed": ({"meta.json": b"[1]"}, "facts_json"),
    "nested": ({"meta.json": b"[" * 100_000}, "facts_json"),
    "nobody": ({"meta.json": b"{}"}, "no_identity"),
    "number": ({"meta.json": b'{"identity": [1]}'}, "no_identity"),
}  # fmt: skip


def test_every_sample_ends_in_one_state_and_the_ledger_adds_up(tmp_path, capsys):
    samples = [("good", clip(0))]
    for name, (change, _) in BROKEN.items():
        changed = {**clip(1), **change}
        samples.append((name, {extension: data for extension, data in changed.items() if data is not None}))
    samples.append(("last", clip(2)))
    tar_of(tmp_path / "tars" / "a.tar", samples)
    tar_of(tmp_path / "tars" / "b.tar", [("good", clip(3)), ("other", clip(4))])
    assert indexed(tmp_path / "out", tmp_path / "tars" / "?.tar", *OPTIONS) == 0
    out = tmp_path / "out"
    assert [line["reason"] for line in ledger_of(out) if line.get("key") == "good" and "reason" in line] == [
        "duplicate_key"
    ]
    found = {key: reason for key, reason in reasons(out).items() if key != "good"}
    assert found == {name: reason for name, (_, reason) in BROKEN.items()} | {"last": "kept", "other": "kept"}
    assert Manifest.load(out).column("key").tolist() == ["good", "last", "other"]
    said = capsys.readouterr().out
    assert f"samples  {len(samples) + 2} = 3 kept + {len(BROKEN) + 1} rejected (2 audio_format" not in said
    assert f"samples  {len(samples) + 2} = 3 kept + {len(BROKEN) + 1} rejected (" in said
    assert "1 duplicate_key" in said
    assert "4 landmarks_npy" in said
    assert all(line.get("message") for line in ledger_of(out) if line["state"] == "rejected")


def test_a_ledger_that_does_not_add_up_is_refused(tmp_path):
    tar = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0)), ("b", {"wav": b""})])
    indexed(tmp_path / "out", tar, *OPTIONS)
    builder = merge.IndexBuilder(tmp_path / "out", {})
    head, *found = [json.loads(line) for line in next((tmp_path / "out" / "parts").iterdir()).read_text().splitlines()]
    builder.add_tar(merge.ShardSource("../tars/a.tar"), head, found)
    table = builder.table(False)
    builder.check(table)
    with pytest.raises(merge.LedgerError):
        builder.check(table.slice(1))
    builder.states["lost"] += 1
    with pytest.raises(merge.LedgerError):
        builder.check(table)


def test_hostile_names_and_links_get_a_reason(tmp_path):
    good = clip(0)
    listed: list[tuple[tarfile.TarInfo | str, bytes]] = []
    for key in ("../../evil", "/etc/evil", "a\nb", "a\\b", "x" * 210, "a/../b", "sub.v1/clip", "./plain", "caf\udce9"):
        listed += [(f"{key}.{extension}", data) for extension, data in good.items()]
    link = tarfile.TarInfo("linked.lm.npy")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("hard.wav")
    hard.type, hard.linkname = tarfile.LNKTYPE, "plain.wav"
    folder = tarfile.TarInfo("a.folder")
    folder.type = tarfile.DIRTYPE
    listed += [(link, b""), ("linked.wav", good["wav"]), ("hard.lm.npy", good["lm.npy"]), (hard, b""), (folder, b"")]
    listed += [
        ("README", b"read"),
        ("__index__.json", b"{}"),
        ("__meta__", b"{}"),
        ("twice.wav", good["wav"]),
        ("twice.wav", good["wav"]),
    ]
    tar = raw_tar(tmp_path / "tars" / "a.tar", listed)
    indexed(tmp_path / "out", tar, *OPTIONS)
    assert {line["key"]: line.get("reason", "kept") for line in ledger_of(tmp_path / "out") if "key" in line} == {
        "../../evil": "unsafe_key",
        "/etc/evil": "unsafe_key",
        "a\nb": "unsafe_key",
        "a/../b": "unsafe_key",
        "a\\b": "unsafe_key",
        "x" * 210: "unsafe_key",
        "caf\udce9": "unsafe_key",
        "sub-v1__clip": "kept",
        "plain": "kept",
        "linked": "not_a_file",
        "hard": "not_a_file",
        "twice": "duplicate_member",
        "__index__": "no_landmarks",  # webdataset gives it as a sample
    }
    assert not (tmp_path.parent / "evil.wav").exists()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _without_end(data: bytes) -> bytes:
    return data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512)


def _bad_header(data: bytes) -> bytes:
    at = data.index(b"b.lm.npy")
    return data[: at + 20] + b"\xff" * 200 + data[at + 220 :]


def _backwards(data: bytes) -> bytes:
    """A header of right checksum and negative size, after which an earlier header comes: round for ever."""
    at = data.index(b"b.lm.npy")
    header = bytearray(data[at : at + 512])
    header[124:136] = (data.index(b"a.wav") - (at + 512)).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "truncated"),
        (lambda data: data[: data.index(b"b.wav") + 100], "truncated"),
        (_without_end, "truncated"),
        (_bad_header, "damaged"),
        (_backwards, "damaged"),
        (lambda data: b"", "empty"),
        (lambda data: b"no tar at all" * 100, "not_a_tar"),
        (lambda data: data[:300], "not_a_tar"),
    ],
)
def test_a_damaged_tar_is_left_out_until_it_is_mended(tmp_path, capsys, damage, reason):
    first = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0)), ("b", clip(1))], mtime=0)
    whole = first.read_bytes()
    tar_of(tmp_path / "tars" / "c.tar", [("c", clip(2)), ("d", clip(3))])
    first.write_bytes(damage(whole))
    out = tmp_path / "out"
    assert indexed(out, tmp_path / "tars" / "*.tar", *OPTIONS) == 0
    said = capsys.readouterr()
    assert f"tars     2 = 1 indexed + 1 rejected (1 {reason})" in said.out
    assert re.search(r"^left out \.\./tars/a\.tar: .*; repair it and run the same command again$", said.err, re.M)
    assert Manifest.load(out).column("key").tolist() == ["c", "d"]
    first.write_bytes(whole)
    os.utime(first, ns=(1, 1))
    assert indexed(out, tmp_path / "tars" / "*.tar", *OPTIONS) == 0
    manifest = Manifest.load(out)
    assert manifest.column("key").tolist() == ["c", "d", "a", "b"]  # what was there keeps its number
    assert manifest.column("shard").tolist() == [0, 0, 1, 1]
    first.write_bytes(damage(whole))
    with pytest.raises(UserError, match=r"a\.tar was indexed and is damaged now: .*; restore it"):
        indexed(out, tmp_path / "tars" / "*.tar", *OPTIONS)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_bytes_change_the_walk_ends_in_rows_or_a_reason(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    tar = tar_of(folder / "a.tar", [("a", clip(0, 2)), ("b", clip(1, 2))])
    changed = bytearray(tar.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    tar.write_bytes(changed)
    rules = FieldMapping("lm.npy", "wav", "mp4", "meta.json")
    try:
        found = third_party.read(tar, None, rules)
    except Unusable:
        return
    for sample in found:
        assert ("reason" in sample) != ("frames" in sample)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_an_array_claims_it_is_read_or_gets_a_reason(data):
    header = bytearray(npy(np.zeros((2, 478, 3), np.float16)))
    for _ in range(data.draw(st.integers(1, 4))):
        header[data.draw(st.integers(0, 79))] = data.draw(st.integers(0, 255))
    try:
        assert third_party.landmark_frames(io.BytesIO(header), TarMember("a", 0, len(header), "")) == 2
    except Unusable as unusable:
        np.testing.assert_equal(unusable.reason.startswith("landmarks_"), True)


def test_compressed_tars_are_refused(tmp_path):
    tar = tar_of(tmp_path / "a.tar", [("a", clip(0))])
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(UserError, match=r"a\.tar\.gz is compressed \(gzip\); unpack it"):
        indexed(tmp_path / "out", packed, *OPTIONS)
