"""Runs and spans: every frame of a face in exactly one span, none over a gap, a bounded number held."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.extract import spans
from data_pipeline.extract.patches import Patch
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.spans import Runs, Seen, Span

NOTHING = Patch(np.zeros((3, 2), np.uint8), np.zeros(2, int), np.ones(2), 1)


def seen_at(x: float = 50.0, side_px: float = 40.0) -> Seen:
    return Seen(np.zeros((478, 3), np.float32), np.array([x, 50, side_px]), NOTHING, False, np.nan, 1, True)


def spans_of(runs: Runs, pictures: list[tuple[int, dict[int, Seen]]]) -> list[Span]:
    """Feed (count, faces) one after the other."""
    out, first = [], 0
    for count, faces in pictures:
        out += runs.add(first, count, faces)
        assert all(len(run.seen_T) < runs.most + runs.least for run in runs.open.values())
        first += count
    return out + list(runs.end())


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sets(st.integers(0, 2))), max_size=60),
    st.integers(1, 6),
    st.integers(12, 40),
)
def test_every_frame_of_a_track_is_in_one_span_and_no_span_crosses_a_gap(pictures, least, most):
    out = spans_of(Runs(least, most), [(n, {track: seen_at() for track in tracks}) for n, tracks in pictures])
    shown = [tracks for n, tracks in pictures for _ in range(n)]
    for track in range(3):
        mine = [span for span in out if span.track == track]
        frames = [frame for span in mine for frame in range(span.start, span.stop)]
        assert frames == [frame for frame, tracks in enumerate(shown) if track in tracks]
        assert all(len(span.seen_T) <= most for span in mine)
        for span in mine:
            alone = (span.start == 0 or track not in shown[span.start - 1]) and (
                span.stop == len(shown) or track not in shown[span.stop]
            )
            assert len(span.seen_T) >= least or alone, "cutting a run leaves no rest that is too short"


@given(
    st.floats(0.04, 3.0),
    st.floats(2.0, 5.0),
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["on", "on", "on", "on", "on", "gap", "jump"])), max_size=150
    ),
    st.sampled_from([1, 300, 10**9]),
)
def test_no_film_of_the_shortest_length_is_lost_in_cutting(min_seconds, ratio, pictures, most_bytes):
    """What follows each other for min_seconds is in clips of that length or more, whatever the rules and the memory."""
    rules = Rules(min_seconds=min_seconds, max_seconds=ratio * min_seconds)
    runs = Runs(rules.least_frames, rules.most_frames, most_bytes)
    out, first, x, lengths = [], 0, 0.0, [0]
    for count, event in pictures:
        x += 1000.0 * (event == "jump")
        if event != "on":
            lengths.append(0)
        if event != "gap":
            lengths[-1] += count
        out += runs.add(first, count, {} if event == "gap" else {0: seen_at(x)})
        first += count
    out += runs.end()
    kept = [len(span.seen_T) for span in out if len(span.seen_T) >= rules.least_frames]
    assert sum(kept) == sum(length for length in lengths if length >= rules.least_frames)
    assert max(kept, default=0) <= rules.most_frames


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"min_seconds": 6.0}, "set max_seconds=12"),
        ({"max_seconds": 1.5}, "at least twice min_seconds"),
        ({"min_seconds": float("nan")}, "must be above 0"),
        ({"max_seconds": float("inf")}, "must be a number"),
        ({"min_face_px": float("nan")}, "numbers of at least 1"),
        ({"min_face_px": float("inf")}, "numbers of at least 1"),
    ],
)
def test_lengths_that_lose_film_and_values_that_are_no_numbers_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Rules(**changed)


def test_faces_that_are_large_together_are_cut_earlier_and_hold_no_more_than_they_may():
    patch = Patch(np.zeros((30, 20), np.uint8), np.zeros(2, int), np.ones(2), 1)  # 600 bytes
    runs, out = Runs(5, 50, most_bytes=60 * 600), []
    for frame in range(200):
        out += runs.add(frame, 1, {track: replace(seen_at(), patch=patch) for track in range(3)})
        assert sum(run.held_bytes for run in runs.open.values()) <= runs.most_bytes
        assert all(run.held_bytes == 600 * len(run.seen_T) for run in runs.open.values())
    out += runs.end()
    for track in range(3):
        mine = [span for span in out if span.track == track]
        assert [frame for span in mine for frame in range(span.start, span.stop)] == list(range(200))
        assert all(5 <= len(span.seen_T) <= 50 for span in mine)
    alone = Runs(5, 50, most_bytes=60 * 600)
    spans_alone = [span for frame in range(200) for span in alone.add(frame, 1, {0: replace(seen_at(), patch=patch)})]
    assert {len(span.seen_T) for span in spans_alone} == {50}, "one face is not"


def test_a_long_run_is_cut_while_it_lasts_and_its_rest_is_cut_evenly():
    out = spans_of(Runs(25, 250), [(1, {0: seen_at()})] * 774)
    assert [(span.start, span.stop) for span in out] == [(0, 250), (250, 500), (500, 637), (637, 774)]
    assert spans.pieces(300, 250) == [(0, 150), (150, 300)]


def test_a_head_that_walks_or_grows_begins_another_span():
    walking = [(1, {0: seen_at(50 + x)}) for x in range(60)]  # of 40 px: half of it is 20
    assert [(span.start, span.stop) for span in spans_of(Runs(5, 100), walking)] == [(0, 21), (21, 42), (42, 60)]
    growing = [(1, {0: seen_at(side_px=40 * 1.01**n)}) for n in range(60)]
    assert [span.start for span in spans_of(Runs(5, 100), growing)] == [0, 27, 54]
    there_and_back = [(1, {0: seen_at(50 + 8 * np.sin(n))}) for n in range(60)]
    assert len(spans_of(Runs(5, 100), there_and_back)) == 1


def test_frames_that_are_passed_over_end_a_run():
    runs = Runs(1, 100)
    out = list(runs.add(0, 10, {0: seen_at()})) + list(runs.add(25, 5, {0: seen_at()})) + list(runs.end())
    assert [(span.start, span.stop) for span in out] == [(0, 10), (25, 30)]


def test_the_box_of_a_span_is_the_median():
    seen = [replace(seen_at(), box_3=np.array([x, 1.0, 30.0])) for x in (1.0, 2.0, 90.0)]
    assert Span(0, 0, seen).box_3.tolist() == [2, 1, 30]
