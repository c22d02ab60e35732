"""Tars of others indexed where they lie, folders of ours merged, and later columns: equal bytes, named reasons."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import struct
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext
from webdataset.writer import ShardWriter, TarWriter

from data_pipeline.annotate import command as annotate
from data_pipeline.annotate.annotation import Options
from data_pipeline.columns import column, mel
from data_pipeline.examples.appearance import AppearanceExamples, ReferenceConfig
from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.index import command as index
from data_pipeline.index import merge, third_party
from data_pipeline.index.field_mapping import FieldMapping
from data_pipeline.index.tar_samples import TarMember, Unusable, split_name
from data_pipeline.sample import windows
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import manifest_update, members, reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from data_pipeline.shards.table import merging
from data_pipeline.split import command as split
from data_pipeline.tasks.runner import Runner
from mytalk.command import UserError
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.speech_features import log_mel
from tests.helpers import stub_extract, talkers
from tests.helpers.manifests import place_of

THEIRS = {"landmarks": "Lm.npy", "audio": "wav", "video": "mp4", "facts": "meta.json"}
OPTIONS = ["--landmarks", "lm.npy", "--audio", "wav", "--video", "mp4", "--facts", "meta.json"]


def indexed(out: Path, *args: str | Path) -> int:
    """Run the command in this process."""
    return index.run(index.arguments().parse_args([str(out), *map(str, args)]))


def splits(folder: Path, *args: str) -> None:
    assert split.run(split.arguments().parse_args([str(folder), "--val", "0.3", "--unseen", "0.3", *args])) == 0


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def clip(seed: int, frames: int = 30, **facts) -> dict[str, bytes]:
    """Members of a made-up clip under the names of `THEIRS`."""
    random = np.random.default_rng(seed)
    audio = random.uniform(-0.5, 0.5, frames * 640)
    return {
        "lm.npy": members.landmarks_npy(random.uniform(0, 256, (frames, 478, 3))),
        "wav": members.audio_wav(audio),
        "meta.json": json.dumps({"identity": f"p{seed // 2}", **facts}).encode(),
    }


def tar_of(path: Path, samples: list[tuple[str, dict[str, bytes]]], **options) -> Path:
    """A tar as webdataset's own writer makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path), encoder=False, **options) as writer:
        for key, sample in samples:
            writer.write({"__key__": key, **sample})
    return path


