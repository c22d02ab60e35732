"""What a clip is scored with."""

from __future__ import annotations

import numpy as np

from eval.rows.inputs import swapped


def test_swapped_speech_is_cut_or_repeated_and_never_the_clips_own() -> None:
    own = np.arange(5, dtype=np.float32)
    assert swapped(own, np.array([7, 8])).tolist() == [7, 8, 7, 8, 7]
    assert swapped(own, np.arange(9, 0, -1)).tolist() == [9, 8, 7, 6, 5]
    assert swapped(own, own.copy()) is None
    assert swapped(own, np.arange(9)) is None, "the same sound, only longer"
