"""Metrics of a report as a whole: is each person recovered, with their own gain and lag, and how often is there a
result?

A method that gives everybody the same average mouth can correlate well with each. Whether it found the person shows
only over people: someone who opens twice as far should be written opening twice as far (slope 1), not as far as all
(0).

Computed from what `clips.jsonl` keeps of each clip (`traits`), so that a continued scoring has them. Shape suffixes:
T frames, P people, S audio samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.metrics import lips
from eval.metrics.landmarks.speech import envelope_db
from eval.metrics.lips import STILL_PX
from eval.metrics.metric import HIGHER, NO_MOUTH, ONE, TRUE_MOUTH, Comparison, Miss
from mytalk import intervals
from mytalk.face.landmarks import FRAME_HZ

TRUTH = "truth"  # the key of its traits
REACH_FRAMES = 8  # a lag is looked for this far on either side: 0.32 s
LEAST_CORRELATION = 0.2  # of opening and loudness at the best lag; below it a true mouth tells no lag
LEAST_PEOPLE = 5
LEAST_SPREAD = {"log_amplitude": 0.05, "lag_s": 0.005}  # standard deviation over people: there must be differences
DRAWS, SEED = 2000, 0  # of the bootstrap
FEW_PEOPLE, ALIKE, NOBODY = "few_people", "people_alike", "nobody"  # reasons of a miss


@dataclass(frozen=True)
class PersonClip:
    """One clip and one row: traits of the true mouth and of the row's, and whether the row gave a usable result.

    `usable` is None where the row was not tried: what was given to it was damaged or not enough.
    """

    person: str
    truth: dict[str, float] = field(default_factory=dict)
    row: dict[str, float] = field(default_factory=dict)
    usable: bool | None = True


@dataclass(frozen=True)
class PeopleMetric:
    """One number for one row over all clips: an entry of the report. `compute` gets the clips and how many people a
    report has, and raises Miss.
    """

    compute: Callable[[Sequence[PersonClip], int], dict[str, Any]]
    definition: str
    unit: str
    better: str
    group: str = "people"
    mouth: str = TRUE_MOUTH

    def stated(self) -> dict[str, Any]:
        """The metric's entry in a protocol."""
        return {
            "definition": self.definition,
            "unit": self.unit,
            "better": self.better,
            "mouth": self.mouth,
            "group": self.group,
            "over": "people",
        }


def of_rows(rows: Mapping[str, Comparison]) -> dict[str, dict[str, float]]:
    """What is kept of a clip: the traits of the truth (TRUTH) and of each row with the sound it was made with.

    Rows may be shorter than the clip; the truth's traits are of the longest.
    """
    kept, longest = dict[str, dict[str, float]](), 0
    for name, row in rows.items():
        true_T, row_T = row.once(lips.all_frames).openings()
        own_S = row.truth.audio_S
        if len(true_T) > longest:
            longest, kept[TRUTH] = len(true_T), traits(true_T, own_S)
        kept[name] = traits(row_T, own_S if row.video.sound_S is None else row.video.sound_S)
    return kept


def traits(opening_T: np.ndarray, sound_S: np.ndarray) -> dict[str, float]:
    """What is kept of a mouth's opening (px) and the sound it belongs to: `log_amplitude`, `lag_s`, `lag_correlation`.

    The amplitude is the standard deviation, at least 0.125 px. The lag is by how much the opening follows the loudness:
    at the peak of their cross-correlation, between frames by a parabola; 0 where either does not move.
    """
    opening_T = np.asarray(opening_T, np.float64)
    lag_s, peak = lag(opening_T, envelope_db(sound_S, len(opening_T)))
    amplitude = max(float(opening_T.std()), STILL_PX)
    return {"log_amplitude": float(np.log(amplitude)), "lag_s": lag_s, "lag_correlation": peak}


def lag(opening_T: np.ndarray, loudness_T: np.ndarray) -> tuple[float, float]:
    """Seconds by which the first follows the second, and their correlation there; (0, 0) where one is constant."""
    by_shift = np.array(
        [_shifted_correlation(opening_T, loudness_T, shift) for shift in range(-REACH_FRAMES, REACH_FRAMES + 1)]
    )
    best = int(by_shift.argmax())
    peak, between = float(by_shift[best]), 0.0
    if peak <= 0:
        return 0.0, 0.0
    if 0 < best < len(by_shift) - 1:
        before, after = by_shift[best - 1], by_shift[best + 1]
        bend = before - 2 * peak + after
        between = 0.5 * float((before - after) / bend) if bend < 0 else 0.0
    return (best - REACH_FRAMES + between) / FRAME_HZ, peak