def raw_tar(path: Path, files: list[tuple[tarfile.TarInfo | str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return path


def copied(folder: Path, target: Path, video: bool = False, change=lambda facts: facts) -> list[Path]:
    """The clips of our shards in tars of webdataset's ShardWriter, under other names."""
    manifest = Manifest.load(folder)
    target.mkdir(parents=True)
    made = []
    for shard in np.unique(manifest.column("shard")).tolist():
        samples = []
        for row in np.flatnonzero(manifest.column("shard") == shard).tolist():
            read = {m: reader.read_member(manifest, row, m) for m in ("landmarks", "audio", "facts")}
            if video:
                read["video"] = reader.read_member(manifest, row, "video")
            read["facts"] = json.dumps(change(json.loads(read["facts"]))).encode()
            samples.append((str(manifest.at(row, "key")), {THEIRS[m].lower(): data for m, data in read.items()}))
        made.append(tar_of(target / f"theirs-{shard:03d}.tar", samples))
    return made


def ledger_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / merge.LEDGER).read_text().splitlines()]


def reasons(out: Path) -> dict[str, str]:
    return {line["key"]: line.get("reason", "kept") for line in ledger_of(out) if "key" in line}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def state(folder: Path) -> dict[str, tuple]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def alike(one, other) -> None:
    """Batches of equal tensors."""
    assert one.keys_B == other.keys_B
    names = one.tensors()
    assert names
    for name, tensor in names.items():
        assert torch.equal(tensor, getattr(other, name)), name


# Tars of others --------------------------------------------------------------------------------------


def test_members_read_from_third_party_tars_are_their_bytes(tmp_path, capsys):
    pattern = str(tmp_path / "tars" / "theirs-%03d.tar")
    (tmp_path / "tars").mkdir()
    with ShardWriter(pattern, maxcount=3, encoder=False, verbose=0) as writer:
        for number in range(7):
            writer.write({"__key__": f"clip{number}", **clip(number, 20 + number), "mp4": b"video %d" % number})
    before = files(tmp_path / "tars")
    out = tmp_path / "out"
    assert indexed(out, tmp_path / "tars" / "*.tar", "--corpus", "c", *OPTIONS) == 0
    assert (
        "tars     3 = 3 indexed + 0 rejected\nsamples  7 = 7 kept + 0 rejected\nclips    7" in capsys.readouterr().out
    )
    assert files(tmp_path / "tars") == before
    assert not list(out.glob("*.tar"))
    manifest = Manifest.load(out)
    assert manifest.column("key").tolist() == [f"clip{n}" for n in range(7)]
    assert manifest.column("shard").tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert manifest.column("identity").tolist() == [f"c/p{n // 2}" for n in range(7)]
    assert set(manifest.column("split")) == {""}
    assert manifest.shard_file("motion", 1).name == "../tars/theirs-001.tar"
    stock = list(webdataset.WebDataset(sorted(map(str, (tmp_path / "tars").glob("*.tar"))), shardshuffle=False))
    for row, sample in enumerate(stock):
        frames = int(manifest.column("frames")[row])
        assert sample["__key__"] == manifest.at(row, "key")
        for member, extension in THEIRS.items():
            assert reader.read_member(manifest, row, member) == sample[extension.lower()]
        landmarks = np.load(io.BytesIO(sample["lm.npy"]))
        wants = [
            ReadRequest(row, "landmarks", 3, 11),
            ReadRequest(row, "audio", 3, 11),
            ReadRequest(row, "landmarks", 0, frames),
        ]
        window, sound, whole = reader.read(manifest, wants)
        np.testing.assert_array_equal(window, landmarks[3:11])
        np.testing.assert_array_equal(whole, landmarks)
        np.testing.assert_array_equal(sound, np.frombuffer(sample["wav"][44:], "<i2")[3 * 640 : 11 * 640])


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


def test_a_tar_elsewhere_is_named_whole(tmp_path):
    tar = tar_of(tmp_path / "a" / "tars" / "x.tar", [("k", clip(1))])
    out = tmp_path / "b" / "deep" / "out"
    indexed(out, tar, *OPTIONS)
    manifest = Manifest.load(out)
    assert manifest.shard_file("motion", 0).name == str(tar)
    assert reader.read_landmarks(manifest, 0).shape == (30, 478, 3)


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


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [(True, pa.bool_(), True), (False, pa.bool_(), False), ([1], pa.bool_(), None), (1, pa.bool_(), None)],
)
def test_a_truth_value_of_foreign_facts_is_kept_or_unknown(value, kind, expected):
    """`has_audio: false` of other people's tars leaves the clip out of what needs sound."""
    assert third_party.typed(value, kind) is expected


def test_foreign_labels_of_speech_are_obeyed(tmp_path):
    facts: list[dict] = [{}, {"speaks": True}, {"speaks": False}, {"speaks": False, "why_silent": "music"}]
    tar = tar_of(tmp_path / "tars" / "a.tar", [(f"k{n}", clip(n, **fact)) for n, fact in enumerate(facts)])
    assert indexed(tmp_path / "out", tar, *OPTIONS) == 0
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.with_speech().tolist() == [True, True, False, False]
    assert manifest.silent_by_reason(np.arange(4)) == {"music": 1, "not_speaking": 1}


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


def test_long_names_and_pax_headers_are_read(tmp_path):
    key = "folder/" * 15 + "a-long-name"
    for number, kind in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        sample = clip(number)
        listed = []
        for extension, data in sample.items():
            info = tarfile.TarInfo(f"{key}-{number}.{extension}")
            if kind == tarfile.PAX_FORMAT:
                info.pax_headers = {"comment": "ü" * 2000}
            listed.append((info, data))
        raw_tar(tmp_path / "tars" / f"{number}.tar", listed, kind)
    indexed(tmp_path / "out", tmp_path / "tars" / "*.tar", *OPTIONS)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.column("key").tolist() == [f"{key}-{n}".replace("/", "__") for n in range(2)]
    for row in range(2):
        assert reader.read_member(manifest, row, "landmarks") == clip(row)["lm.npy"]


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


@given(name=st.text(st.sampled_from("aB./_ -\n"), max_size=12))
def test_names_are_divided_as_webdataset_does(name):
    key, extension = base_plus_ext(name)
    skipped = re.match(r"__[^/]*__($|/)", name)
    assert split_name(name) == (None if key is None or skipped else (key, extension.lower()))


def test_compressed_tars_are_refused(tmp_path):
    tar = tar_of(tmp_path / "a.tar", [("a", clip(0))])
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(UserError, match=r"a\.tar\.gz is compressed \(gzip\); unpack it"):
        indexed(tmp_path / "out", packed, *OPTIONS)


