"""Keys of clips, and the person, from the path of a video."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.extract.corpora import folder
from data_pipeline.extract.listing import sources
from mytalk.command import UserError


@settings(max_examples=100, deadline=None)
@given(
    paths=st.lists(
        st.from_regex(r"([a-zA-Z0-9 ._äé-]{1,12}/){0,2}[a-zA-Z0-9 ._äé-]{1,60}\.mp4", fullmatch=True), unique=True
    )
)
def test_keys_are_unique_and_safe_for_tars(paths):
    keys = [sources.key_of("corpus", path, 250) for path in paths]
    assert len(set(keys)) == len(paths)
    for key in keys:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
        assert len(key) + len(".landmarks.npy") <= 100


def test_keys_of_files_without_a_suffix_are_readable_too():
    assert sources.key_of("c", "p1/talk", 0).startswith("p1-talk-")
    assert sources.key_of("c", "a.b/talk", 0).startswith("a-b-talk-")
    assert sources.key_of("c", "...mp4", 0).startswith("clip-")
    assert sources.key_of("c", "p1/talk.mp4", 25).startswith("p1-talk-")


def test_keys_of_paths_that_read_alike_differ():
    alike = ["a b/x.mp4", "a-b/x.mp4", "a/b/x.mp4", "a/b-x.mp4", "a/b/x.mkv"]
    alike += ["long" * 20 + "/x.mp4", "long" * 21 + "/x.mp4"]
    assert len({sources.key_of("corpus", path, 0) for path in alike}) == len(alike)
    assert sources.key_of("corpus", "x.mp4", 0) != sources.key_of("other", "x.mp4", 0)


def test_the_person_is_the_folder_or_the_file():
    assert folder.person("x.mp4", None) == "x"
    assert folder.person("ann/x.mp4", None) == "ann"
    assert folder.person("id01/vid/x.mp4", "first") == "id01"
    assert folder.person("test/id01/x.mp4", "parent") == "id01"
    with pytest.raises(UserError, match="--identity"):
        folder.person("id01/vid/x.mp4", None)
