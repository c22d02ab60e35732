"""Rules by what a span's pictures show: each compares a fact with a threshold, in a fixed order.

Where the thresholds come from is in docs/log.md (2026-11-26).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class PictureRules:
    """The thresholds, in the order in which the rules judge; None switches a rule off. Facts: shards/facts.py."""

    yaw_deg: float | None = 40.0  # most turn of the head, median over the span, to either side
    pitch_deg: float | None = 30.0  # most nod, likewise
    profile: float | None = 0.2  # most share of frames in which the head is turned by more than 50 degrees
    jump: float | None = 0.4  # longest step of the face from frame to frame, in its sides
    hand: float | None = 0.12  # most share of frames in which a hand covers the mouth
    dark: float | None = 25.0  # least median grey of the face
    overexposed: float | None = 0.2  # most share of the face that is clipped
    frozen: float | None = 0.5  # most share of frames that stand still
    blurred_px: float | None = 40.0  # least side, in px, of a face as sharp as this one
    overlay: float | None = 0.18  # most share of the mouth's surroundings with edges that stay, as of text

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise ValueError(f"{field.name} must be a number of at least 0, or none, not {limit}")


class Verdict(NamedTuple):
    """The rule that rejects a span, what was measured, and the rule's limit."""

    rule: str
    value: float
    limit: float


def verdict(facts: Mapping[str, Any], rules: PictureRules) -> Verdict | None:
    """The first rule that rejects a span with these facts, None if all keep it.

    A value at its limit is kept. A fact that is missing, None or NaN rejects nothing.
    """
    for rule, fact, least, most in [
        ("turned_away", "yaw_deg", _below(rules.yaw_deg), rules.yaw_deg),
        ("turned_away", "pitch_deg", _below(rules.pitch_deg), rules.pitch_deg),
        ("profile", "profile", None, rules.profile),
        ("jump", "jump", None, rules.jump),
        ("hand", "hand", None, rules.hand),
        ("dark", "luma", rules.dark, None),
        ("overexposed", "overexposed", None, rules.overexposed),
        ("frozen", "frozen", None, rules.frozen),
        ("blurred", "detail_px", rules.blurred_px, None),
        ("overlay", "overlay", None, rules.overlay),
    ]:
        value = facts.get(fact)
        if value is None:
            continue
        if least is not None and value < least:
            return Verdict(rule, float(value), least)
        if most is not None and value > most:
            return Verdict(rule, float(value), most)
    return None


def _below(limit_deg: float | None) -> float | None:
    """The same limit to the other side."""
    return None if limit_deg is None else -limit_deg