def test_facts_become_columns_of_their_types(tmp_path):
    told = {
        "source": "a.mp4", "source_fps": 30, "source_width": "wide", "face_px": 1e400, "yaw_deg": True,
        "crop": [1, 0, 0, 0, 1, 0],
        "quality": 3, "language": "en", "live": True, "nested": {"a": 1}, "big": 2**70, "split": "train", "shard": 9,
        "bad name": 1, "landmarks_offset": 7, "text": "x" * 2000, "half": "\ud800", "sync_offset": 1,
    }  # fmt: skip
    samples = [
        ("a", clip(0, **told)),
        ("b", clip(1, quality=2.5, language=7)),
        ("c", clip(2, crop_px=128, source_sha256="s")),
    ]
    indexed(tmp_path / "out", tar_of(tmp_path / "t" / "a.tar", samples), "--corpus", "c", *OPTIONS)
    manifest = Manifest.load(tmp_path / "out")
    row = manifest.table.slice(0, 1).to_pylist()[0]
    assert (row["source"], row["source_fps"], row["crop"]) == ("a.mp4", 30.0, [1.0, 0, 0, 0, 1, 0])
    assert [row[name] for name in ("source_width", "face_px", "yaw_deg", "source_height")] == [None] * 4
    assert (row["quality"], row["language"], row["live"], row["sync_offset"]) == (3.0, "en", True, 1.0)
    assert (row["split"], row["shard"], row["frames"], row["crop_px"], row["stop_frame"]) == ("", 0, 30, 256, 30)
    assert not {"nested", "big", "bad name", "text", "half"} & set(manifest.names)
    assert manifest.table["quality"].to_pylist() == [3.0, 2.5, None]
    assert manifest.table["language"].to_pylist() == ["en", None, None]
    assert manifest.column("crop_px").tolist() == [256, 256, 128]
    assert manifest.column("source").tolist() == ["a.mp4", "b", "c"]
    sources = [hashlib.sha256(text.encode()).hexdigest() for text in ("c\0a.mp4", "c\0b")]
    assert manifest.column("source_sha256").tolist() == [*sources, "s"]


@pytest.mark.parametrize(
    ("rule", "people"),
    [("facts.who", ["c/7", "c/ann"]), ("key:^([a-z]+)_", ["c/x", "c/y"]), ("file", ["c/the-tar", "c/the-tar"])],
)
def test_the_person_follows_from_the_rule(tmp_path, rule, people):
    samples = [("x_1", clip(0, who=7)), ("y_1", clip(1, who="c/ann"))]
    config = tmp_path / "rules.yaml"
    config.write_text(
        textwrap.dedent(f"""
        landmarks: LM.npy
        audio: wav
        video: ""
        facts: meta.json
        identity: '{rule}'
        """)
    )
    tar = tar_of(tmp_path / "tars" / "the-tar.1.tar", samples)
    indexed(tmp_path / "out", tar, "--config", config, "--corpus", "c")
    assert Manifest.load(tmp_path / "out").column("identity").tolist() == people


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--identity", "key:("], "is not a regular expression"),
        (["--identity", "key:abc"], "has no group"),
        (["--identity", f"key:({'a' * 300})"], "more than 200"),
        (["--identity", "face"], "must be facts.NAME, key:REGEX or file"),
        (["--landmarks", "wav", "--audio", "wav"], "all extensions must differ"),
        (["--landmarks", "../x"], "is not an extension"),
        (["--crop-px", "0"], "crop_px 0 must lie"),
    ],
)
def test_an_impossible_field_mapping_is_refused_in_one_line(tmp_path, options, said):
    tar = tar_of(tmp_path / "a.tar", [("a", clip(0))])
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        indexed(tmp_path / "out", tar, *options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_and_unsuitable_sources_are_refused(tmp_path, talker_shards):
    tar = tar_of(tmp_path / "a.tar", [("a", clip(0))])
    for sources, said in (
        ([tmp_path / "none.tar"], "no file"),
        ([tmp_path / "*.none"], "no file"),
        (["https://host/a.tar"], "is a URL"),
        ([tmp_path], "has no manifest.json; name its tars"),
        ([tmp_path / "out"], "is OUT itself"),
        ([talker_shards, "--corpus", "c"], "no tar is named"),
    ):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=re.escape(said)):
            indexed(tmp_path / "out", *sources)
    shutil.copytree(talker_shards, tmp_path / "ours")
    with pytest.raises(UserError, match="holds shards that index did not make"):
        indexed(tmp_path / "ours", tar, *OPTIONS)


