"""What the noise of the sampler brings: a clip in one step, the mean of several seeds, and how far seeds differ."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from eval.metrics.lips import LipPair, lmd_px
from eval.metrics.metric import ONE, Metric
from eval.score_file import ONE_STEP, OURS

MEAN, SPREAD = "mean_of_seeds", "seed_spread_ratio"


def rows(seeds: int) -> dict[str, str]:
    """The added rows by definition; none for one seed."""
    if seeds == 1:
        return {}
    return {
        ONE_STEP: f"as {OURS}, in one sampler step from the same noise",
        MEAN: f"the mean motion of {seeds} seeds, of which {OURS} is the first",
    }


def metrics(seeds: int) -> dict[str, Metric]:
    """The added metric; none for one seed."""
    if seeds == 1:
        return {}
    definition = (
        f"lmd_px between two of {seeds} seeds, the mean over the pairs, divided by the mean lmd_px of the seeds: 1 "
        "where the truth could be another seed, less where the model is surer than it is right"
    )
    return {SPREAD: Metric(spread_ratio, definition, "ratio", ONE, group="seeds", rows=(OURS,))}


def spread_ratio(pairs: Sequence[LipPair]) -> float:
    """Distance between seeds over distance from the truth, see `metrics`. Each pair is of the truth and a seed."""
    between = [lmd_px(LipPair(a.result_TN, b.result_TN)) for a, b in itertools.combinations(pairs, 2)]
    return float(np.mean(between) / np.mean([lmd_px(pair) for pair in pairs]))
