"""Dealing slots to corpora: how many slots of a period each corpus gets, and which ones.

A period is the least number of slots that gives every corpus its exact share; then the same deal repeats. At any slot
the number of slots that a corpus has had differs from its share by less than one.
"""

from __future__ import annotations

import difflib
import heapq
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np

from mytalk.command import UserError

MOST = 65536  # slots of the longest period, and corpora


def shares(clips: Mapping[str, int], repeats: Mapping[str, float]) -> tuple[list[str], np.ndarray, int]:
    """Corpora (sorted), the slots of a period that each gets (int64), and the length of a period in slots.

    Slots are in proportion to clips x repeats. `repeats` are 1 by default, and decimal: 0.1 is a tenth. A corpus with 0
    repeats or without clips is left out. The shares are exact if a period of at most MOST slots can give them;
    otherwise the period has MOST slots, rounded by largest remainder (Hamilton), at least 1 for each corpus. Raises
    UserError for repeats of an unknown corpus, for negative or non-finite ones, and where no corpus is left.
    """
    weights = {name: _repeats(name, repeats.get(name, 1)) * clips[name] for name in sorted(clips)}
    refuse_unknown_corpora(repeats, clips)
    weights = {name: weight for name, weight in weights.items() if weight}
    if not weights:
        raise UserError("no corpus has both clips and repeats above 0; give at least one of them repeats")
    if len(weights) > MOST:
        raise UserError(f"{len(weights)} corpora are more than {MOST}; merge some")
    common = math.lcm(*(weight.denominator for weight in weights.values()))
    whole = [int(weight * common) for weight in weights.values()]
    slots = [weight // math.gcd(*whole) for weight in whole]
    if sum(slots) > MOST:
        slots = _rounded(slots)
    return list(weights), np.array(slots, np.int64), sum(slots)


def refuse_unknown_corpora(repeats: Mapping[str, float], known: Iterable[str]) -> None:
    """Raises UserError, with the nearest name, for repeats of an unknown corpus."""
    known = sorted(known)
    for name in repeats:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known) or 'none'}"
            raise UserError(f"repeats of an unknown corpus '{name}'; {hint}")


def _repeats(name: str, value: float) -> Fraction:
    """Repeats as an exact decimal. Raises UserError."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise UserError(f"repeats of corpus '{name}' are {value!r}; give a number, 0 or above")
    return Fraction(repr(float(value))) if isinstance(value, float) else Fraction(value)


def _rounded(weights: list[int]) -> list[int]:
    """Weights as slots of a period of MOST. Corpora with less than one slot get one; Hamilton's method for the rest."""
    slots = [0] * len(weights)
    while True:
        rest = [i for i, count in enumerate(slots) if not count]
        left, total = MOST - sum(slots), sum(weights[i] for i in rest)
        small = [i for i in rest if weights[i] * left < total]
        if not small:
            break
        for i in small:
            slots[i] = 1
    for i in rest:
        slots[i] = weights[i] * left // total
    by_remainder = sorted(rest, key=lambda i: -(weights[i] * left % total))
    for i in by_remainder[: MOST - sum(slots)]:
        slots[i] += 1
    return slots


class Deal:
    """Slot -> its corpus, and the number of earlier slots of that corpus. Every slot costs the same."""

    def __init__(self, slots: np.ndarray):
        """`slots` of a period for each corpus, 1 or more, as `shares` gives them."""
        self.slots = [int(count) for count in slots]
        self.period = sum(self.slots)
        assert min(self.slots) > 0, "a corpus without slots is left out"
        self._table = _table(self.slots) if len(self.slots) > 1 else None

    def __call__(self, slot: int) -> tuple[int, int]:
        """(index of the corpus, number of its earlier slots)."""
        assert slot >= 0
        if self._table is None:
            return 0, slot
        periods, place = divmod(slot, self.period)
        corpus_of, before = self._table
        corpus = int(corpus_of[place])
        return corpus, periods * self.slots[corpus] + int(before[place])


def _table(slots: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Corpus of each slot of a period (uint16), and the number of earlier slots of that corpus (int32).

    After any n slots every corpus has had floor or ceil of n x share, so less than one slot too few or too many: the
    chairman assignment problem (Tijdeman 1980, Discrete Mathematics 32). The j-th slot of a corpus (from 0) with w
    slots of a period P must not come before slot floor(j P / w), nor after slot ceil((j + 1) P / w) - 1; among those
    that may come, the earliest deadline goes first. Such an order exists: give every corpus w / P of each slot, and
    its j-th unit lies within these bounds; a fractional matching of slots to units that fills all implies a whole
    one (Steiner and Yeomans 1993, Management Science 39), and for units of one slot earliest deadline first finds it.
    """
    period = sum(slots)
    corpus_of, before = np.empty(period, np.uint16), np.empty(period, np.int32)
    dealt = [0] * len(slots)  # to each corpus so far
    waiting = [(0, corpus) for corpus in range(len(slots))]  # (first slot of the next unit, corpus)
    ready: list[tuple[int, int]] = []  # (deadline of the next unit, corpus)
    for slot in range(period):
        while waiting and waiting[0][0] <= slot:
            corpus = heapq.heappop(waiting)[1]
            heapq.heappush(ready, (-(-(dealt[corpus] + 1) * period // slots[corpus]), corpus))
        deadline, corpus = heapq.heappop(ready)
        assert slot < deadline, "the order exists"
        corpus_of[slot], before[slot] = corpus, dealt[corpus]
        dealt[corpus] += 1
        if dealt[corpus] < slots[corpus]:
            heapq.heappush(waiting, (dealt[corpus] * period // slots[corpus], corpus))
    return corpus_of, before