def test_videos_in_tars_of_their_own(tmp_path):
    def pair(name: str, keys: list[str], beside: list[str]) -> None:
        tar_of(tmp_path / "m" / f"{name}.tar", [(key, clip(n)) for n, key in enumerate(keys)])
        tar_of(tmp_path / "f" / f"{name}.tar", [(key, {"mp4": key.encode()}) for key in beside])

    pair("a", ["k0", "k1"], ["k0", "k1"])
    pair("b", ["k2"], ["k2"])
    command = [tmp_path / "m" / "*.tar", *OPTIONS, "--frames-tars", tmp_path / "f" / "*.tar"]
    indexed(tmp_path / "out", *command)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.shard_file("frames", 1).name == "../f/b.tar"
    assert [reader.read_member(manifest, row, "video") for row in range(3)] == [b"k0", b"k1", b"k2"]
    assert manifest.shard_file("frames", 1).sums != manifest.shard_file("motion", 1).sums
    pair("c", ["k3", "k4"], ["k4", "k3"])
    with pytest.raises(UserError, match=r"m/c\.tar and .*f/c\.tar differ in their keys: k3 and k4"):
        indexed(tmp_path / "out", *command)
    (tmp_path / "f" / "c.tar").unlink()
    with pytest.raises(UserError, match="3 tars and 2 --frames-tars cannot be paired"):
        indexed(tmp_path / "out", *command)
    with pytest.raises(UserError, match=r"was indexed with --frames-tars \.\./f/a\.tar"):
        indexed(tmp_path / "out", tmp_path / "m" / "a.tar", *OPTIONS)


# The same command again ------------------------------------------------------------------------------


def test_the_same_command_again_changes_nothing(tmp_path, monkeypatch):
    for name in "ab":
        tar_of(tmp_path / "tars" / f"{name}.tar", [(f"{name}{n}", clip(ord(name) * 10 + n)) for n in range(4)])
    out, command = tmp_path / "out", [tmp_path / "tars" / "*.tar", *OPTIONS]
    indexed(out, *command)
    splits(out)
    (before, bytes_before), ledger = (state(out), files(out)), "ledger.jsonl"
    monkeypatch.setattr(third_party, "read", lambda *_: pytest.fail("nothing has changed, and it was read again"))
    indexed(out, *command)
    assert files(out) == bytes_before
    assert {n: s for n, s in state(out).items() if n not in (ledger, "out")} == {
        n: s for n, s in before.items() if n not in (ledger, "out")
    }
    monkeypatch.undo()
    os.utime(tmp_path / "tars" / "a.tar")  # copied anew: read again, and the same is found
    manifest = (out / "manifest.json").read_bytes()
    indexed(out, *command)
    assert (out / "manifest.json").read_bytes() == manifest
    indexed(tmp_path / "other", *command)
    assert (
        Manifest.load(tmp_path / "other")
        .table.drop_columns("split")
        .equals(Manifest.load(out).table.drop_columns(["split", "duplicate_group"]))
    )


def test_only_what_an_index_left_unfinished_is_swept(tmp_path):
    """A column's part that another process writes beside it stays."""
    out = tmp_path / "out"
    whole = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0))])
    assert indexed(out, whole, *OPTIONS) == 0
    (part,) = (out / "parts").glob("*.jsonl")
    own, others = (out / "parts" / f".tmp-other-1-{name}" for name in (part.name, "mel-000000.json"))
    for path in (own, others):
        path.write_text("unfinished")
    assert indexed(out, whole, *OPTIONS) == 0
    assert (own.exists(), others.exists()) == (False, True)


