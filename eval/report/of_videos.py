"""The report of scored videos, as `benchmark` and `score` write it: its page, and last the report itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from eval.report import build, check, page
from eval.rows import features
from eval.score_file import ClipScore
from eval.tasks import Task


def write(
    out: Path,
    provenance: dict[str, Any],
    tasks: Sequence[Task],
    scores: dict[str, ClipScore],
    environment: Mapping[str, str],
    refused: Mapping[str, str],
    no_judge: Mapping[str, str],
    ridge_facts: dict[str, Any] | None = None,
) -> None:
    """Write report.json and report.html of all `tasks` from their `scores` by key.

    `refused`: metric -> why it is left out; `no_judge`: judge -> what it lacks. Raises UserError where every clip is a
    miss, OSError.
    """
    protocol = provenance["protocol"]
    left_out = features.left_out(no_judge) or "none"
    environment = {**environment, "date": datetime.now(timezone.utc).date().isoformat(), "sets_left_out": left_out}
    scored = [key for key, clip in scores.items() if clip.reason is None]
    sets = features.distances(out, scored, protocol["methods"], no_judge)
    refused = {name: why for name, why in refused.items() if name in protocol["metrics"]}
    report = build.build(provenance, tasks, scores, environment, refused, ridge_facts, sets)
    check.check(report)
    page.write(out, report, list(scores.values()))
    check.write(out, report)  # last: a folder that has it is complete
