"""Appending to a file: whole lines or none."""

from __future__ import annotations

import pytest

from mytalk import atomic
from tests.helpers.disks import no_file_past


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    atomic.append(path, b"one\n")
    with no_file_past(6), pytest.raises(OSError, match="too large"):  # two bytes of it would fit
        atomic.append(path, b"two\n")
    assert path.read_bytes() == b"one\n"
    atomic.append(path, b"two\n", sync=False)
    assert path.read_bytes() == b"one\ntwo\n"