def test_what_is_appended_moves_nothing(tmp_path):
    def add(name: str) -> Path:
        samples = [(f"{name}{n}", clip(ord(name) * 10 + n, quality=n)) for n in range(4)]
        return tar_of(tmp_path / "tars" / f"{name}.tar", samples)

    add("b"), add("d")
    out, command = tmp_path / "out", [tmp_path / "tars" / "*.tar", *OPTIONS]
    indexed(out, *command)
    splits(out)
    annotated = Manifest.load(out)
    table = annotated.table.append_column("sync_confidence", pa.array(np.arange(8) / 2))
    manifest_update.save(out, table, annotated.header)
    before = Manifest.load(out)
    drawn = SamplingConfig(shards_until=before.shards_until)
    config = WindowConfig(5, 20, 10)
    wanted = [MotionExamples(before, drawn, config)([slot]) for slot in range(6)]
    add("a"), add("c")
    indexed(out, *command)
    after = Manifest.load(out)
    assert after.column("key").tolist()[:8] == before.column("key").tolist()
    assert after.table.slice(0, 8).select(before.names).equals(before.table)
    assert [after.shard_file("motion", n).name for n in range(4)] == [f"../tars/{n}.tar" for n in "bdac"]
    assert set(after.table["split"].to_pylist()[8:]) == {""}
    assert after.table["sync_confidence"].to_pylist()[8:] == [None] * 8
    again = MotionExamples(after, drawn, config)
    for slot, one in enumerate(wanted):
        alike(one, again([slot]))
    splits(out)
    assert Manifest.load(out).table["split"].to_pylist()[:8] == before.table["split"].to_pylist()
    indexed(out, tmp_path / "tars" / "a.tar", *OPTIONS)  # what is not named stays
    assert len(Manifest.load(out)) == 16
    with pytest.raises(UserError, match="was made with corpus = , now other; index these into a folder of their own"):
        indexed(out, *command, "--corpus", "other")
    (tmp_path / "tars" / "d.tar").unlink()
    with pytest.raises(UserError, match=r"d\.tar was indexed and is missing now"):
        indexed(out, *command)


def test_a_tar_that_changed_is_read_again(tmp_path):
    tar = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0, quality=1)), ("b", clip(1, quality=1))])
    indexed(tmp_path / "out", tar, *OPTIONS)
    tar_of(tar, [("a", clip(5, 40, quality=2)), ("c", clip(6, quality=2))])
    indexed(tmp_path / "out", tar, *OPTIONS)
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.column("key").tolist() == ["a", "c"]
    assert manifest.column("quality").tolist() == [2, 2]
    assert reader.read_member(manifest, 0, "landmarks") == clip(5, 40)["lm.npy"]


def test_an_index_killed_anywhere_is_continued_to_equal_bytes(corpora, tmp_path):
    for name in "abc":
        tar_of(tmp_path / "tars" / f"{name}.tar", [(f"{name}{n}", clip(ord(name) * 10 + n)) for n in range(2)])

    def run(out: Path, events: int) -> tuple[int, int]:
        typed = [tmp_path / "tars" / "*.tar", corpora / "one", "--workers", "1", *OPTIONS]
        return killed_after(lambda event: indexed(out, *typed), events)

    code, events = run(tmp_path / "whole", 10_000)
    assert code == 0
    wanted = files(tmp_path / "whole")
    for after in range(1, events, 2):  # between two of these lies one file's replacement
        out = tmp_path / f"killed-{after}"
        assert run(out, after)[0] == -signal.SIGKILL
        if (out / "manifest.json").exists():
            Manifest.load(out)
        assert run(out, 10_000)[0] == 0
        assert files(out) == wanted


def test_a_tar_that_is_being_written_is_refused(tmp_path, monkeypatch):
    tar = tar_of(tmp_path / "tars" / "a.tar", [("a", clip(0))])
    read_tar = third_party.read

    def meanwhile(*args):
        found = read_tar(*args)
        with open(tar, "ab") as handle:
            handle.write(bytes(512))
        return found

    monkeypatch.setattr(third_party, "read", meanwhile)
    with pytest.raises(UserError, match=r"a\.tar was changed while it was read; run the same command when"):
        indexed(tmp_path / "out", tar, *OPTIONS)
    assert not (tmp_path / "out" / "manifest.json").exists()


# Folders of ours -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """Two folders of talkers, `one` and `two`, of different people, and `theirs`: the first as tars of others."""
    root = tmp_path_factory.mktemp("corpora")
    people = {"train": 3, "val": 2, "unseen": 2}
    talkers.write(root / "one", people, video=True, corpora=("one",))
    talkers.write(root / "plain", people, clips_each=3, corpora=("two",))
    made = Manifest.load(root / "plain")
    copied(root / "plain", root / "two-tars", change=lambda facts: facts)
    table = made.table.set_column(0, "key", pa.array([f"two-{key}" for key in made.column("key")]))
    hashes = pa.array([f"two {value}" for value in made.column("source_sha256")])
    table = merging.set_column(table, "source_sha256", hashes)
    shutil.copytree(root / "plain", root / "two")
    manifest_update.save(root / "two", table, made.header)
    copied(root / "one", root / "theirs", video=True)
    return root


