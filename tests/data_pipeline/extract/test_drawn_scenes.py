"""Drawn scenes through the whole extraction, held against their truth: who is where, where shots begin, who speaks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from mytalk.face import crop
from mytalk.face.shots import face_boxes
from tests.helpers import needs

pytestmark = needs.drawn_scenes

CUTS = ("cuts", "cuts_alike", "flash")
PEOPLE = ("two", "three", "crossing", "leaves", "dissolve_alike")
SILENT = ("narrator_two", "music", "noise")
REJECTED = {"dark": "dark", "photograph": "frozen", "upside_down": "upside_down"}
SEEDS = ("1", pytest.param("4", marks=pytest.mark.full))  # videos of each kind; thresholds were chosen on the first 3
SPEAKS_SHARE = 0.3  # of a span's frames, from which on its person is a speaker


@pytest.fixture(scope="module", params=SEEDS)
def scenes(request, command, tmp_path_factory) -> Path:
    """The drawn videos, in `videos`, and their shards, in `out`."""
    folder = tmp_path_factory.mktemp("scenes")
    kinds = (*CUTS, *PEOPLE, *SILENT, *REJECTED)
    pipeline = ("-m", "data_pipeline")
    command(*pipeline, "scenes", str(folder / "videos"), "--kinds", *kinds, "--seeds", request.param, check=True)
    command(*pipeline, "extract", str(folder / "videos"), str(folder / "out"), "--workers", "2", check=True)
    return folder


def truths(scenes: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in (scenes / "videos/truth.jsonl").read_text().splitlines()]
    return {line["path"]: line for line in lines}


def clips(scenes: Path) -> Iterator[tuple[str, int, int, dict, np.ndarray]]:
    """Source, track, first frame, labels, and where the face is in each frame: centre (T, 2), px of the source."""
    manifest = Manifest.load(scenes / "out")
    for row in range(len(manifest)):
        crop_23 = np.reshape(manifest.column("crop")[row], (2, 3))
        landmarks_TN3 = crop.apply(reader.read_landmarks(manifest, row), crop.invert(crop_23))
        labels = {name: manifest.column(name)[row] for name in ("speaks", "why_silent", "identity", "music")}
        source, track, start = (manifest.column(name)[row] for name in ("source", "track", "start_frame"))
        yield source, int(track), int(start), labels, face_boxes(landmarks_TN3)[0]


def person_at(truth: dict, frame: int, centre_2: np.ndarray) -> int | None:
    """The place in `people` of who is nearest to a point in a frame, and within a face of it."""
    near = {}
    for place, person in enumerate(truth["people"]):
        if (box := person["box"][frame]) is not None:
            near[place] = np.hypot(*(centre_2 - box[:2])) / box[2]
    best = min(near, key=near.__getitem__, default=None)
    return best if best is not None and near[best] < 0.6 else None


def test_no_track_changes_its_person_and_none_shows_nobody(scenes):
    truth = truths(scenes)
    shown: dict[tuple[str, int], set] = defaultdict(set)
    for source, track, start, _, centre_T2 in clips(scenes):
        shown[source, track] |= {person_at(truth[source], start + t, at_2) for t, at_2 in enumerate(centre_T2)}
    assert {source.split("/")[1] for source, _ in shown} >= {f"{kind}.mp4" for kind in (*CUTS, *PEOPLE)}
    assert {key: people for key, people in shown.items() if len(people) > 1 or None in people} == {}


def test_everyone_who_is_seen_for_long_becomes_clips(scenes):
    truth = truths(scenes)
    got: dict[str, set] = defaultdict(set)
    for source, _, start, _, centre_T2 in clips(scenes):
        got[source].add(person_at(truth[source], start, centre_T2[0]))
    for kind in ("two", "three", "crossing", "leaves", "cuts"):
        for source in (source for source in truth if source.endswith(f"/{kind}.mp4")):
            assert got[source] == set(range(len(truth[source]["people"]))), source


def test_hard_cuts_are_the_drawn_ones(scenes):
    truth = truths(scenes)
    lines = [json.loads(line) for line in (scenes / "out/ledger.jsonl").read_text().splitlines()]
    found = {line["source"]: line["cuts"] for line in lines if "source" in line}
    for source, cuts in found.items():
        if not truth[source]["transitions"]:
            assert cuts == truth[source]["cuts"], source


def test_who_is_said_to_speak_speaks_and_who_is_said_not_to_does_not(scenes):
    truth = truths(scenes)
    said = []
    for source, _, start, labels, centre_T2 in clips(scenes):
        person = truth[source]["people"][person_at(truth[source], start, centre_T2[0])]
        speaks = np.mean(person["speaking"][start : start + len(centre_T2)]) >= SPEAKS_SHARE
        if labels["speaks"] is not None:
            assert bool(labels["speaks"]) == speaks, (source, labels)
        said.append((source.split("/")[1], labels["why_silent"]))
        if source.endswith("/music.mp4"):
            assert labels["music"] > 0.5, "it is told too, but no_speech comes first: nobody's voice is in it"
    assert any(why == "not_speaking" for kind, why in said if kind in ("two.mp4", "three.mp4", "narrator_two.mp4"))
    assert {why for kind, why in said if kind == "noise.mp4"} == {"no_speech"}
    assert {why for kind, why in said if kind == "music.mp4"} == {"no_speech"}


def test_what_is_wrong_with_a_picture_is_the_rule_that_rejects_it(scenes):
    lines = [json.loads(line) for line in (scenes / "out/ledger.jsonl").read_text().splitlines()]
    for kind, rule in REJECTED.items():
        states = {line["state"] for line in lines if line.get("span_of", "").endswith(f"/{kind}.mp4")}
        assert states == {rule}


def test_two_of_like_size_are_people_of_their_own(scenes):
    people = defaultdict(set)
    for source, _, _, labels, _ in clips(scenes):
        people[source].add(labels["identity"])
    for source, names in people.items():
        kind = source.split("/")[1].removesuffix(".mp4")
        if kind == "two":
            assert len(names) == 2
            assert all("#" in name for name in names)
        if kind in (*CUTS, "leaves"):
            assert names == {f"videos/{source.split('/')[0]}"}
