"""Bounded samples and histograms against numpy on all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.extract.rules import picture as picture_rules
from data_pipeline.extract.rules import speech as speech_rules
from data_pipeline.extract.rules.picture import PictureRules
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.rules.speech import SpeechRules
from data_pipeline.shards.facts import FACTS
from data_pipeline.stats import histogram
from data_pipeline.stats.histogram import Histogram, Sample, edges
from data_pipeline.stats.thresholds import RULES, Rule, Threshold, thresholds
from mytalk import config


@given(pieces=st.lists(st.integers(0, 9), max_size=40), most=st.integers(2, 30))
def test_a_sample_is_every_kth_value_however_it_comes_in_pieces(pieces, most):
    values = np.arange(sum(pieces), dtype=float)
    sample = Sample(most)
    for part in np.split(values, np.cumsum(pieces)[:-1]) if pieces else []:
        sample.add(part)
    assert sample.count == len(values)
    if len(values):
        step = 1
        while len(values[::step]) > most:
            step *= 2
        assert sample.quantiles([0, 0.5, 1]) == np.quantile(values[::step], [0, 0.5, 1]).tolist()


def test_quantiles_of_a_long_stream_are_near_those_of_all_of_it():
    values = np.random.default_rng(0).gamma(2, 3, 300_000)
    sample = Sample()
    for part in np.array_split(values, 77):
        sample.add(part)
    shares = [0.01, 0.25, 0.5, 0.75, 0.99]
    assert sample.quantiles(shares) == pytest.approx(np.quantile(values, shares), rel=0.06)


def test_missing_values_and_infinite_ones_do_not_count():
    sample = Sample()
    sample.add(np.array([1.0, np.nan, 3.0, np.inf]))
    assert (sample.count, sample.quantiles([0, 1])) == (2, [1.0, 3.0])
    counted = Histogram(np.array([0.0, 2.0, 4.0]))
    counted.add(np.array([1.0, np.nan, 3.0]))
    counted.add(np.array([3.5, -np.inf]), rejected=True)
    assert (counted.kept_B.tolist(), counted.rejected_B.tolist(), counted.beyond) == ([1, 1], [0, 1], 0)


def test_a_far_value_is_beyond_the_axis_and_a_limit_never_is():
    values = np.append(np.random.default_rng(0).normal(size=1000), 1e9)
    sample = Sample()
    sample.add(values)
    bins = edges(sample, Sample(), [30.0])
    assert len(bins) == histogram.BINS + 1
    assert bins[0] < -1
    assert 30 < bins[-1] < 40
    counted = Histogram(bins)
    counted.add(values)
    assert counted.kept_B.sum() + counted.beyond == len(values)
    assert counted.beyond >= 1


@pytest.mark.parametrize("value", [0.0, 25.0, -3.0])
def test_one_value_alone_has_an_axis(value):
    sample = Sample()
    sample.add(np.array([value]))
    assert edges(sample, Sample(), [])[0] < value < edges(sample, Sample(), [])[-1]


def test_a_distance_is_the_share_of_the_limit_inside_it():
    below = Threshold(Rule("small", "a", "a", "below"), 50.0)
    above = Threshold(Rule("turned", "a", "a", "above", sides=True), 40.0)
    assert below.distance(np.array([55.0, 45.0])) == pytest.approx([0.1, -0.1])
    assert above.distance(np.array([-36.0, 36.0, -44.0])) == pytest.approx([0.1, 0.1, -0.1])
    assert above.places() == [-40.0, 40.0]
    assert below.places() == [50.0]


BEYOND = {"above": 1.01, "below": 0.99}


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if "." in rule.key], ids=lambda rule: f"{rule.name} {rule.fact}"
)
def test_the_table_of_rules_says_what_extraction_does(rule):
    """A value just beyond the limit is rejected, or called silent, by that rule, to both sides where it has two."""
    group, key = rule.key.split(".")
    limits = PictureRules() if group == "picture" else SpeechRules()
    value = getattr(limits, key) * BEYOND[rule.rejects]
    for side in (1, -1) if rule.sides else (1,):
        if isinstance(limits, SpeechRules):
            assert speech_rules.why_silent({rule.fact: value}, limits) == rule.name
        else:
            said = picture_rules.verdict({rule.fact: side * value}, limits)
            assert said is not None
            assert said.rule == rule.name
    assert rule.labels == (group == "speech")
    assert rule.fact in {fact.name for fact in FACTS}


def test_every_limit_is_one_of_extractions_rules():
    assert {rule.key for rule in RULES} <= set(config.flat(config.to_dict(Rules())))


def test_limits_come_from_the_rules_and_where_they_say_nothing_from_the_ledger():
    found = {t.rule.name: t.limit for t in thresholds({"min_face_px": 48}, {"small_face": 1.0, "too_short": 2.0})}
    assert found == {"small_face": 48.0, "too_short": 2.0}
    assert thresholds({}, {}) == []
