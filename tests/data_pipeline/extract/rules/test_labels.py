"""Which of several faces a corpus's labels mean."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.extract import process, video
from data_pipeline.extract.corpora.layouts import FaceBox
from data_pipeline.extract.listing import sources
from data_pipeline.extract.rules import labels
from data_pipeline.extract.rules.picture import PictureRules
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.video import Tools
from mytalk.face.detector import Region, region_of
from tests.helpers import numbered, stub_extract

CENTRES_F2 = np.array([[20.0, 30], [80, 30], [50, 90]])
SIDES_F = np.array([20.0, 30, 8])
LEFT, RIGHT, SMALL = 0, 1, 2


def meant(*boxes: FaceBox, at_s: float = 0.0, size_px=(100, 100)) -> set[int] | None:
    return labels.labelled(boxes, at_s, size_px, CENTRES_F2, SIDES_F)


@pytest.mark.parametrize(
    ("box", "face"),
    [
        (FaceBox(0.2, 0.3, 0.2, 0.2), {LEFT}),
        (FaceBox(80, 30, 25, 25, "px"), {RIGHT}),
        (FaceBox(800, 300, 300, 300, "px", 1000), {RIGHT}),
        (FaceBox(0.75, 0.3), {RIGHT}),
        (FaceBox(0.5, 0.9), {SMALL}),
        (FaceBox(0.5, 0.5, 1, 1), {RIGHT}),  # all are inside: the one that fills most of it
        (FaceBox(0.5, 0.3, 0.1, 0.1), set()),  # between the two
        (FaceBox(0.5, 0.6), set()),
    ],
)
def test_a_box_in_shares_or_px_or_a_centre_means_a_face(box, face):
    assert meant(box) == face


def test_a_label_says_nothing_outside_of_its_time():
    early, late = FaceBox(0.2, 0.3, start=1, stop=2), FaceBox(0.8, 0.3, start=2)
    assert [meant(early, late, at_s=at_s) for at_s in (0.9, 1, 1.99, 2, 99)] == [None, {LEFT}, {LEFT}, {RIGHT}, {RIGHT}]
    assert meant() is None


def test_most_frames_decide():
    assert labels.verdict([None, None]) is None
    assert labels.verdict([True, True, False, None]) is None
    rejected = labels.verdict([False, False, True, None])
    assert rejected is not None
    assert (rejected.rule, rejected.value, rejected.limit) == ("not_labelled", pytest.approx(1 / 3), 0.5)


class TwoFaces(stub_extract.StubDetector):
    """A face to the left and one to the right, of one size."""

    def find(self, frame: np.ndarray) -> list[Region]:
        return [region_of(stub_extract.face_at(x, 64, 32)) for x in (32, 96)]

    def landmarks(self, frame: np.ndarray, region: Region | None = None) -> np.ndarray:
        return stub_extract.face_at(32 if region is None or region.x < 64 else 96, 64, 32)


@pytest.mark.parametrize(("x", "side"), [(0.25, 0), (0.75, 64)])
def test_of_two_like_faces_the_labelled_one_is_the_person_and_the_other_is_rejected(tmp_path, monkeypatch, x, side):
    monkeypatch.setattr(video, "with_cuts", stub_extract.no_cuts)
    numbered.write(tmp_path / "a.mp4", numbered.regular(30), side_px=128)
    (tmp_path / "out").mkdir()
    unlabelled = sources.Source("a.mp4", 0, "c/x", 0)
    rules = Rules(min_face_px=16, picture=PictureRules(frozen=None))
    face = {"x": x, "y": 0.5, "width": 0.3, "height": 0.3}
    parts = []
    for number, source in enumerate((unlabelled, sources.Source("a.mp4", 0, "c/x", 0, faces=[face]))):
        task = process.ShardTask(tmp_path, tmp_path / "out", number, (source,), "c", rules)
        parts.append(process.write_shard(task, Tools(TwoFaces()), lambda item, n: None)["sources"][0])
    assert [span["state"] for span in parts[0]["spans"]] == ["kept", "kept"]
    assert all("#" in person for person in parts[0]["people"]), "of like faces nobody knows whom the folder means"
    assert {span["state"]: side <= span["box"][0] < side + 64 for span in parts[1]["spans"]} == {
        "kept": True,
        "not_labelled": False,
    }
    assert parts[1]["people"] == ["c/x"]