def test_examples_of_indexed_tars_are_those_of_the_originals(corpora, tmp_path):
    ours = tmp_path / "ours"
    shutil.copytree(corpora / "one", ours)
    out = tmp_path / "out"
    indexed(out, corpora / "theirs" / "*.tar", *OPTIONS)
    splits(ours), splits(out)
    one, other = Manifest.load(ours), Manifest.load(out)
    for name in ("key", "identity", "corpus", "split", "frames", "shard", "source", "source_sha256", "crop_px"):
        assert one.column(name).tolist() == other.column(name).tolist(), name
    config = SamplingConfig(), WindowConfig(5, 20, 10), MotionDraws(voice_stretch=0.2)
    motion = [MotionExamples(shards, *config) for shards in (one, other)]
    for slots in ([0, 1, 2], [3], [40, 41]):
        alike(*(examples(slots) for examples in motion))
    config = AppearanceConfig(), ReferenceConfig(2, 3)
    appearance = [AppearanceExamples(m, SamplingConfig(), *config) for m in (one, other)]
    alike(*(examples([0, 1, 5]) for examples in appearance))


def test_two_corpora_are_merged_and_dealt(corpora, tmp_path):
    out = tmp_path / "out"
    before = files(corpora)
    assert indexed(out, corpora / "one", corpora / "two") == 0
    assert {name: data for name, data in files(corpora).items() if name in before} == before
    merged = Manifest.load(out)
    sides = [Manifest.load(corpora / name) for name in ("one", "two")]
    assert merged.column("key").tolist() == [key for side in sides for key in side.column("key").tolist()]
    assert merged.column("split").tolist() == [value for side in sides for value in side.column("split").tolist()]
    first = len(sides[0])
    assert merged.column("shard")[first] == sides[0].shards_until
    for row in range(len(merged)):
        side, own = (sides[0], row) if row < first else (sides[1], row - first)
        for member in ("landmarks", "audio", "facts"):
            assert reader.read_member(merged, row, member) == reader.read_member(side, own, member)
    shard = int(merged.column("shard")[first])
    assert merged.shard_file("motion", shard).sums == os.path.relpath(corpora / "two", out) + "/motion-000000.crc" or (
        merged.shard_file("motion", shard).sums == str(corpora / "two" / "motion-000000.crc")
    )
    examples = MotionExamples(merged, SamplingConfig(repeats={"one": 2}), WindowConfig(5, 20, 10))
    batch = examples(list(range(30)))
    assert batch.bad == []
    dealt = [merged.at(examples.windows.row(slot), "corpus") for slot in range(30)]
    assert set(dealt) == {"one", "two"}
    for place, key in enumerate(batch.keys_B):
        side = next(side for side in sides if key in side.column("key").tolist())
        row = side.column("key").tolist().index(key)
        length, start = int(batch.mask_BT[place].sum()), int(batch.starts_B[place])
        whole = np.load(io.BytesIO(reader.read_member(side, row, "landmarks"))).astype(np.float32)
        np.testing.assert_array_equal(batch.landmarks_BTN3[place, :length], whole[start : start + length])
    pictures = AppearanceExamples(
        merged, SamplingConfig(where="video_size > 0"), AppearanceConfig(), ReferenceConfig(2, 3)
    )
    assert len(pictures([0, 1]).keys_B) == 2
    whole = state(out)
    indexed(out, corpora / "one", corpora / "two")
    assert {n: s for n, s in state(out).items() if n not in ("ledger.jsonl", "out")} == {
        n: s for n, s in whole.items() if n not in ("ledger.jsonl", "out")
    }


def test_tars_and_folders_in_one_call_and_a_merge_of_a_merge(corpora, tmp_path):
    tar = tar_of(tmp_path / "tars" / "x.tar", [("x0", clip(0, quality=1)), ("x1", clip(2)), ("train0-0", clip(4))])
    indexed(tmp_path / "mixed", corpora / "one", tar, "--corpus", "three", *OPTIONS)
    mixed = Manifest.load(tmp_path / "mixed")
    assert reasons(tmp_path / "mixed") == {"x0": "kept", "x1": "kept", "train0-0": "duplicate_key"}
    assert mixed.column("corpus").tolist()[-3:] == ["one", "three", "three"]
    assert mixed.table["quality"].to_pylist()[-3:] == [None, 1, None]
    indexed(tmp_path / "all", tmp_path / "mixed", corpora / "two")
    every = Manifest.load(tmp_path / "all")
    row = every.column("key").tolist().index("x1")
    assert reader.read_member(every, row, "audio") == clip(2)["wav"]
    assert every.shard_file("motion", int(every.at(row, "shard"))).name == "../tars/x.tar"
    with pytest.raises(UserError, match=r"clip train0-0 is in .*mixed and in .*one; leave one"):
        indexed(tmp_path / "twice", tmp_path / "mixed", corpora / "one")


