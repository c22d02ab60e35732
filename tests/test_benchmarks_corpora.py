"""benchmarks.people.shifted and benchmarks.tasks.layouts: what they make is what they say."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from benchmarks.people import shifted
from benchmarks.tasks import layouts
from data_pipeline.extract.corpora import folder
from data_pipeline.extract.corpora.layouts import LAYOUTS, load
from data_pipeline.extract.listing import walk
from data_pipeline.extract.listing.tree import Tree
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.tasks.runner import Runner
from data_pipeline.verify.command import verified
from tests.helpers import corpora, talkers


def test_the_sound_of_what_is_trained_on_is_shifted_and_the_shards_are_sound(tmp_path):
    talkers.write(tmp_path / "true", {"train": 2, "val": 1, "unseen": 1}, 1, 30)
    shifted.copied(tmp_path, shifted.SHIFTED, seed=0)
    true, made = Manifest.load(tmp_path / "true"), Manifest.load(tmp_path / "shifted")
    known = shifted.shifts(true, seed=0)
    assert len(known) == 3
    assert all(shifted.LEAST_FRAMES <= abs(frames) <= shifted.MOST_FRAMES for frames in known.values())
    for row in range(len(true)):
        before_S, after_S, late = reader.read_audio(true, row), reader.read_audio(made, row), 640 * known.get(row, 0)
        assert before_S.any()
        if late >= 0:
            np.testing.assert_array_equal(after_S[late:], before_S[: len(before_S) - late])
        else:
            np.testing.assert_array_equal(after_S[:late], before_S[-late:])
        assert np.count_nonzero(after_S) < np.count_nonzero(before_S) or not late
    assert verified(str(tmp_path / "shifted"), 0, Runner(0))["findings"] == []


@pytest.mark.parametrize("name", sorted({*LAYOUTS} - {*layouts.ELSEWHERE} | {"folder"}))
def test_each_layout_finds_the_videos_that_are_laid_for_it(tmp_path, name):
    first = corpora.material(tmp_path)[corpora.VIDEO]
    second = shutil.copy(first, tmp_path / "second.mp4")
    root = layouts.laid(tmp_path / "tree", name, [first, second])
    tree = Tree(root, walk.walk(root))
    listed = list(folder.videos(tree) if name == "folder" else load(name)(tree))
    assert len(listed) == 2
    assert all((root / one.path).exists() and (not one.audio or (root / one.audio).exists()) for one in listed)
    assert any(one.audio for one in listed) == (name in ("voxceleb2", "mead", "talkvid", "table"))
