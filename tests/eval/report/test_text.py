"""A report as text."""

from __future__ import annotations

from eval.report import check, text
from tests.helpers.small_report import built


def test_refused_metrics_are_named_once_a_reason_and_are_in_no_row() -> None:
    made = built({"sync_confidence": "deaf", "sync_distance": "deaf", "identity_cosine": "not named"})
    check.check(made)
    said = text.in_words(made)
    assert said.count("refused: sync_confidence, sync_distance: deaf") == 1
    assert said.count("refused: identity_cosine: not named") == 1
    assert "sync_distance (lower" not in said


def test_the_table_names_the_corpora_of_its_clips() -> None:
    report = built()
    assert text.in_words(report).startswith("mean over people of drawn-v2 [95 % interval]  ")
    report["protocol"]["corpora"] = ["hdtf", "lrs3"]
    assert text.in_words(report).startswith("mean over people of hdtf, lrs3 [95 % interval]  ")
    del report["protocol"]["corpora"]  # a report of before
    assert text.in_words(report).startswith("mean over people [95 % interval]  ")
