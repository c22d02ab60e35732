"""People with a face of training are not scored, where the judge can tell people apart."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from eval import faces
from eval.report import check
from eval.tasks import Settings, plan_tasks
from mytalk.command import UserError
from tests.helpers import talkers
from tests.helpers.coded_films import benchmark


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Manifest:
    """Four training people and two unseen, without pictures that matter."""
    return Manifest.load(talkers.write(tmp_path_factory.mktemp("people"), {"train": 4, "unseen": 2}, frames=26))


class Told:
    """Everybody's face is a number, or some; whose pictures come next is known from what was read."""

    def __init__(self, face_of, manifest: Manifest, patch: pytest.MonkeyPatch) -> None:
        self.face_of, self.asked = face_of, list[str]()
        patch.setattr(video_reader, "read_video", self.read)
        self.people = manifest.column("identity")

    def read(self, manifest: Manifest, row: int, at) -> np.ndarray:
        assert len(at) == faces.PICTURES
        self.asked.append(str(self.people[row]))
        return np.zeros((len(at), 8, 8, 3), np.uint8)

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        assert len(landmarks_KN3) == len(pictures_KHW3)
        return np.tile(np.atleast_1d(self.face_of(self.asked[-1])), (len(pictures_KHW3), 1))


def checked(manifest: Manifest, judge: Told, same: float = faces.SAME) -> str:
    return faces.check(manifest, plan_tasks(manifest, Settings()), manifest, judge, same)


def test_a_face_of_training_under_another_name_is_refused(people, monkeypatch) -> None:
    trained, unseen = (list(people.rows_of_people(split)) for split in ("train", "unseen"))
    face = {name: 1.0 * number for number, name in enumerate([*trained, *unseen])}
    judge = Told(face.__getitem__, people, monkeypatch)
    assert checked(people, judge) == "nobody scored is within 0.45 (L2, dlib) of 4 training people; 0 could not be read"
    assert sorted(set(judge.asked)) == sorted(face), "one clip of each person"
    face[unseen[1]] = face[trained[2]] + 0.4
    with pytest.raises(UserError, match=f"{unseen[1]}, to be scored, has the face of {trained[2]} in training"):
        checked(people, judge)
    assert checked(people, judge, same=0.3).startswith("nobody scored is within 0.3")


def test_a_person_under_two_names_in_training_does_not_turn_the_check_off(people, monkeypatch) -> None:
    trained, unseen = (list(people.rows_of_people(split)) for split in ("train", "unseen"))
    face = {name: 1.0 * number for number, name in enumerate([*trained, *unseen])}
    face[trained[3]] = face[trained[0]] + 0.2
    judge = Told(face.__getitem__, people, monkeypatch)
    one = f"taken for one person: {trained[0]} = {trained[3]}"
    assert checked(people, judge) == (
        f"nobody scored is within 0.45 (L2, dlib) of 3 training people; 0 could not be read; {one}"
    )
    face[unseen[0]] = face[trained[3]] - 0.25
    with pytest.raises(UserError, match=f"{unseen[0]}, to be scored, has the face of {trained[0]} in training"):
        checked(people, judge)
    assert "50 %" in checked(people, judge, same=0.22), "0.2 is less sure than 0.35 of 0.45"
    face[trained[3]] = face[trained[0]] + 0.4
    assert checked(people, judge).startswith("not checked: the judge finds 50 %"), "alike, and not surely one"


def test_a_judge_that_takes_training_people_for_each_other_refuses_nobody(people, monkeypatch) -> None:
    words = checked(people, Told(lambda name: 0.0, people, monkeypatch))
    assert words.startswith("not checked: the judge tells 1 of them apart; it needs 3; taken for one person: ")
    far = dict(zip(people.rows_of_people("train"), (0.2, 0.2, 0.36, 0.36)))
    face = {name: np.eye(len(far))[number] * far[name] for number, name in enumerate(far)}
    words = checked(people, Told(lambda name: face.get(name, np.zeros(len(far))), people, monkeypatch))
    assert words.startswith("not checked: the judge finds 100 % of the training people within 0.45 of another"), (
        "some are so near that they are joined, and the others no farther than people may be"
    )


def test_look_alikes_in_a_chain_are_not_one_person() -> None:
    faces_of = {name: np.array([[at]]) for name, at in (("a", 0.0), ("b", 0.3), ("c", 0.6), ("far", 3.0))}
    assert faces.one_person_each(faces_of, 0.35) == [["a", "b"], ["c"], ["far"]]


def test_people_who_cannot_be_read_are_counted(people, monkeypatch) -> None:
    names = [*people.rows_of_people("train"), *people.rows_of_people("unseen")]
    judge = Told(lambda name: 1.0 * names.index(name), people, monkeypatch)

    def damaged(manifest, row, at):
        if str(judge.people[row]) == names[0]:
            raise reader.ClipError("k", "corrupt", "cannot be decoded")
        return judge.read(manifest, row, at)

    monkeypatch.setattr(video_reader, "read_video", damaged)
    assert checked(people, judge).endswith("of 3 training people; 1 could not be read")

    def all_damaged(manifest, row, at):
        raise reader.ClipError("k", "corrupt", "cannot be decoded")

    monkeypatch.setattr(video_reader, "read_video", all_damaged)
    assert checked(people, judge) == (
        "not checked: 0 people in split train of the training shards can be read; it needs 3"
    )


def test_the_benchmark_refuses_in_one_line_before_it_dubs(
    films, models, tmp_path, stand_ins, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(faces, "LEAST_PEOPLE", 1)
    assert benchmark(films, models, tmp_path / "out", "--same-face", "1000") == 1, "brightness is what tells people"
    error = capsys.readouterr().err.splitlines()
    assert "has the face of" in error[-1]
    assert not (tmp_path / "out" / check.NAME).exists()
    with pytest.raises(SystemExit):
        benchmark(films, models, tmp_path / "out", "--same-face", "0")
