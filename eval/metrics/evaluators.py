"""What metrics look at a row with: models of ours that are above chance on people they were not trained on, and judges.

The judges of others come from eval/judges, which no metric imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.metrics import VIDEO_METRICS
from eval.metrics.metric import Evaluators

NOT_NAMED = "no model was named (--{0})"


def _networks() -> dict[str, Any]:
    """Evaluator -> its module."""
    from mytalk.networks import identity, reader, syncnet

    return {"syncnet": syncnet, "pixels": syncnet, "identity": identity, "reader": reader}


def _sees(name: str) -> dict[str, str]:
    """What tells two evaluators of one module apart, as `load_model` takes it."""
    return {"sees": name} if name == "pixels" else {}


def refused(folders: dict[str, Path], no_judge: Mapping[str, str]) -> dict[str, str]:
    """Metrics omitted: model missing or at chance, or judge missing. Metric -> the reason, a report's `refused`.

    `folders` holds the evaluators' folders by name, `no_judge` why a judge is not there. Raises UserError where a
    folder holds no such model.
    """
    from mytalk.networks import syncnet, weights

    reasons = dict(no_judge)
    for name, network in _networks().items():
        above, words = False, NOT_NAMED.format(name)
        if name in folders:
            kind = network.__name__.rpartition(".")[2]
            above, words = weights.above_chance(folders[name], kind, network.MEASURED)
            if network is syncnet:
                syncnet.refuse_other(folders[name], **_sees(name))
        if not above:
            reasons[name] = words
    return {name: reasons[m.needs] for name, m in VIDEO_METRICS.items() if m.needs in reasons}


def load(
    folders: dict[str, Path],
    refused_metrics: dict[str, str],
    device,
    judges: Mapping[str, Any],
    judged_frames: int | None,
) -> Evaluators:
    """The evaluators that some metric uses, and the judges. Raises UserError as `weights.load` does."""
    used = {metric.needs for name, metric in VIDEO_METRICS.items() if name not in refused_metrics}
    models = {
        name: network.load_model(folders[name], device, **_sees(name))
        for name, network in _networks().items()
        if name in used
    }
    return Evaluators(**models, **judges, judged_frames=judged_frames)
