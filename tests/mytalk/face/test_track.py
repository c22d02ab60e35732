"""Faces under their numbers, with a detector that reads a list of who stands where, and the main face of a video."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mytalk.face import pose
from mytalk.face.detector import Detector, Region, region_of
from mytalk.face.landmarks import COUNT, RIGID
from mytalk.face.track import AWAY, EAGER, LOOK_EVERY, UNSUPPORTED, Face, Tracker, find_faces

SIDE_PX = 100.0


@dataclass(frozen=True)
class Person:
    """A face at a place; people of other `features` have other rigid points."""

    x: float
    features: int = 0
    y: float = 200.0
    side: float = SIDE_PX
    detected: bool = True  # by the detector; the mesh sees the face all the same
    score: float = 0.9

    def landmarks(self) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, COUNT, endpoint=False)
        face_N3 = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) * self.side / 2
        own_R3 = np.random.default_rng(self.features).normal(0, 3, (len(RIGID), 3))
        face_N3[RIGID] = (pose.MEAN_RIGID_R3.numpy() + own_R3) * self.side / 210
        return (face_N3 + np.array([self.x, self.y, 0])).astype(np.float32)


@dataclass
class Scene:
    """A detector that is shown the number of a picture and knows who is in it, the nearest to the camera first."""

    pictures: list[list[Person]]
    meshes: list[int] = field(default_factory=list)  # the pictures it was asked about
    looks: list[int] = field(default_factory=list)

    def frames(self) -> list[np.ndarray]:
        return [np.full((400, 800, 3), number, np.uint8) for number in range(len(self.pictures))]

    def find(self, frame_HW3: np.ndarray) -> list[Region]:
        number = int(frame_HW3[0, 0, 0])
        self.looks.append(number)
        people = [person for person in self.pictures[number] if person.detected]
        return [replace(region_of(person.landmarks()), score=person.score) for person in people]

    def landmarks(self, frame_HW3: np.ndarray, region: Region) -> np.ndarray | None:
        """The face in front of those in the region, as a mesh that goes over to it where one hides the other."""
        number = int(frame_HW3[0, 0, 0])
        self.meshes.append(number)
        for person in self.pictures[number]:
            if abs(person.x - region.x) < 0.5 * region.side:
                return person.landmarks()
        return None


def follow(scene: Detector, frames: list[np.ndarray], cuts: tuple[int, ...] = (), **more) -> list[dict[int, Face]]:
    tracker = Tracker(scene, **more)
    return [tracker.next(frame, index in cuts) for index, frame in enumerate(frames)]


def places(faces: dict[int, Face]) -> dict[int, int]:
    return {number: round(region_of(face.landmarks_N3).x) for number, face in faces.items()}


def numbers(scene: Scene, **more) -> list[list[int]]:
    return [sorted(faces) for faces in follow(scene, scene.frames(), **more)]


def test_two_faces_keep_their_numbers_the_larger_first_and_the_detector_rests_between_looks():
    scene = Scene([[Person(200 + k), Person(500 - k, 1, side=120)] for k in range(20)])
    faces = follow(scene, scene.frames())
    assert [places(shown) for shown in faces] == [{0: 500 - k, 1: 200 + k} for k in range(20)]
    np.testing.assert_array_equal(faces[7][0].landmarks_N3, Person(493, 1, side=120).landmarks())
    assert sorted(set(scene.looks)) == [0, LOOK_EVERY, 2 * LOOK_EVERY, 3 * LOOK_EVERY]


def test_only_so_many_faces_are_followed_and_small_ones_not_at_all():
    people = [Person(100 * k, k, side=40 + 5 * k) for k in range(1, 7)]
    scene = Scene([people] * 3)
    assert [places(shown) for shown in follow(scene, scene.frames(), most_faces=2)] == [{0: 600, 1: 500}] * 3
    assert [places(shown) for shown in follow(scene, scene.frames(), least_px=61)] == [{0: 600, 1: 500}] * 3


def test_faces_that_cross_never_share_a_number():
    """One walks past the other, in front of it or behind; the mesh goes over to who is in front."""
    for front in (0, 1):
        pictures = [[Person(200 + 10 * k, 0), Person(500 - 10 * k, 1)] for k in range(31)]
        scene = Scene([people[:: 1 if front == 0 else -1] for people in pictures])
        owners: dict[int, set[int]] = {}
        followed = 0
        for index, faces in enumerate(follow(scene, scene.frames())):
            for number, place in places(faces).items():
                who = [person.features for person in pictures[index] if round(person.x) == place]
                if len(who) == 1:  # at the crossing both stand in one place
                    owners.setdefault(number, set()).update(who)
                    followed += 1
        assert all(len(people) == 1 for people in owners.values()), owners
        assert followed >= 2 * 31 - 20
        assert len(owners) <= 8, "in doubt a number ends, so two people have several"


@pytest.mark.parametrize(
    ("absent", "moved", "features", "number"),
    [(AWAY, 10, 0, 0), (AWAY + 1, 10, 0, 1), (AWAY, 60, 0, 1), (AWAY, 10, 5, 1)],
    ids=["soon, near and alike", "late", "elsewhere", "another face"],
)
def test_a_face_that_was_lost_resumes_its_number_only_as_the_same(absent, moved, features, number):
    pictures = [[Person(200)]] * 3 + [[]] * absent + [[Person(200 + moved, features)]] * 3
    assert numbers(Scene(pictures)) == [[0]] * 3 + [[]] * absent + [[number]] * 3


def test_a_cut_ends_every_track_and_nobody_resumes_across_it():
    scene = Scene([[Person(200), Person(500, 1)]] * 8)
    assert numbers(scene, cuts=(4,)) == [[0, 1]] * 4 + [[2, 3]] * 4
    gone = Scene([[Person(200)]] * 3 + [[]] + [[Person(200)]] * 3)
    assert numbers(gone, cuts=(4,)) == [[0]] * 3 + [[]] + [[1]] * 3


def test_a_face_that_jumps_or_zooms_is_another():
    for other in (Person(260), Person(200, side=150)):
        assert numbers(Scene([[Person(200)]] * 3 + [[other]] * 3)) == [[0]] * 3 + [[1]] * 3


def test_a_track_ends_when_the_detector_has_long_not_supported_it():
    """The mesh sees a face where none is any more; until then its looks are every few pictures."""
    pictures = [[Person(200)]] + [[Person(200, detected=False)]] * (UNSUPPORTED * LOOK_EVERY + 3)
    shown = numbers(Scene(pictures))
    assert shown == [[0]] * (UNSUPPORTED * LOOK_EVERY) + [[]] * 4
    blink = [[Person(200, detected=number != LOOK_EVERY)] for number in range(30)]
    assert numbers(Scene(blink)) == [[0]] * 30


def test_a_face_that_comes_is_found_at_the_next_look_and_at_once_where_nobody_was():
    assert numbers(Scene([[]] * 4 + [[Person(200)]] * 2)) == [[]] * 4 + [[0]] * 2
    beside = [[Person(200)]] * 2 + [[Person(200), Person(500, 1)]] * 4
    assert numbers(Scene(beside)) == [[0]] * LOOK_EVERY + [[0, 1]]
    empty = Scene([[]] * (EAGER + 10 * LOOK_EVERY))
    assert numbers(empty) == [[]] * len(empty.pictures)
    assert len(empty.looks) == EAGER + 10


def test_a_picture_that_is_shown_again_costs_nothing():
    scene = Scene([[Person(200)]] * 2)
    first, second = scene.frames()
    faces = follow(scene, [first, second, second, second])
    assert scene.meshes.count(1) == 1
    assert faces[1][0].landmarks_N3 is faces[3][0].landmarks_N3


def test_a_face_that_scores_better_in_the_turned_picture_is_upside_down_and_no_main_face():
    class Turned(Scene):
        def find(self, frame_HW3: np.ndarray) -> list[Region]:
            upright = frame_HW3[0, -1, 1] == 0
            return [replace(region, score=0.7 if upright else 0.9) for region in super().find(frame_HW3)]

    scene = Turned([[Person(400)]] * 2)
    frames = scene.frames()
    for frame in frames:
        frame[-1, 0, 1] = 1  # the upper right corner of the turned picture
    assert [face.upside_down for shown in follow(scene, frames) for face in shown.values()] == [True, True]
    assert not find_faces(frames, scene).found_T.any()
    assert find_faces(scene.frames(), Scene(scene.pictures)).found_T.all()


def test_the_main_face_is_the_largest_until_it_is_lost_and_frames_without_one_are_zeros():
    pictures = [[Person(200, side=110), Person(500, 1)]] + [[Person(200, side=110), Person(500, 1, side=130)]] * 2
    pictures += [[Person(500, 1)], []]
    scene, counted = Scene(pictures), []
    track = find_faces(iter(scene.frames()), scene, lambda: counted.append(1))
    assert track.landmarks_TN3.shape == (5, COUNT, 3)
    assert track.landmarks_TN3.dtype == np.float32
    assert track.found_T.tolist() == [True, True, True, True, False]
    assert [round(region_of(points).x) for points in track.landmarks_TN3[:4]] == [200, 200, 200, 500]
    assert not track.landmarks_TN3[4].any()
    assert (track.width, track.height) == (800, 400)
    assert len(counted) == 5


def test_no_frames_give_an_empty_track():
    track = find_faces([], Scene([]))
    assert track.landmarks_TN3.shape == (0, COUNT, 3)
    assert track.found_T.shape == (0,)
