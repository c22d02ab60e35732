"""What becomes of clips on which some metric has no value, and of rows that failed."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from eval.report import build, check, text
from eval.score_file import ALL_ROWS, ClipScore
from eval.tasks import ScoringTask, Window
from tests.helpers import small_report

PROVENANCE = {name: small_report.built()[name] for name in ("protocol", "digests")}
ASKED, LACKING = "theval_silent_stability", ["no_silence", "no silence lasts 8 frames"]


def without(score: ClipScore, metric: str = ASKED) -> ClipScore:
    """The clip, on which a metric has no value."""
    methods = {row: {n: v for n, v in values.items() if n != metric} for row, values in score.methods.items()}
    return replace(score, methods=methods, omitted={metric: LACKING})


def reported(scores: list[ClipScore]) -> dict:
    tasks = [ScoringTask(s.key, s.person, Window(0, 0, 9), None, False) for s in scores]
    return build.build(PROVENANCE, tasks, {s.key: s for s in scores}, {}, {}, {"penalty": 1.0})


def test_clips_without_a_value_are_counted_with_their_reason_and_the_means_are_over_the_others() -> None:
    scores = small_report.scores()
    kept = [scores[1], *scores[2:]]
    report = reported([without(scores[0]), *kept])
    check.check(report)
    assert report["coverage"]["unmeasured"] == {ASKED: {"no_silence": 1}}
    entry = report["methods"]["mytalk"][ASKED]
    assert (entry["n"], entry["total"], entry["clips"]) == (3, 3, 4)
    whole = reported(scores)["methods"]["mytalk"]
    assert report["methods"]["mytalk"]["lmd_px"] == whole["lmd_px"], "nothing else has changed"
    first = scores[1].methods["mytalk"][ASKED]
    other = [(scores[2].methods["mytalk"][ASKED] + scores[3].methods["mytalk"][ASKED]) / 2]
    other.append(scores[4].methods["mytalk"][ASKED])
    assert entry["mean"] == pytest.approx((first + sum(other)) / 3)
    assert f"without {ASKED}: 1 no_silence" in text.in_words(report)
    assert "unmeasured" not in reported(scores)["coverage"]


def test_a_person_whose_clips_all_lack_it_is_missing_from_it_alone() -> None:
    scores = small_report.scores()
    report = reported([without(scores[0]), without(scores[1]), *scores[2:]])
    check.check(report)
    assert report["methods"]["mytalk"][ASKED]["n"] == 2
    assert report["methods"]["mytalk"]["lmd_px"]["n"] == 3


def test_a_metric_that_no_clip_has_is_refused_with_the_first_reason() -> None:
    report = reported([without(score) if score.reason is None else score for score in small_report.scores()])
    check.check(report)
    assert report["refused"][ASKED] == f"no clip has a value; the first: {LACKING[1]}"
    assert all(ASKED not in entries for entries in report["methods"].values())
    assert "unmeasured" not in report["coverage"]


@pytest.mark.parametrize("change", ["count", "lost", "row", "people", "reason"])
def test_coverage_of_a_metric_that_does_not_add_up_is_refused(change) -> None:
    scores = small_report.scores()
    report = copy.deepcopy(reported([without(scores[0]), *scores[1:]]))
    entries = report["methods"]["mytalk"]
    if change == "count":
        entries[ASKED]["clips"] += 1
    elif change == "lost":
        del report["coverage"]["unmeasured"]
    elif change == "row":
        report["methods"]["mytalk"]["mouth_leak"] = entries["lmd_px"]
    elif change == "people":
        entries["success_rate"]["n"] = 4
    else:
        report["coverage"]["unmeasured"][ASKED] = {"no_silence": 0, "other": 1}
    with pytest.raises(check.UntraceableReport):
        check.check(report)


def test_success_counts_each_rows_own_failures_crashes_and_not_what_was_wrong_with_the_clip() -> None:
    scores = small_report.scores()  # one clip is lost because the row ridge lost its face
    rates = {row: entries["success_rate"] for row, entries in reported(scores)["methods"].items()}
    assert rates["ridge"]["mean"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert rates["mytalk"]["mean"] == rates["ground_truth"]["mean"] == 1
    assert rates["mytalk"]["clips"] == 6
    early = [*scores[:5], replace(scores[5], failed=["mytalk"], usable=["ridge"])]
    rates = {row: entries["success_rate"] for row, entries in reported(early)["methods"].items()}
    assert (rates["ridge"]["mean"], rates["ridge"]["clips"]) == (1, 6)
    assert rates["mytalk"]["mean"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert (rates["frozen_mouth"]["mean"], rates["frozen_mouth"]["clips"]) == (1, 5), "its turn never came"
    crashed = [*scores[:4], replace(scores[4], reason="error", methods={}, failed=[ALL_ROWS])]
    damaged = [*scores[:4], replace(scores[4], reason="corrupt", methods={})]
    assert reported(crashed)["methods"]["mytalk"]["success_rate"]["mean"] == pytest.approx(2 / 3)
    rate = reported(damaged)["methods"]["mytalk"]["success_rate"]
    assert (rate["mean"], rate["n"], rate["clips"]) == (1, 2, 4)


def test_the_persons_gain_is_computed_from_what_the_file_of_scores_keeps() -> None:
    random = [0.1, 0.5, 0.9, 1.4, 1.7, 2.2]
    base = small_report.scores()[0]
    scores = [
        replace(
            base,
            key=f"k{i}",
            person=f"p{i}",
            traits={"truth": {"log_amplitude": x}, **{row: {"log_amplitude": 0.5 * x} for row in base.methods}},
        )
        for i, x in enumerate(random)
    ]
    report = reported(scores)
    check.check(report)
    entry = report["methods"]["mytalk"]["gain_recovered"]
    assert entry["mean"] == pytest.approx(0.5)
    assert entry["ci95"] == pytest.approx([0.5, 0.5])
    assert report["refused"]["lag_recovered"].startswith("0 people")
