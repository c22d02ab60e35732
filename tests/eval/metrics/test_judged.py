"""The metrics of the person and of perception, with judges whose answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from eval.metrics import perception, person
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from tests.helpers.faces import WAVE, opened
from tests.helpers.judges import LevelPerception, LevelPerson

FRAMES = len(WAVE)


def compared(level: int, source_level: int | None, evaluators: Evaluators, lost: slice = slice(0)) -> Comparison:
    """A row of grey frames of this level, and a clip of level 100 whose source has another, or none."""
    landmarks_TN3 = opened(WAVE)

    def grey(value: int) -> np.ndarray:
        return np.full((FRAMES, 256, 256, 3), value, np.uint8)

    source = None if source_level is None else grey(source_level)
    truth = Truth(grey(100), landmarks_TN3, np.zeros(0), landmarks_TN3, source)
    detected_T = np.ones(FRAMES, bool)
    detected_T[lost] = False
    return Comparison(truth, DetectedVideo(grey(level), landmarks_TN3, detected_T), evaluators)


def test_the_person_is_compared_with_their_source_clip_and_without_one_with_the_clip() -> None:
    evaluators = Evaluators(person=LevelPerson())
    measure = person.METRICS["face_distance@dlib"].compute
    assert measure(compared(130, 120, evaluators)) == pytest.approx(10)
    assert measure(compared(130, None, evaluators)) == pytest.approx(30)
    assert person.METRICS["csim@dlib"].compute(compared(130, 120, evaluators)) == pytest.approx(1)


def test_pairs_of_pictures_are_averaged() -> None:
    one, other = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0]])
    assert person.distance(one, other) == pytest.approx((2 + np.sqrt(13)) / 2)
    assert person.cosine(one, other) == pytest.approx(0.5)


def test_few_pictures_with_a_face_are_embedded_and_the_source_once() -> None:
    judge = LevelPerson()
    row = compared(130, 120, Evaluators(person=judge), lost=slice(0, 10))
    person.embeddings(row)
    person.embeddings(dataclasses.replace(row))
    assert judge.asked == [person.PICTURES] * 3, "the source, and each of two rows"
    with pytest.raises(Miss) as miss:
        person.embeddings(compared(130, 120, Evaluators(person=judge), lost=slice(None)))
    assert miss.value.reason == person.FEW_DETECTED


@pytest.mark.parametrize(("asked", "pictures"), [(5, 5), (1, 1), (None, FRAMES), (1000, FRAMES)])
def test_perception_sees_as_many_frames_as_asked_for(asked, pictures) -> None:
    judge = LevelPerception()
    row = compared(130, None, Evaluators(perception=judge, judged_frames=asked))
    distance, of_truth, of_row = perception.seen(row)
    assert distance == pytest.approx(30)
    assert (len(of_truth), len(of_row)) == (pictures, pictures)
    assert (of_truth[0, 0], of_row[0, 0]) == (100, 130)
    again = judge.crops
    perception.seen(dataclasses.replace(row))
    assert judge.crops - again == (pictures if pictures <= perception.MOST_KEPT else 2 * pictures)


def test_the_face_box_is_a_square_round_all_frames_inside_the_picture() -> None:
    points = np.zeros((2, 3, 3))
    points[0, :, :2] = [[50, 60], [90, 120], [70, 80]]
    points[1, :, :2] = [[60, 60], [110, 80], [70, 80]]
    rows, columns = perception.face_box(points, (256, 256))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (54, 126, 44, 116)
    rows, columns = perception.face_box(points * 4, (256, 200))
    assert rows.stop - rows.start == columns.stop - columns.start == 200
    assert min(rows.start, columns.start) >= 0
    assert (rows.stop <= 256, columns.stop <= 200) == (True, True)
