"""Extraction on real people: whom it finds, what it rejects and who is said to speak. Nobody may publish the files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data_pipeline.shards.manifest import Manifest
from tests.helpers import needs

REAL = os.environ.get("MYTALK_REAL_VIDEOS", "")
pytestmark = [
    pytest.mark.skipif(not REAL, reason="MYTALK_REAL_VIDEOS names no folder of real people"),
    needs.packages("mediapipe", "scenedetect", "onnxruntime", "silero_vad", extras="landmarks and judges"),
]
# file -> tracks that become clips, states of its rejected spans, why nobody speaks, frames at which a shot begins
EXPECTED = {
    "ap_cxk.mp4": (1, {"frozen"}, {"music"}, []),  # a photograph beside the one who moves
    "ap_num18.mp4": (2, {"frozen"}, {"no_speech"}, []),  # and beside two of them
    "lp_d9.mp4": (1, set(), {"no_speech"}, []),  # the sound is a noise floor
    "lp_s32.mp4": (1, set(), {"no_sound"}, []),
    "em_c.mp4": (2, set(), {"no_sound"}, [258]),  # a cut between like pictures
    "ls_3.mp4": (2, set(), {""}, [226]),  # another
    "grid_id2.mpg": (1, set(), {""}, []),
    "vr_1.mp4": (1, set(), {""}, []),
}


@pytest.fixture(scope="module")
def shards(command, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "videos").mkdir()
    for name in EXPECTED:
        (folder / "videos" / name).symlink_to(Path(REAL, name).resolve())
    size = ("--sources-per-shard", "2", "--workers", "2")
    command("-m", "data_pipeline", "extract", str(folder / "videos"), str(folder / "out"), *size, check=True)
    return folder / "out"


def test_tracks_verdicts_cuts_and_speech_of_real_people(shards):
    manifest = Manifest.load(shards)
    lines = [json.loads(line) for line in (shards / "ledger.jsonl").read_text().splitlines()]
    got = {}
    for line in lines:
        if name := line.get("source"):
            rows = [row for row, source in enumerate(manifest.column("source")) if source == name]
            tracks = {manifest.column("track")[row] for row in rows}
            rejected = {span["state"] for span in lines if span.get("span_of") == name and span["state"] != "kept"}
            silent = {manifest.column("why_silent")[row] for row in rows}
            got[name] = (len(tracks), rejected, silent, line["cuts"])
    assert got == EXPECTED


def test_people_beside_each_other_are_people_of_their_own(shards):
    manifest = Manifest.load(shards)
    people: dict[str, set[str]] = {}
    for source, person in zip(manifest.column("source"), manifest.column("identity")):
        people.setdefault(source, set()).add(person)
    assert people["grid_id2.mpg"] == {"videos/grid_id2"}
    assert people["em_c.mp4"] == {"videos/em_c"}, "two shots of one person"
    assert len(people["ap_num18.mp4"]) == 2
    assert all("#" in person for person in people["ap_num18.mp4"]), "nobody says which of them the file is named for"


def test_what_is_rejected_has_its_value_its_limit_and_a_picture(shards):
    lines = [json.loads(line) for line in (shards / "ledger.jsonl").read_text().splitlines()]
    frozen = [line for line in lines if line.get("state") == "frozen"]
    assert frozen
    for line in frozen:
        assert line["value"] > line["limit"] == 0.5
        assert line["facts"]["frozen"] == line["value"]
        assert len(line["box"]) == 3
    assert all("thumb" in line for line in frozen)