def _shifted_correlation(late_T: np.ndarray, early_T: np.ndarray, shift: int) -> float:
    """Correlation of `late_T` at t + shift with `early_T` at t, over the frames that both have; 0 where one is
    constant.
    """
    late, early = late_T[max(shift, 0) :], early_T[max(-shift, 0) :]
    shared = min(len(late), len(early))
    if shared < 2:
        return 0.0
    late, early = late[:shared] - late[:shared].mean(), early[:shared] - early[:shared].mean()
    size = float(np.linalg.norm(late) * np.linalg.norm(early))
    return float(late @ early) / size if size > 1e-9 else 0.0


def slope(true_P: np.ndarray, written_P: np.ndarray) -> np.ndarray:
    """Least squares slope of written on true over the last axis, (..., P) -> (...). The true ones must differ."""
    centred = true_P - true_P.mean(-1, keepdims=True)
    return (centred * written_P).sum(-1) / np.square(centred).sum(-1)


def slope_over_people(trait: str, clips: Sequence[PersonClip], total: int) -> dict[str, Any]:
    """The slope of a row's trait on the true one over people's means: an entry, its ci95 by bootstrap over people.

    Clips whose true mouth does not tell the trait are left out. Raises Miss for fewer than five people, and for people
    who do not differ.
    """
    told = [clip for clip in clips if _told(trait, clip)]
    means = [
        intervals.person_means((clip.person, side[trait]) for clip, side in ((c, getattr(c, name)) for c in told))
        for name in ("truth", "row")
    ]
    true_P, written_P = (np.array(list(of_people.values())) for of_people in means)
    if len(true_P) < LEAST_PEOPLE:
        raise Miss(FEW_PEOPLE, f"{len(true_P)} people whose true mouth tells it; a slope needs {LEAST_PEOPLE}")
    if true_P.std() < LEAST_SPREAD[trait]:
        raise Miss(ALIKE, f"people's {trait} varies by less than {LEAST_SPREAD[trait]:g}")
    chosen_DP = np.random.default_rng(SEED).integers(len(true_P), size=(DRAWS, len(true_P)))
    chosen_DP = chosen_DP[true_P[chosen_DP].std(axis=1) > LEAST_SPREAD[trait] / 10]  # not one person alone
    drawn = slope(true_P[chosen_DP], written_P[chosen_DP])
    low, high = np.quantile(drawn, [(1 - intervals.CONFIDENCE) / 2, (1 + intervals.CONFIDENCE) / 2])
    return {
        "mean": float(slope(true_P, written_P)),
        "ci95": [float(low), float(high)],
        "n": len(true_P),
        "total": total,
        "clips": len(told),
    }


def _told(trait: str, clip: PersonClip) -> bool:
    if trait not in clip.truth or trait not in clip.row:
        return False
    return trait != "lag_s" or clip.truth.get("lag_correlation", 0.0) >= LEAST_CORRELATION


def success_rate(clips: Sequence[PersonClip], total: int) -> dict[str, Any]:
    """Share of the clips that were tried on which the row gave a usable result: an entry. Raises Miss without any."""
    tried = [(clip.person, float(clip.usable)) for clip in clips if clip.usable is not None]
    if not tried:
        raise Miss(NOBODY, "no clip was tried")
    return intervals.over_people(tried, total)


_SLOPE = (
    f"{{0}} over people (each the mean of their clips), by least squares; 1: each person's own, 0: the same for "
    f"everybody; ci95 by bootstrap over people ({DRAWS} draws, percentiles)"
)
METRICS = {
    "gain_recovered": PeopleMetric(
        lambda clips, total: slope_over_people("log_amplitude", clips, total),
        _SLOPE.format("slope of the log of the row's opening amplitude (standard deviation) on that of the true one"),
        "1: as the person",
        ONE,
    ),
    "lag_recovered": PeopleMetric(
        lambda clips, total: slope_over_people("lag_s", clips, total),
        _SLOPE.format(
            "slope of the row's lag behind the sound's loudness (peak of the cross-correlation, up to 0.32 s) on the "
            f"true one; clips whose true mouth correlates with the loudness by less than {LEAST_CORRELATION:g} are "
            "left out;"
        ),
        "1: as the person",
        ONE,
    ),
    "success_rate": PeopleMetric(
        success_rate,
        "clips for which the row gave a usable result, of all that were tried; a crash, a missing face and a wrong "
        "length are failures of the row that has them, what was wrong with the clip itself is not tried",
        "0 to 1",
        HIGHER,
        group="detection",
        mouth=NO_MOUTH,
    ),
}
