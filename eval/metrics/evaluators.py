"""The evaluator models that metrics need: only those shown to be above chance on people they were not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.metrics import VIDEO_METRICS
from eval.metrics.metric import Evaluators

NOT_NAMED = "no model was named (--{0})"


def _networks() -> dict[str, Any]:
    """Evaluator -> its module."""
    from mytalk.networks import identity, syncnet

    return {"syncnet": syncnet, "identity": identity}


def refused(folders: dict[str, Path]) -> dict[str, str]:
    """Metrics omitted: model missing, or at chance. Metric -> the reason, a report's `refused`.

    `folders` holds the evaluators' folders by name. Raises UserError where one holds no such model.
    """
    from mytalk.networks import weights

    reasons = {}
    for name, network in _networks().items():
        above, words = False, NOT_NAMED.format(name)
        if name in folders:
            above, words = weights.above_chance(folders[name], name, network.MEASURED)
        if not above:
            reasons[name] = words
    return {name: reasons[m.needs] for name, m in VIDEO_METRICS.items() if m.needs in reasons}


def load(folders: dict[str, Path], refused_metrics: dict[str, str], device) -> Evaluators:
    """The evaluators that some metric uses. Raises UserError as `weights.load` does."""
    used = {metric.needs for name, metric in VIDEO_METRICS.items() if name not in refused_metrics}
    return Evaluators(
        **{name: network.load_model(folders[name], device) for name, network in _networks().items() if name in used}
    )
