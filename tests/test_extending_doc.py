"""The examples of docs/extending.md run as they stand on the page."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil

import numpy as np
import pytest

from tests.helpers import faces, needs
from tests.helpers.checkout import ROOT

PAGE = ROOT / "docs" / "extending.md"


def block(section: str) -> str:
    """The one block of Python below a heading."""
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return code


@needs.drawn_people
def test_the_detector_of_the_page_extracts_shards(tmp_path, monkeypatch):
    from data_pipeline.extract import command as extract
    from data_pipeline.synthetic import command as demo
    from mytalk.face.detector import DETECTORS

    (tmp_path / "quarters_mesh.py").write_text(block("A detector"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(DETECTORS, "quarters", "quarters_mesh")
    videos, shards = tmp_path / "videos", tmp_path / "shards"
    size = ["--identities", "1", "--clips-per-identity", "1", "--seconds", "2", "--seed", "0", "--workers", "1"]
    demo.run(demo.arguments().parse_args([str(videos), *size]))
    options = ["--detector", "quarters", "--workers", "0"]
    assert extract.run(extract.arguments().parse_args([str(videos), str(shards), *options])) == 0
    assert "four parts" in json.loads((shards / "protocol.json").read_text())["detector"]


def test_the_corpus_of_the_page_gives_people_ranges_and_facts(tmp_path, monkeypatch):
    from data_pipeline.extract.corpora.layouts import LAYOUTS
    from data_pipeline.shards.manifest import Manifest
    from tests.helpers import stub_extract

    (tmp_path / "interviews.py").write_text(block("A corpus"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(LAYOUTS, "interviews", "interviews")
    videos = stub_extract.corpus(tmp_path / "videos")
    (videos / "list.csv").write_text("ann/talk.mp4,ann,0.5,1.7,en\ncat/talk.mkv,cat,0,2,de\n")
    code, output = stub_extract.run(videos, tmp_path / "out", "--layout", "interviews", "min_face_px=16")
    assert code == 0, output
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.column("identity").tolist() == ["videos/ann", "videos/cat"]
    assert manifest.column("language").tolist() == ["en", "de"]
    assert manifest.column("stop_frame").tolist() == [42, 50]


SSH = """#!/bin/bash
echo "$1: $2" >> "$RECORD"
exec /bin/bash -c "$2"
"""


def test_the_launcher_of_the_page_gives_each_rank_its_place_and_passes_its_exit_code_on(tmp_path, monkeypatch):
    """A stand-in of ssh runs the command on this machine."""
    ssh, record = tmp_path / "ssh", tmp_path / "record"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    (tmp_path / "hosts.py").write_text(block("A launcher"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))
    monkeypatch.chdir(ROOT)
    import hosts

    typed = ["--hosts", "one", "two", "--", "train"]
    assert hosts.run(hosts.arguments().parse_args([*typed, "--help"])) == 0
    assert hosts.run(hosts.arguments().parse_args([*typed, "no-such-recipe"])) == 2
    first, second = sorted(line for line in record.read_text().splitlines() if line.endswith("--help"))
    assert first.startswith("one: ")
    assert second.startswith("two: ")
    for line, rank in ((first, 0), (second, 1)):
        assert (
            f"env RANK={rank} WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=one MASTER_PORT=29500 " in line
        )


def test_the_column_of_the_page_is_written_beside_the_shards_and_read_back(talker_shards, tmp_path, monkeypatch):
    from data_pipeline.columns import command as columns
    from data_pipeline.shards import reader
    from data_pipeline.shards.manifest import Manifest
    from data_pipeline.shards.reader import ReadRequest

    (tmp_path / "loudness.py").write_text(block("A shard column"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(columns.COLUMNS, "loudness", "loudness")
    shards = tmp_path / "shards"
    shutil.copytree(talker_shards, shards)
    assert columns.run(columns.arguments().parse_args([str(shards), "loudness"])) == 0
    manifest = Manifest.load(shards)
    frames = int(manifest.at(0, "frames"))
    (values_TD,) = reader.read(manifest, [ReadRequest(0, "loudness", 0, frames)])
    audio_S = reader.read_audio(manifest, 0)
    loudness_T = np.sqrt(np.square(audio_S.reshape(frames, -1)).mean(axis=1))
    np.testing.assert_allclose(values_TD[:, 0], loudness_T, rtol=2e-3, atol=1e-4)


def test_the_metric_of_the_page_is_measured_and_stated_in_the_protocol(tmp_path, monkeypatch):
    from eval import metrics
    from eval.metrics.metric import Comparison, DetectedVideo, Truth

    (tmp_path / "reach.py").write_text(block("A metric"))
    monkeypatch.syspath_prepend(str(tmp_path))
    import reach

    monkeypatch.setattr(metrics, "VIDEO_METRICS", reach.METRICS)
    wave_T = 8 + 4 * np.sin(np.arange(40) / 3)
    frames, audio_S = np.zeros((40, 8, 8, 3), np.uint8), np.zeros(40 * 640, np.float32)
    truth = Truth(frames, faces.opened(wave_T), audio_S, faces.opened(wave_T))
    row = Comparison(truth, DetectedVideo(frames, faces.opened(wave_T / 2), np.ones(40, bool)))
    assert metrics.measure_videos({"row": row})[0]["row"] == {"reach_ratio": pytest.approx(0.5)}
    assert "true one" in reach.METRICS["reach_ratio"].stated()["definition"]


def test_the_fact_of_the_page_is_a_column_and_a_key_of_the_clip(tmp_path, monkeypatch):
    import pyarrow as pa

    from data_pipeline.shards import facts, manifest, reader
    from data_pipeline.shards.table import merging, parts
    from tests.helpers import stub_extract

    (tmp_path / "loudness_fact.py").write_text(block("A fact of the manifest"))
    monkeypatch.syspath_prepend(str(tmp_path))
    loudness = importlib.import_module("loudness_fact")
    monkeypatch.setattr(facts, "FACTS", [*facts.FACTS, facts.Fact(loudness.loudness_db, pa.float64(), "dB")])
    schema = parts.SCHEMA.append(pa.field("loudness_db", pa.float64()))  # as importing the list with the line does
    for module in (merging, parts):
        monkeypatch.setattr(module, "SCHEMA", schema)
    videos = stub_extract.corpus(tmp_path / "videos")
    code, output = stub_extract.run(videos, tmp_path / "out", "min_face_px=16")
    assert code == 0, output
    clips = manifest.Manifest.load(tmp_path / "out")
    assert clips.names[-1] == "loudness_db"
    levels_db = clips.column("loudness_db")
    heard = levels_db[clips.with_speech()]
    assert ((heard > -30) & (heard < -10)).all()  # noise of 0.1: -20 dB
    assert json.loads(reader.read_member(clips, 0, "facts"))["loudness_db"] == levels_db[0]