def test_what_made_annotations_is_kept(corpora, tmp_path):
    """As the merged manifest's own where all folders have it alike; else under each folder; its own stays its own."""
    one, two = (shutil.copytree(corpora / name, tmp_path / name) for name in ("one", "two"))
    annotate.annotate(one, "speech", Options(), Runner(0))
    made = Manifest.load(one).header["annotations"]
    indexed(tmp_path / "mixed", one, two)
    mixed = Manifest.load(tmp_path / "mixed").header
    assert "annotations" not in mixed
    assert mixed["protocol"]["folders"]["../one"]["annotations"] == made
    annotate.annotate(two, "speech", Options(), Runner(0))
    indexed(tmp_path / "all", one, two)
    assert Manifest.load(tmp_path / "all").header["annotations"] == made
    annotate.annotate(tmp_path / "all", "speech", Options(), Runner(0))  # not "came with the shards"
    own = {"speech": {**made["speech"], "digest": "own"}}
    header = tmp_path / "all/manifest.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "annotations": own}))
    indexed(tmp_path / "all", one, two)
    assert Manifest.load(tmp_path / "all").header["annotations"] == own


def test_a_folder_that_grew_is_appended(corpora, tmp_path):
    tar_of(tmp_path / "tars" / "a.tar", [("x0", clip(0)), ("x1", clip(2))])
    mine = [tmp_path / "tars" / "*.tar", "--corpus", "three", *OPTIONS]
    indexed(tmp_path / "mine", *mine)

    def blurred(folder: Path, value: float) -> None:
        table, header, _ = manifest_update.stored(folder)
        manifest_update.save(folder, merging.set_column(table, "blurred", pa.array([value] * len(table))), header)

    blurred(tmp_path / "mine", 1)
    indexed(tmp_path / "all", tmp_path / "mine", corpora / "two")
    assert Manifest.load(tmp_path / "all").table["blurred"].to_pylist()[1:3] == [1.0, None]
    blurred(tmp_path / "all", 2)
    before = Manifest.load(tmp_path / "all")
    tar_of(tmp_path / "tars" / "b.tar", [("x2", clip(6)), ("x3", clip(8))])
    indexed(tmp_path / "mine", *mine)
    indexed(tmp_path / "all", corpora / "two", tmp_path / "mine")
    after = Manifest.load(tmp_path / "all")
    assert after.table.slice(0, len(before)).equals(before.table)
    assert after.column("key").tolist()[len(before) :] == ["x2", "x3"]
    assert after.table["blurred"].to_pylist()[-3:] == [2.0, None, None]
    assert after.column("shard").tolist()[-1] == before.shards_until


def test_a_leak_between_folders_is_refused_and_unsplit_mends_it(corpora, tmp_path):
    tars = copied(corpora / "plain", tmp_path / "tars", change=lambda facts: facts)
    other = tmp_path / "other"
    indexed(other, *tars, *OPTIONS)
    splits(other)
    table, header, _ = manifest_update.stored(other)
    people = table["identity"].to_pylist()
    turned = [
        {"train": "val", "val": "unseen", "unseen": "train"}[s] for s in Manifest.load(corpora / "two").column("split")
    ]
    manifest_update.save(other, merging.set_column(table, "split", pa.array(turned)), header)
    with pytest.raises(UserError, match=r"identity 'two/\w+' is in splits '\w+' and '\w+'; add --unsplit"):
        indexed(tmp_path / "out", corpora / "two", other)
    assert not (tmp_path / "out" / "manifest.json").exists()
    indexed(tmp_path / "out", corpora / "two", other, "--unsplit")
    splits(tmp_path / "out")
    assert len(Manifest.load(tmp_path / "out")) == 2 * len(people)


