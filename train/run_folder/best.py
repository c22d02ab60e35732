"""Which validated step is best by a named score: what `keep_best` exports, and what `patience` counts by.

A validated step has a checkpoint, whose EMA weights are those that were scored. That of the best step is kept, and
every later checkpoint names it, so a run that is killed and resumed anywhere ends with the same model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from mytalk.command import UserError
from train.config import LoopConfig
from train.recipe import BETTER, Recipe


@dataclass
class Best:
    """The score of each validated step. Empty `score`: nothing chooses, and the last weights are exported."""

    score: str = ""
    higher: bool = True
    settings: dict[str, Any] = field(default_factory=dict)  # by which it is measured
    values: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, config: LoopConfig, facts: dict[str, Any]) -> Best:
        """As the facts of a checkpoint have it; from the start where there are none, where another score chose, or the
        same was measured on other people or by other settings.

        Raises UserError where the recipe has no such score.
        """
        if not config.keep_best:
            return cls()
        better = recipe.scores.get(config.keep_best)
        if better not in BETTER:
            known = ", ".join(recipe.scores) or "none"
            raise UserError(
                f"keep_best={config.keep_best} is no score of {recipe.name} that can choose; known: {known}"
            )
        before = facts.get("best", {})
        best = cls(config.keep_best, better == "higher", {name: getattr(config, name) for name in recipe.scored_by})
        same = (before.get("score"), before.get("settings")) == (best.score, best.settings)
        for step, value in before["values"] if same else ():
            best.add(step, {} if value is None else {best.score: value})
        return best

    def add(self, step: int, scores: dict[str, float]) -> None:
        """Note a validation. A score that is missing or not finite is the worst."""
        if self.score:
            value = scores.get(self.score, math.nan)
            self.values[step] = value if math.isfinite(value) else -math.inf if self.higher else math.inf

    def forget(self, step: int) -> None:
        """The checkpoint of this step could not be written."""
        self.values.pop(step, None)

    @property
    def step(self) -> int | None:
        """The best step, the first of equals; None where none is known."""
        sign = -1 if self.higher else 1
        finite = [step for step, value in self.values.items() if math.isfinite(value)]
        return min(finite, key=lambda step: (sign * self.values[step], step), default=None)

    def exhausted(self, patience: int) -> bool:
        """Whether `patience` validations in a row were no better than the best; 0 never is."""
        best = self.step
        later = sum(best is None or step > best for step in self.values)
        return bool(patience) and later >= patience

    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of it; JSON has no infinity, None stands for it."""
        if not self.score:
            return {}
        values = [[step, value if math.isfinite(value) else None] for step, value in self.values.items()]
        return {"best": {"score": self.score, "step": self.step, "settings": self.settings, "values": values}}

    def words(self) -> str:
        """The choice in words, for the user."""
        step = self.step
        return f"none has a {self.score}" if step is None else f"{self.score} {self.values[step]:.4f} after step {step}"
