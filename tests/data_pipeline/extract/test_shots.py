"""Shots: recall and precision on drawn cuts, fades, dissolves and flashes, and order whatever is held back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from data_pipeline.extract.pictures import Picture, read
from data_pipeline.extract.shots import with_cuts
from data_pipeline.synthetic.scenes.scene import scene
from mytalk import media
from mytalk.media.cuts import REACH

SEED = 3  # the thresholds were chosen on seeds 0 to 2


def shown(frames: Iterable[np.ndarray], first: int = 0) -> Iterable[Picture]:
    for number, frame in enumerate(frames, first):
        yield Picture(frame, number, 1, False)


def cuts_in(frames: Iterable[np.ndarray]) -> list[int]:
    return [picture.first for picture, cut in with_cuts(shown(frames)) if cut]


def noise(count: int, level: int = 120) -> list[np.ndarray]:
    random = np.random.default_rng(level)
    return [random.integers(level - 3, level + 4, (36, 64, 3)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", ["cuts", "cuts_alike", "cuts_size"])
def test_every_hard_cut_is_found_at_its_frame_and_no_other(kind):
    one = scene(kind, SEED)
    assert cuts_in(one.pictures()) == one.truth["cuts"]


@pytest.mark.parametrize(
    "kind",
    ["flash", "two", "three", "crossing", "leaves", "hand", "photograph", "dark", "overexposed", "blurred", "frozen"],
)
def test_what_is_one_shot_has_no_cut(kind):
    assert cuts_in(scene(kind, SEED).pictures()) == []


@pytest.mark.parametrize("kind", ["fade", "dissolve", "dissolve_alike"])
def test_a_transition_is_set_apart_in_parts_too_short_for_a_clip(kind):
    one = scene(kind, SEED)
    edges = [0, *cuts_in(one.pictures()), one.frames]
    for _, start, stop in one.truth["transitions"]:
        # Its faintest pictures, the first and the last three, may stay with the shots beside it.
        touching = [(a, b) for a, b in itertools.pairwise(edges) if a < stop - 3 and b > start + 3]
        assert all(b - a < 25 for a, b in touching), (edges, start, stop)
    assert sum(b - a >= 25 for a, b in itertools.pairwise(edges)) == 3


@pytest.mark.parametrize("frames", [1, 2, 3, 7])  # 25 to 3.6 pictures a second
@pytest.mark.parametrize("least_frames", [25, 12])
def test_no_part_of_a_transition_is_long_enough_for_a_clip_however_slow_the_source(frames, least_frames):
    """A dissolve of 30 pictures between two rooms with a camera's noise."""
    one, other = noise(45), noise(45, 200)
    mixed = [np.round(a + (b - a.astype(float)) * k / 30).astype(np.uint8) for k, (a, b) in enumerate(zip(one, other))]
    film = [*one[:40], *mixed[:30], *other]
    pictures = [Picture(frame, frames * number, frames, False) for number, frame in enumerate(film)]
    begins = [picture.first for picture, cut in with_cuts(pictures, least_frames) if cut]
    edges = [0, *begins, frames * len(film)]
    inside = [(a, b) for a, b in itertools.pairwise(edges) if a < frames * 67 and b > frames * 43]
    assert all(b - a < least_frames for a, b in inside), inside
    assert len(inside) > 1


def test_pictures_come_in_order_each_once_and_few_are_held_back():
    taken = 0

    def counted() -> Iterable[Picture]:
        nonlocal taken
        for picture in shown(noise(40), first=7):
            taken += 1
            yield picture

    for number, (picture, cut) in enumerate(with_cuts(counted())):
        assert picture.first == 7 + number
        assert not cut
        assert taken - number <= 2 * REACH + 1
    assert taken == 40


def test_a_gap_between_time_ranges_is_a_cut():
    pictures = [*shown(noise(20)), *shown(noise(20), first=50)]
    assert [picture.first for picture, cut in with_cuts(pictures) if cut] == [50]


def test_no_picture_and_one_picture():
    assert list(with_cuts([])) == []
    assert [cut for _, cut in with_cuts(shown(noise(1)))] == [False]


def test_real_speakers_cut_together_before_one_wall(real_videos):
    """The people of one corpus sit before the same wall, framed alike; alone, none of their videos has a cut."""
    films = {}
    for path in sorted(real_videos.glob("grid_*.mpg")):
        pictures = read(path, [], media.Notes(), lambda n: None)
        films[path.stem] = [cv2.resize(picture.frame_HW3, (128, 102)) for picture in itertools.islice(pictures, 40)]
    assert len(films) >= 2
    for film in films.values():
        assert cuts_in(film) == []
    for one, other in itertools.permutations(films.values(), 2):
        assert cuts_in([*one[:25], *other[:25]]) == [25]
