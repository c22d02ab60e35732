"""The pictures of a source: each once, and together the frames that `media.read_frames` gives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from data_pipeline.extract import pictures
from mytalk import media
from tests.helpers import numbered

SLOW = [Fraction(k, 12) for k in range(24)]
STANDS = [*numbered.regular(20), *(3 + t for t in numbered.regular(20))]


def read(path, ranges_s=()):
    counted = []
    out = list(pictures.read(path, ranges_s, media.Notes(), counted.append))
    assert sum(counted) == sum(picture.count for picture in out)
    return out


@pytest.mark.parametrize("times_s", [numbered.regular(40), numbered.regular(60, 30), SLOW, STANDS])
def test_pictures_are_the_frames(tmp_path, times_s):
    path = numbered.write(tmp_path / "v.mp4", times_s)
    frames = list(media.read_frames(path))
    out = read(path)
    assert [picture.first for picture in out] == np.cumsum([0, *(picture.count for picture in out)])[:-1].tolist()
    shown = [picture for picture in out for _ in range(picture.count)]
    assert len(shown) == len(frames)
    assert all((picture.frame_HW3 == frame).all() for picture, frame in zip(shown, frames))
    numbers = [numbered.number(picture.frame_HW3) for picture in out]
    assert len(set(numbers)) == len(numbers)


def test_a_picture_that_stands_is_marked(tmp_path):
    out = read(numbered.write(tmp_path / "v.mp4", STANDS))
    assert [(picture.first, picture.stop) for picture in out if picture.still] == [(19, 75)]


@pytest.mark.parametrize(
    ("range_s", "still"),
    [
        ((0, 1), [(19, 25)]),
        ((2, 4), [(50, 75)]),
        ((1, 2), [(25, 50)]),
        ((0.5, 3.5), [(19, 75)]),
        ((0, 0.76), []),  # it ends where the picture begins
        ((3, 4), []),
    ],
)
def test_a_picture_that_stands_is_marked_however_little_of_it_is_in_the_range(tmp_path, range_s, still):
    out = read(numbered.write(tmp_path / "v.mp4", STANDS), [range_s])
    assert [(picture.first, picture.stop) for picture in out if picture.still] == still


def test_pictures_that_stand_one_after_the_other_are_marked_and_those_between_are_not(tmp_path):
    times_s = [
        Fraction(0),
        Fraction(2),
        *numbered.regular(10, start_s=4),
        Fraction(6),
        *numbered.regular(10, start_s=8),
    ]
    path = numbered.write(tmp_path / "v.mp4", times_s)
    standing = [(picture.first, picture.stop) for picture in read(path) if picture.still]
    assert standing == [(0, 50), (50, 100), (109, 150), (150, 200)]
    parted = [(picture.first, picture.stop) for picture in read(path, [[1, 3], [4.1, 7]]) if picture.still]
    assert parted == [(25, 50), (50, 75), (109, 150), (150, 175)]


def test_ranges_give_their_frames_alone(tmp_path):
    path = numbered.write(tmp_path / "v.mp4", SLOW)
    frames = list(media.read_frames(path))
    out = read(path, [[0.2, 0.6], [1.0, 1.5]])
    covered = [index for picture in out for index in range(picture.first, picture.stop)]
    assert covered == [*range(5, 15), *range(25, 38)]
    for picture in out:
        assert all((picture.frame_HW3 == frames[index]).all() for index in range(picture.first, picture.stop))
    assert read(path, [[50.0, 60.0]]) == []
