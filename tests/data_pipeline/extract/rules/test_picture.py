"""The rules by what pictures show: their order, their limits, and facts that are missing."""

from __future__ import annotations

import dataclasses

import pytest

from data_pipeline.extract.rules.picture import PictureRules, verdict
from data_pipeline.shards.facts import FACTS

RULES = PictureRules()
GOOD = {
    "yaw_deg": -20.0,
    "pitch_deg": 10.0,
    "profile": 0.0,
    "jump": 0.1,
    "hand": 0.0,
    "luma": 120.0,
    "overexposed": 0.0,
    "frozen": 0.0,
    "detail_px": 90.0,
    "overlay": 0.0,
}
# In the order of the rules: what rejects, and the limit.
BAD = [
    ("turned_away", "yaw_deg", -70.0, -RULES.yaw_deg),
    ("turned_away", "pitch_deg", 70.0, RULES.pitch_deg),
    ("profile", "profile", 0.9, RULES.profile),
    ("jump", "jump", 0.9, RULES.jump),
    ("hand", "hand", 0.9, RULES.hand),
    ("dark", "luma", 3.0, RULES.dark),
    ("overexposed", "overexposed", 0.9, RULES.overexposed),
    ("frozen", "frozen", 0.9, RULES.frozen),
    ("blurred", "detail_px", 20.0, RULES.blurred_px),
    ("overlay", "overlay", 0.9, RULES.overlay),
]


def test_a_good_span_is_kept_and_so_is_one_without_facts():
    assert verdict(GOOD, RULES) is None
    assert verdict({}, RULES) is None


@pytest.mark.parametrize(("rule", "fact", "value", "limit"), BAD)
def test_each_rule_rejects_with_its_value_and_its_limit(rule, fact, value, limit):
    assert verdict(GOOD | {fact: value}, RULES) == (rule, value, limit)
    assert verdict(GOOD | {fact: limit}, RULES) is None, "a value at its limit is kept"


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_was_not_measured_rejects_nothing(missing):
    assert verdict(dict.fromkeys(GOOD, missing), RULES) is None


def test_the_first_rule_in_the_order_of_the_list_speaks():
    facts = GOOD | {fact: value for _, fact, value, _ in BAD}
    for rule, fact, value, limit in BAD:
        assert verdict(facts, RULES) == (rule, value, limit)
        facts[fact] = GOOD[fact]
    assert verdict(facts, RULES) is None


def test_no_limit_switches_a_rule_off():
    off = PictureRules(**{field.name: None for field in dataclasses.fields(PictureRules)})
    assert verdict({fact: value for _, fact, value, _ in BAD}, off) is None


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1.0])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="dark must be a number"):
        PictureRules(dark=limit)


def test_every_rule_reads_a_fact_of_the_manifest():
    assert set(GOOD) <= {fact.name for fact in FACTS}
