"""Tars of others indexed where they lie: equal bytes, facts as columns, the person by a rule."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import textwrap

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext
from webdataset.writer import ShardWriter

from data_pipeline.index import third_party
from data_pipeline.index.tar_samples import split_name
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ReadRequest
from mytalk.command import UserError
from tests.helpers.indexing import (
    OPTIONS,
    THEIRS,
    clip,
    indexed,
    raw_tar,
    tar_of,
)
from tests.helpers.killed import files


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


def test_a_tar_elsewhere_is_named_whole(tmp_path):
    tar = tar_of(tmp_path / "a" / "tars" / "x.tar", [("k", clip(1))])
    out = tmp_path / "b" / "deep" / "out"
    indexed(out, tar, *OPTIONS)
    manifest = Manifest.load(out)
    assert manifest.shard_file("motion", 0).name == str(tar)
    assert reader.read_landmarks(manifest, 0).shape == (30, 478, 3)


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


@given(name=st.text(st.sampled_from("aB./_ -\n"), max_size=12))
def test_names_are_divided_as_webdataset_does(name):
    key, extension = base_plus_ext(name)
    skipped = re.match(r"__[^/]*__($|/)", name)
    assert split_name(name) == (None if key is None or skipped else (key, extension.lower()))


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
