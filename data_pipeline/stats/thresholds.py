"""Which fact a rule measures and where its limit stands: what a histogram draws in, and what is nearly rejected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

SECONDS = "seconds"  # of a clip: a fact like others, though no column of the manifest
NEAR = 0.1  # a kept clip is near a limit when its value is within so much of it


class Rule(NamedTuple):
    """A rule that rejects a span whose `fact` is `below` or `above` its limit.

    `key`: the limit's name among the rules. `sides`: the fact's sign does not count. `labels`: it rejects nothing, the
    clip is kept and labelled as one whose person does not speak.
    """

    name: str
    fact: str
    key: str
    rejects: str
    sides: bool = False
    labels: bool = False


RULES = [
    Rule("too_short", SECONDS, "min_seconds", "below"),
    Rule("small_face", "face_px", "min_face_px", "below"),
    Rule("turned_away", "yaw_deg", "picture.yaw_deg", "above", sides=True),
    Rule("turned_away", "pitch_deg", "picture.pitch_deg", "above", sides=True),
    Rule("profile", "profile", "picture.profile", "above"),
    Rule("jump", "jump", "picture.jump", "above"),
    Rule("hand", "hand", "picture.hand", "above"),
    Rule("dark", "luma", "picture.dark", "below"),
    Rule("overexposed", "overexposed", "picture.overexposed", "above"),
    Rule("frozen", "frozen", "picture.frozen", "above"),
    Rule("blurred", "detail_px", "picture.blurred_px", "below"),
    Rule("overlay", "overlay", "picture.overlay", "above"),
    Rule("no_speech", "speech", "speech.min_speech", "below", labels=True),
    Rule("music", "music", "speech.max_music", "above", labels=True),
    Rule("not_speaking", "speaking", "speech.min_speaking", "below", labels=True),
]


class Threshold(NamedTuple):
    """A rule with its limit."""

    rule: Rule
    limit: float

    def places(self) -> list[float]:
        """Where it lies on the axis of its fact."""
        return [-self.limit, self.limit] if self.rule.sides and self.limit else [self.limit]

    def distance(self, values_n: np.ndarray) -> np.ndarray:
        """How far inside the limit values lie, as a share of the limit; negative for those that it rejects."""
        values_n = np.abs(values_n) if self.rule.sides else values_n
        inside_n = values_n - self.limit if self.rule.rejects == "below" else self.limit - values_n
        return inside_n / (abs(self.limit) or 1.0)


def thresholds(rules: Mapping[str, Any], seen: Mapping[str, float]) -> list[Threshold]:
    """The thresholds of an extraction, by its `rules` (None: off), else by the limits `seen` in its ledger, by rule."""
    limits = [(rule, rules.get(rule.key, seen.get(rule.name))) for rule in RULES]
    return [Threshold(rule, float(limit)) for rule, limit in limits if limit is not None]


def by_fact(thresholds: Iterable[Threshold]) -> dict[str, list[Threshold]]:
    """The thresholds of each fact."""
    facts: dict[str, list[Threshold]] = {}
    for threshold in thresholds:
        facts.setdefault(threshold.rule.fact, []).append(threshold)
    return facts
