"""Windows of a clip, each with a source of the same person: where they may lie, and what an example holds of them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.examples.motion import MotionExamples
from data_pipeline.examples.windows import MIN_SOURCE_FRAMES, shorten_target
from data_pipeline.sample import windows
from data_pipeline.sample.slot_random import Purpose, slot_random
from data_pipeline.sample.windows import SamplingConfig, Window, WindowConfig
from data_pipeline.shards import reader
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks.diffusion import T_MIN
from tests.helpers.manifests import in_memory
from tests.helpers.motion_windows import WINDOW


def test_windows_lie_inside_their_clips_and_take_every_allowed_length(examples, talkers):
    frames = talkers.column("frames")
    lengths, starts = Counter(), Counter()
    for slot in range(600):
        (row, start, stop), (source, first, last) = examples.windows.example(slot)
        assert row == examples.windows.order.row(slot)
        assert 0 <= start < stop <= frames[row]
        lengths[stop - start] += 1
        starts[start == 0] += 1
        assert 0 <= first < last <= frames[source]
        assert last - first == WINDOW.source_frames
    assert set(lengths) == set(range(WINDOW.min_frames, WINDOW.max_frames + 1))
    assert starts[False] > 400, "windows begin anywhere"


def test_a_clip_shorter_than_the_window_is_taken_whole(talkers):
    wide = MotionExamples(talkers, SamplingConfig(seed=1), WindowConfig(100, 200, 300))
    for slot in range(20):
        (row, start, stop), (source, first, last) = wide.windows.example(slot)
        assert (start, stop) == (0, talkers.column("frames")[row])
        assert (first, last) == (0, talkers.column("frames")[source])


def test_the_source_is_another_clip_of_the_same_person(examples, talkers):
    identity = talkers.column("identity")
    for slot in range(200):
        place, source = examples.windows.example(slot)
        assert source == examples.windows.source(slot, Window(place.row, 0, 1)), "wherever the target is"
        assert source.row != place.row
        assert identity[source.row] == identity[place.row]


def test_a_person_of_one_clip_is_their_own_source_and_splits_do_not_mix():
    """c's other clip is in another split, so it is not drawn."""
    made = in_memory(
        key=["a0", "a1", "b0", "c0", "c1"],
        identity=["a", "a", "b", "c", "c"],
        split=["train", "train", "train", "train", "val"],
        frames=[30, 30, 30, 30, 30],
        shard=[0, 0, 0, 1, 1],
    )
    examples = MotionExamples(made, SamplingConfig(seed=0), WINDOW)
    drawn = {(row, examples.windows.source(slot, Window(row, 0, 12)).row) for slot in range(60) for row in range(4)}
    assert drawn == {(0, 1), (1, 0), (2, 2), (3, 3)}


@given(st.integers(2, 400), st.integers(1, 300), st.integers(0, 300), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_the_source_in_an_only_clip_shows_nothing_of_the_target(frames, shortest, more, source_frames):
    """Disjoint, both inside the clip, and enough of a source; a target that leaves room is as it was drawn."""
    one = in_memory(key=["a"], identity=["a"], split=["train"], frames=[frames], shard=[0])
    window = WindowConfig(shortest, shortest + more, source_frames)
    examples = MotionExamples(one, SamplingConfig(seed=0), window)
    for slot in range(4):
        (row, start, stop), (source, first, last) = examples.windows.example(slot)
        assert (row, source) == (0, 0)
        assert 0 <= start < stop <= frames
        assert 0 <= first < last <= frames
        assert last <= start or stop <= first
        assert last - first <= source_frames
        assert last - first >= min(MIN_SOURCE_FRAMES, source_frames, max(1, frames // 3))
        random = slot_random(examples.selection.digest, 0, slot, Purpose.WINDOW)
        drawn = windows.draw(random, frames, window.min_frames, window.max_frames)
        if max(drawn[0], frames - drawn[1]) >= MIN_SOURCE_FRAMES:
            assert (start, stop) == drawn
        else:
            assert drawn[0] <= start < stop <= drawn[1], "cut, not moved"


def test_an_only_clip_taken_whole_gives_a_third_of_itself_to_the_source():
    assert shorten_target(0, 90, 90, 75) == (30, 90)
    assert shorten_target(0, 300, 300, 75) == (75, 300)
    assert shorten_target(2, 97, 100, 75) == (2, 67)
    assert shorten_target(11, 100, 100, 75) == (11, 100)


def test_an_only_clip_of_one_frame_is_refused():
    one = in_memory(key=["a", "b"], identity=["a", "b"], split=["train"] * 2, frames=[9, 1], shard=[0, 0])
    with pytest.raises(UserError, match="clip b, its person's only one in split 'train', has one frame"):
        MotionExamples(one, SamplingConfig(seed=0), WINDOW)


def test_an_example_holds_what_its_window_says(examples, talkers):
    """Landmarks, speech and source are those of the clips; padding repeats the last frame; t and noise fit."""
    batch = examples(list(range(6)))
    for i in range(6):
        (row, start, stop), (source, first, last) = examples.windows.example(i)
        length = stop - start
        assert batch.keys_B[i] == talkers.column("key")[row]
        assert batch.starts_B[i] == start
        assert batch.mask_BT[i].tolist() == [1.0] * length + [0.0] * (batch.mask_BT.shape[1] - length)
        whole = torch.from_numpy(reader.read_landmarks(talkers, row))
        assert torch.equal(batch.landmarks_BTN3[i, :length], whole[start:stop])
        assert (batch.landmarks_BTN3[i, length:] == whole[stop - 1]).all()
        speech = torch.from_numpy(reader.read_audio(talkers, row))
        span = slice(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME)
        assert torch.equal(batch.audio_BS[i, : length * SAMPLES_PER_FRAME], speech[span])
        assert not batch.audio_BS[i, length * SAMPLES_PER_FRAME :].any()
        assert not batch.noise_BTK2[i, length:].any()
        own = torch.from_numpy(reader.read_landmarks(talkers, source))[first:last]
        assert torch.equal(batch.source_BUN3[i, : last - first], own)
        heard = torch.from_numpy(reader.read_audio(talkers, source, first, last))
        assert torch.equal(batch.source_audio_BS[i, : len(heard)], heard)
    noise = torch.cat([examples([n]).noise_BTK2.flatten() for n in range(20)])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    times = torch.cat([examples([n]).t_B for n in range(200)])
    assert times.min() >= T_MIN
    assert times.max() <= 1
    assert abs(times.mean() - 0.5) < 0.1


@pytest.mark.parametrize(
    "sizes", [{"min_frames": 0}, {"min_frames": 30, "max_frames": 20}, {"source_frames": 0}], ids=str
)
def test_impossible_window_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        WindowConfig(**sizes)
