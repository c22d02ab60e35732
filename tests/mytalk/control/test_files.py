"""Times and motion from files: read back as written, and refused in one line where they are something else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mytalk.command import UserError
from mytalk.control import motion_file, times
from mytalk.control.motion_file import Keyframes

HZ = 16_000


def test_times_of_a_csv_file(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("start_s,stop_s,sound\n0.5,0.58,p\n1,1,b\n")
    assert times.read(path) == [(0.5, 0.58), (1.0, 1.0)]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as spreadsheets save UTF-8
    assert times.read(path) == [(0.5, 0.58), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "line 2: start_s and stop_s are to be numbers"),
        ("start_s,stop_s\n1\n", "line 2: start_s and stop_s are to be numbers"),
        ("start_s,stop_s\n1,2\n3,x\n", "line 3: start_s"),
        ("start_s,stop_s\n2,1\n", "2.0 to 1.0 s is no time"),
        ("start_s,stop_s\n0,inf\n", "is no time"),
        ("start_s,stop_s\nnan,1\n", "is no time"),
        (b"\xff\xfe\x00", "is not a CSV file"),
    ],
)
def test_a_file_without_times_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "times.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=said) as caught:
        times.read(path)
    assert "\n" not in str(caught.value)


def test_silence_is_a_pause_of_some_length_and_all_that_follows_the_speech():
    loud = np.random.default_rng(0).uniform(-0.3, 0.3, 5 * HZ).astype(np.float32)
    for start_s, stop_s in ((1.0, 2.0), (3.0, 3.2)):  # the second is too short
        loud[round(start_s * HZ) : round(stop_s * HZ)] *= 1e-4
    found = times.silences(loud, until_s=6.0)
    np.testing.assert_allclose(found, [(1.0, 1.96), (5.0, 5.96)], atol=0.041)


def test_motion_is_read_back_as_written(tmp_path):
    random = np.random.default_rng(0)
    written = Keyframes(np.array([0, 3, 9]), random.normal(size=(3, 478, 3)).astype(np.float32), 29.97)
    motion_file.write(tmp_path / "m.npz", written)
    got = motion_file.read(tmp_path / "m.npz")
    np.testing.assert_array_equal(got.frames_M, written.frames_M)
    np.testing.assert_array_equal(got.landmarks_MN3, written.landmarks_MN3)
    motion_file.check_rate(got, Fraction(30_000, 1001))
    with pytest.raises(UserError, match=r"29\.97 frames a second and the video has 25"):
        motion_file.check_rate(got, Fraction(25))
    assert got.inside(1, 9).frames_M.tolist() == [3]


POINTS = np.zeros((2, 478, 3), np.float32)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"frames": np.arange(2)}, "is no motion file"),
        ({"frames": np.arange(2), "landmarks": POINTS, "fps": "x"}, "is no motion file"),
        ({"frames": np.array([object()]), "landmarks": POINTS, "fps": 25.0}, "is no motion file"),
        ({"frames": np.arange(3), "landmarks": POINTS, "fps": 25.0}, "do not fit"),
        ({"frames": np.arange(2) * 1.5, "landmarks": POINTS, "fps": 25.0}, "do not fit"),
        ({"frames": np.array([3, 3]), "landmarks": POINTS, "fps": 25.0}, "are to rise"),
        ({"frames": np.array([-1, 3]), "landmarks": POINTS, "fps": 25.0}, "are to rise"),
        ({"frames": np.arange(2), "landmarks": POINTS * np.nan, "fps": 25.0}, "are no numbers"),
        ({"frames": np.arange(2), "landmarks": POINTS, "fps": 0.0}, "are no numbers"),
    ],
)
def test_what_is_no_motion_file_is_refused_in_one_line(tmp_path, held, said):
    path = tmp_path / "m.npz"
    np.savez(path, **held)
    with pytest.raises(UserError, match=said) as caught:
        motion_file.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 torn", b"not a file at all" * 9])
def test_torn_files_are_refused(tmp_path, data):
    path = tmp_path / "m.npz"
    path.write_bytes(data)
    with pytest.raises(UserError, match="is no motion file"):
        motion_file.read(path)