def test_splits_of_folders_stay_when_people_are_added(corpora, tmp_path):
    indexed(tmp_path / "mine", corpora / "theirs" / "*.tar", *OPTIONS)
    splits(tmp_path / "mine")
    samples = [(f"new{n}", clip(n)) for n in range(8)]
    tar = tar_of(tmp_path / "tars" / "x.tar", samples)
    out = tmp_path / "out"
    indexed(out, tar, "--corpus", "new", *OPTIONS)
    indexed(out, tmp_path / "mine")
    before = [""] * 8 + Manifest.load(tmp_path / "mine").column("split").tolist()
    assert Manifest.load(out).column("split").tolist() == before
    with pytest.raises(UserError, match="already split by"):
        split.run(split.arguments().parse_args([str(out), "--val", "0.1"]))
    splits(out)
    after = Manifest.load(out).column("split").tolist()
    assert after[8:] == before[8:]
    assert "" not in after


def test_columns_that_disagree_are_refused(corpora, tmp_path):
    for name, value in (("a", 1), ("b", "text")):
        tar = tar_of(tmp_path / name / "x.tar", [(name, clip(ord(name), level=value))])
        indexed(tmp_path / f"i{name}", tar, *OPTIONS)
    with pytest.raises(UserError, match=r"column 'level' holds numbers in .*ia and text in .*ib"):
        indexed(tmp_path / "out", tmp_path / "ia", tmp_path / "ib")


# Later columns ---------------------------------------------------------------------------------------


def doubled(manifest: Manifest, row: int) -> np.ndarray:
    """Two values a frame: the frame's number, and the row."""
    return np.stack([np.arange(manifest.at(row, "frames")), np.full(manifest.at(row, "frames"), row)], axis=1)


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


def killed_after(what: Callable[[Callable[[], None]], object], events: int) -> tuple[int, int]:
    """Do something in a forked process, killed at an event: its own, a file about to be there, or there.

    Returns its exit code, or minus the signal, and the number of events.
    """
    torch.set_num_threads(1)  # the threads of the process that is forked are not in its child
    context = multiprocessing.get_context("fork")
    seen = context.Value("i", 0)

    def event() -> None:
        if seen.value == events:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.value += 1

    def child() -> None:
        replace = os.replace

        def replaced(*paths):
            event()
            replace(*paths)
            event()

        os.replace = replaced
        what(event)

    process = context.Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode, seen.value


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


def test_columns_of_merged_and_grown_folders(corpora, tmp_path):
    shutil.copytree(corpora / "one", tmp_path / "one")
    column.add(tmp_path / "one", "pair", doubled, 2)
    out, sources = tmp_path / "out", [tmp_path / "one", corpora / "two"]
    indexed(out, *sources)
    merged = Manifest.load(out)
    last = len(merged) - 1
    good, none = reader.read(merged, [ReadRequest(3, "pair", 1, 4), ReadRequest(last, "pair", 1, 4)])
    assert good[:, 0].tolist() == [1, 2, 3]
    assert none.reason == "layout"
    assert "file" in merged.header["shards"][0]["pair"]
    column.add(out, "pair", doubled, 2)
    added = Manifest.load(out)
    assert not (out / "pair-000000.tar").exists()  # its folder's is used
    assert reader.read(added, [ReadRequest(last, "pair", 1, 4)])[0].tolist() == [[1, last], [2, last], [3, last]]
    before = files(out)
    indexed(out, *sources)
    assert files(out) == before
    tar = tar_of(tmp_path / "tars" / "x.tar", [("x0", clip(0)), ("x1", clip(2))])
    indexed(out, *sources, tar, "--corpus", "three", *OPTIONS)
    grown = Manifest.load(out)
    assert reader.read(grown, [ReadRequest(last, "pair", 1, 4)])[0].shape == (3, 2)
    assert reader.read(grown, [ReadRequest(last + 2, "pair", 1, 4)])[0].reason == "layout"
    assert column.add(out, "pair", doubled, 2).written == 2
    assert reader.read(Manifest.load(out), [ReadRequest(last + 2, "pair", 1, 4)])[0].shape == (3, 2)
    shutil.copytree(corpora / "two", tmp_path / "two")
    column.add(tmp_path / "two", "pair", lambda m, row: np.zeros((m.at(row, "frames"), 3)), 3)
    with pytest.raises(UserError, match="column 'pair' is not what it is elsewhere"):
        indexed(tmp_path / "clash", tmp_path / "one", tmp_path / "two")


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


def test_unsplit_is_for_a_new_folder(talker_shards, tmp_path):
    """In one that is there it would change nothing: said, with the command that assigns people anew."""
    assert indexed(tmp_path / "out", talker_shards) == 0
    with pytest.raises(UserError, match=r"--unsplit is for a new folder .* split .* --force"):
        indexed(tmp_path / "out", talker_shards, "--unsplit")
