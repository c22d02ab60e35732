"""Groups of people and the gaps between them, by hand and against scipy's own Welch test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.gaps import groups
from eval.gaps.groups import Scored
from eval.score_file import ClipScore
from mytalk.command import UserError


def clip(person: str, value: float, number: int = 0) -> ClipScore:
    return ClipScore(f"{person}-{number}", person, methods={"mytalk": {"m": value}})


def test_people_are_grouped_by_split_and_by_whether_training_saw_their_corpus() -> None:
    missed = ClipScore("k", "a/9", reason="no_face", message="none")
    made = groups.grouped(
        [
            Scored("unseen", ("a", "b"), [clip("a/3", 1), clip("b/1", 2), missed]),
            Scored("train", ("a",), [clip("a/1", 3), clip("a/2", 4)]),
        ]
    )
    assert {name: [c.person for c in clips] for name, clips in made.items()} == {
        "seen people": ["a/1", "a/2"],
        "unseen people": ["a/3"],
        "unseen corpus b": ["b/1"],
    }
    alone = groups.grouped([Scored("unseen", ("a", "b"), [clip("a/3", 1), clip("b/1", 2)])])
    assert list(alone) == ["unseen people of a", "unseen people of b"]


def test_a_person_in_two_groups_is_refused() -> None:
    with pytest.raises(UserError, match="a/1 is in 'seen people' and in 'unseen people'"):
        groups.grouped([Scored("train", ("a",), [clip("a/1", 1)]), Scored("unseen", ("a",), [clip("a/1", 1)])])


def test_a_gap_is_welchs_over_people_and_not_over_clips() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(0, 1, 7), random.normal(1, 3, 12)
    theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert groups.welch(one.tolist(), other.tolist()) == pytest.approx([theirs.low, theirs.high])
    twice = [clip(f"a/{n}", value + shift, k) for n, value in enumerate(one) for k, shift in enumerate((-0.5, 0.5))]
    made = groups.gap(twice, [clip(f"b/{n}", value) for n, value in enumerate(other)], "mytalk", "m")
    assert made == {"mean": pytest.approx(one.mean() - other.mean()), "ci95": pytest.approx([theirs.low, theirs.high])}
    assert groups.gap(twice, [clip("b/1", 1.0)], "mytalk", "m")["ci95"] is None
    assert groups.gap(twice, [], "mytalk", "m") is None
    assert groups.welch([1.0, 1.0], [3.0, 3.0]) == [-2.0, -2.0]


def test_the_gain_of_a_group_is_the_slope_over_its_people() -> None:
    def told(number: int) -> ClipScore:
        traits = {"truth": {"log_amplitude": float(number)}, "mytalk": {"log_amplitude": number / 4}}
        return ClipScore(f"k{number}", f"p{number}", methods={"mytalk": {"m": 1.0}}, traits=traits)

    people = {"many": [told(number) for number in range(6)], "few": [told(9)]}
    made = groups.entries(people, "mytalk", "gain_recovered")
    assert list(made) == ["many"]
    assert made["many"]["mean"] == pytest.approx(0.25)
    assert groups.gap(people["many"], people["few"], "mytalk", "gain_recovered") is None
    assert groups.entries(people, "mytalk", "success_rate") == {}
