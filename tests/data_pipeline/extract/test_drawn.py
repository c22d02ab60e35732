"""End to end: drawn people who speak, through the real detector, in worker processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from mytalk.face import landmarks
from tests.helpers import needs, stub_extract

pytestmark = needs.drawn_people


PIPELINE = ("-m", "data_pipeline")
OPTIONS = ("--corpus", "drawn", "--sources-per-shard", "4")


@pytest.fixture(scope="module")
def corpus(command, tmp_path_factory) -> Path:
    videos = tmp_path_factory.mktemp("drawn") / "videos"
    size = ("--identities", "3", "--clips-per-identity", "1", "--seed", "0", "--seconds", "2")
    command(*PIPELINE, "demo", str(videos), *size, check=True)
    return videos


@pytest.fixture(scope="module")
def shards(command, corpus) -> Path:
    out = corpus.parent / "shards"
    done = command(*PIPELINE, "extract", str(corpus), str(out), *OPTIONS, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "W0000" not in done.stderr  # the detector's chatter
    assert "INFO" not in done.stderr
    return out


def truth_of(corpus: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (corpus / "truth.jsonl").read_text().splitlines()]
    return {line["path"]: line for line in lines}


def test_invariant_4_every_drawn_video_ends_as_it_was_meant_to(corpus, shards):
    lines = [json.loads(line) for line in (shards / "ledger.jsonl").read_text().splitlines()]
    ended = {line["source"]: line for line in lines if "source" in line}
    truth = truth_of(corpus)
    assert set(ended) == set(truth)
    for path, line in ended.items():
        fault = truth[path].get("reason")
        assert (line["state"] == "extracted") == (fault in (None, "no_audio")), line
        assert line.get("reason") == {"not_a_video": "unreadable", "no_audio": None}.get(fault, fault)
    manifest = Manifest.load(shards)
    silent = [truth[source].get("reason") == "no_audio" for source in manifest.column("source")]
    assert manifest.column("has_audio").tolist() == [not one for one in silent]


def test_the_mouth_opens_when_the_drawn_mouth_does(corpus, shards):
    """At 25 and at 30 fps: shifting the truth by one frame must fit worse, else the sync is lost."""
    manifest, truth = Manifest.load(shards), truth_of(corpus)
    rows = np.flatnonzero(manifest.with_speech()).tolist()
    sources = manifest.column("source")[rows]
    assert {truth[source]["fps"] for source in sources} == {25, 30}
    for row, source in zip(rows, sources):
        drawn = np.array(truth[source]["opening"])
        frames = np.arange(manifest.column("start_frame")[row], manifest.column("stop_frame")[row])
        seen = landmarks.opening(reader.read_landmarks(manifest, row))

        def fit(shift: int, drawn=drawn, frames=frames, seen=seen, fps=truth[source]["fps"]) -> float:
            at = np.clip((frames + shift) * fps // 25, 0, len(drawn) - 1)
            return float(np.corrcoef(drawn[at], seen)[0, 1])

        assert fit(0) > 0.85, source
        assert fit(0) > max(fit(-1), fit(1)), source


def test_workers_do_not_change_a_byte(command, corpus, shards):
    again = corpus.parent / "again"
    command(*PIPELINE, "extract", str(corpus), str(again), *OPTIONS, "--workers", "1", check=True)
    assert stub_extract.files(again) == stub_extract.files(shards)


def test_a_source_gives_the_same_clips_in_any_company(command, corpus, shards, tmp_path):
    """Its neighbours in the shard do not leak into a tracker's results."""
    alone = tmp_path / "videos" / "p002"
    alone.mkdir(parents=True)
    (alone / "c00.mp4").write_bytes((corpus / "p002/c00.mp4").read_bytes())
    command(*PIPELINE, "extract", str(tmp_path / "videos"), str(tmp_path / "out"), *OPTIONS, check=True)
    one, all_ = Manifest.load(tmp_path / "out"), Manifest.load(shards)
    row = all_.column("key").tolist().index(one.column("key")[0])
    for member in ("landmarks", "audio", "facts", "video"):
        assert reader.read_member(one, 0, member) == reader.read_member(all_, row, member)
