"""What a metric is, and what it compares: one row of a report on one clip, with the truth.

Shape suffixes: T frames, N landmarks (478), U source frames, H height, W width, 3 = RGB, or (x, y, z) in px at 256,
S audio samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from mytalk.networks.identity import IdentityEncoder
    from mytalk.networks.syncnet import SyncNet

Value = TypeVar("Value")
# Which mouth a metric compares a row with. A row that says something else has no true mouth.
TRUE_MOUTH = "true"  # the clip's, which says what the row says: same audio only
NO_MOUTH = "none"  # no mouth at all: any audio
ORIGINAL_MOUTH = "original"  # that of the video which was dubbed, to see whether it shows through: other audio only


class Miss(Exception):
    """A clip that cannot be scored. `reason` is a short snake_case code."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Metric:
    """One number for one row of a clip: its function, and what a report's protocol says about it.

    `compute` gets what is compared (a Comparison, or a LipPair in `motion`) and may raise Miss. A changed definition
    or unit is another protocol: folders scored before it do not resume.
    """

    compute: Callable[[Any], float]
    definition: str
    unit: str
    better: str  # lower, higher
    needs: str | None = None  # the evaluator model it is computed with, a field of Evaluators
    mouth: str = TRUE_MOUTH  # which mouth it needs: TRUE_MOUTH, NO_MOUTH or ORIGINAL_MOUTH

    def stated(self) -> dict[str, str]:
        """The metric's entry in a protocol."""
        return {"definition": self.definition, "unit": self.unit, "better": self.better, "mouth": self.mouth}

    def applies(self, cross_audio: bool) -> bool:
        """Whether it says anything of rows that say what the clip says, or (`cross_audio`) something else."""
        return self.mouth == NO_MOUTH or self.mouth == (ORIGINAL_MOUTH if cross_audio else TRUE_MOUTH)


@dataclass(frozen=True)
class Evaluators:
    """The trained evaluator models; where one is None, the metrics that need it are omitted."""

    syncnet: SyncNet | None = None
    identity: IdentityEncoder | None = None


@dataclass(frozen=True)
class Truth:
    """The clip that a row is compared with: frames, landmarks, speech; and landmarks of its person elsewhere."""

    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray
    audio_S: np.ndarray
    source_UN3: np.ndarray


@dataclass(frozen=True)
class DetectedVideo:
    """A row's decoded video: frames, landmarks detected in them (gaps filled), and where a face was detected."""

    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray
    detected_T: np.ndarray  # bool


@dataclass(frozen=True, eq=False)
class Comparison:
    """One row of one clip, what it is compared with, and the evaluators that may look at it."""

    truth: Truth
    video: DetectedVideo
    evaluators: Evaluators = field(default_factory=Evaluators)
    _results: dict[Callable, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, function: Callable[[Comparison], Value]) -> Value:
        """`function(self)`, computed once for all the metrics that share it."""
        if function not in self._results:
            self._results[function] = function(self)
        return self._results[function]
