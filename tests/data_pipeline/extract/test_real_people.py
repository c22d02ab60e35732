"""Real faces, where a folder of them is at hand: they are found, and their videos become clips."""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
from pathlib import Path

import pytest

from data_pipeline.shards.manifest import Manifest
from mytalk import media
from mytalk.face import detector, landmarks
from mytalk.face.track import find_faces

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs the extra landmarks")


@pytest.fixture(scope="module")
def readers(real_videos) -> list[Path]:
    """The two smallest videos of the GRID corpus: 3 s of one person each, who reads a sentence."""
    found = sorted(real_videos.glob("grid_*.mpg"), key=lambda path: path.stat().st_size)
    if len(found) < 2:
        pytest.skip(f"needs two videos grid_*.mpg in {real_videos}")
    return found[:2]


def test_the_face_of_a_reader_is_found_in_every_frame_with_its_mouth_below_its_eyes(readers) -> None:
    finder = detector.load(detector.DEFAULT)
    for video in readers:
        track = find_faces(itertools.islice(media.read_frames(video), 25), finder)
        assert track.found_T.all()
        found = track.landmarks_TN3
        eyes, mouth = found[:, [33, 263], 1].mean(1), found[:, landmarks.MOUTH, 1].mean(1)
        assert (mouth - eyes > 30).all()
        assert landmarks.opening(found).std() > 0.5, "who reads moves the mouth"


def test_videos_of_readers_become_a_clip_each_and_the_ledger_adds_up(readers, command, tmp_path) -> None:
    (tmp_path / "videos").mkdir()
    for video in readers:
        shutil.copy(video, tmp_path / "videos")
    out = tmp_path / "shards"
    command("-m", "data_pipeline", "extract", str(tmp_path / "videos"), str(out), "--workers", "1", check=True)
    manifest = Manifest.load(out)
    assert sorted(manifest.column("source")) == sorted(video.name for video in readers)
    assert len(set(manifest.column("identity"))) == 2
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    sources = {line["source"]: line for line in lines if "source" in line}
    assert {line["state"] for line in sources.values()} == {"extracted"}
    for name, source in sources.items():
        spans = [line for line in lines if line.get("span_of") == name]
        assert [(span["start"], span["stop"], span["state"]) for span in spans] == [(0, source["frames"], "kept")]
        assert 70 <= source["frames"] <= 80
    assert manifest.column("frames").sum() == sum(source["frames"] for source in sources.values())
