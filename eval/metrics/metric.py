"""What a metric is, and what it compares: one row of a report on one clip, with the truth.

Some metrics ask of a clip what not every clip has (silences, times of bilabials). Where it lacks that, the metric alone
is without a value there, in every row, with the reason; the clip keeps its other metrics. See `Metric.conditional`.

Shape suffixes: T frames, N landmarks (478), U source frames, H height, W width, 3 = RGB, or (x, y, z) in px at 256,
S audio samples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from mytalk.face.landmarks import FRAME_HZ, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from mytalk.networks.identity import IdentityEncoder
    from mytalk.networks.reader import LipReader
    from mytalk.networks.syncnet import SyncNet
    from mytalk.speech.activity import SpeechDetector

Value = TypeVar("Value")
# Which mouth a metric compares a row with. A row that says something else has no true mouth.
TRUE_MOUTH = "true"  # the clip's, which says what the row says: same audio only
NO_MOUTH = "none"  # no mouth at all: any audio
ORIGINAL_MOUTH = "original"  # that of the video which was dubbed, to see whether it shows through: other audio only

# What a metric's best value is. `one` and `zero`: the nearest to it; `real`: the nearest to the real video's row.
LOWER, HIGHER, ONE, ZERO, REAL = "lower", "higher", "one", "zero", "real"
DIRECTIONS = {
    LOWER: "lower is better",
    HIGHER: "higher is better",
    ONE: "1 is right",
    ZERO: "0 is right",
    REAL: "as the real video's is right",
}
NOT_FINITE = "metric_not_finite"  # reason of a miss


def badness(better: str, value: float, real: float | None = None) -> float:
    """How bad a value of a metric is: the row with the least is best. `real` is the value of the real video's row.

    Raises ValueError for a direction that is none, and for `real` without that row.
    """
    if better == REAL and real is None:
        raise ValueError("without a row of the real video nothing can be compared with it")
    targets = {ONE: 1.0, ZERO: 0.0, REAL: real}
    if better in targets:
        return abs(value - targets[better])  # type: ignore[operator]
    if better not in (LOWER, HIGHER):
        raise ValueError(f"no direction '{better}'; there are: {', '.join(DIRECTIONS)}")
    return value if better == LOWER else -value


class Miss(Exception):
    """A clip that cannot be scored. `reason` is a short snake_case code."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class NotAsked(Miss):
    """A row about which a metric says nothing, whatever the clip."""


class RowFailed(Miss):
    """A clip that cannot be scored because these rows gave nothing usable.

    `usable`: rows that were tried and gave a usable result. The others were not tried to their end.
    """

    def __init__(self, reason: str, message: str, rows: list[str], usable: Iterable[str] = ()):
        super().__init__(reason, message)
        self.rows, self.usable = rows, list(usable)


@dataclass(frozen=True)
class Metric:
    """One number for one row of a clip: its function, and what a report's protocol says about it.

    `compute` gets what is compared (a Comparison, or a LipPair in `motion`) and may raise Miss. A changed definition
    or unit is another protocol: folders scored before it do not resume.
    """

    compute: Callable[[Any], float]
    definition: str
    unit: str
    better: str  # of DIRECTIONS
    needs: str | None = None  # the model or judge it is computed with, a field of Evaluators
    mouth: str = TRUE_MOUTH  # which mouth it needs: TRUE_MOUTH, NO_MOUTH or ORIGINAL_MOUTH
    group: str = ""  # the heading it stands under in tables
    conditional: bool = False  # its Miss costs the clip this metric, not all of them
    rows: tuple[str, ...] | None = None  # names of the rows of a benchmark that it says something about; None: all

    def stated(self) -> dict[str, Any]:
        """The metric's entry in a protocol."""
        rows = {} if self.rows is None else {"rows": list(self.rows)}
        group = {"group": self.group} if self.group else {}
        of_all = {"definition": self.definition, "unit": self.unit, "better": self.better, "mouth": self.mouth}
        return {**of_all, **group, **rows}

    def applies(self, cross_audio: bool) -> bool:
        """Whether it says anything of rows that say what the clip says, or (`cross_audio`) something else."""
        return self.mouth == NO_MOUTH or self.mouth == (ORIGINAL_MOUTH if cross_audio else TRUE_MOUTH)


def grouped(group: str, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """These metrics under one heading."""
    return {name: replace(metric, group=group) for name, metric in metrics.items()}


class PersonJudge(Protocol):
    """A face recogniser (data_pipeline/annotate/recogniser.py)."""

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        """The embedding of each picture's face, (K, E)."""


class PerceptionJudge(Protocol):
    """A network that sees pictures (eval/judges/perception.py)."""

    def seen(self, crops_KHW3: np.ndarray) -> Any:
        """What it sees in crops, for the other two."""

    def distances(self, one: Any, other: Any) -> np.ndarray:
        """How unlike each crop is to its counterpart, (K,)."""

    def embed(self, seen: Any) -> np.ndarray:
        """The features of each crop, (K, D)."""


class PhoneDecoder(Protocol):
    """A decoder of phones (mytalk/speech/phones.py)."""

    def bilabials_s(self, audio_S: np.ndarray) -> list[tuple[float, float]]:
        """When a p, b or m is spoken in a sound at 16 kHz: (start, stop) in s."""


class SetJudge(Protocol):
    """A network in whose features whole sets are compared (eval/judges/distances.py)."""

    def embed(self, frames_THW3: np.ndarray) -> np.ndarray:
        """The features of a clip's frames or windows, (K, D)."""


class LpipsJudge(Protocol):
    """LPIPS (eval/judges/lpips.py)."""

    def distances(self, one_KHW3: np.ndarray, other_KHW3: np.ndarray) -> np.ndarray:
        """How unlike each picture is to its counterpart, (K,)."""


class LipReadingJudge(Protocol):
    """The encoder of a lip reader (eval/judges/lip_reading.py)."""

    def embed(self, frames_THW3: np.ndarray, landmarks_TN3: np.ndarray) -> np.ndarray:
        """The features of each frame, (T, D)."""


class LipSyncJudge(Protocol):
    """The public SyncNet (eval/judges/public_syncnet.py)."""

    def score(self, frames_THW3: np.ndarray, boxes_T4: np.ndarray, audio_S: np.ndarray) -> Any:
        """`confidence`, `distance` and `offset_frames`. Raises ValueError for a clip that is too short."""


@dataclass(frozen=True)
class Evaluators:
    """Models of ours and judges of others; where one is None, the metrics that need it are omitted.

    `perception` judges `judged_frames` of a clip, evenly spread; None: all. `speech` tells where there is speech;
    without it the energy rule does (mytalk/speech/activity.py).
    """

    syncnet: SyncNet | None = None
    pixels: SyncNet | None = None
    identity: IdentityEncoder | None = None
    reader: LipReader | None = None
    person: PersonJudge | None = None
    arcface: PersonJudge | None = None
    perception: PerceptionJudge | None = None
    inception: SetJudge | None = None
    i3d: SetJudge | None = None
    lpips: LpipsJudge | None = None
    lip_reading: LipReadingJudge | None = None
    phones: PhoneDecoder | None = None
    speech: SpeechDetector | None = None
    lse: LipSyncJudge | None = None
    judged_frames: int | None = 5


@dataclass(frozen=True, eq=False)
class Truth:
    """The clip that a row is compared with: frames, landmarks, speech; and its person elsewhere.

    Without frames of the person elsewhere the clip's own show who it is. `bilabials_s`: (start, stop) in seconds from
    the clip's begin of each p, b and m of the speech, where they are known. `original_S`: the sound of the video that
    was dubbed, where the speech is not that.
    """

    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray
    audio_S: np.ndarray
    source_UN3: np.ndarray
    source_frames_UHW3: np.ndarray | None = None
    bilabials_s: tuple[tuple[float, float], ...] | None = None
    original_S: np.ndarray | None = None
    _results: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def first(self, frames: int) -> Truth:
        """The clip's first frames."""
        if frames >= len(self.landmarks_TN3):
            return self
        samples, end_s = frames * SAMPLES_PER_FRAME, frames / FRAME_HZ
        return replace(
            self,
            frames_THW3=self.frames_THW3[:frames],
            landmarks_TN3=self.landmarks_TN3[:frames],
            audio_S=self.audio_S[:samples],
            bilabials_s=None if self.bilabials_s is None else tuple(b for b in self.bilabials_s if b[1] <= end_s),
            original_S=None if self.original_S is None else self.original_S[:samples],
        )

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """`compute()`, done once under this key for all rows of the clip."""
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]


@dataclass(frozen=True)
class DetectedVideo:
    """A row's decoded video: frames, landmarks detected in them (gaps filled), and where a face was detected.

    `sound_S`: the sound it was dubbed with, where that is not the speech of the Truth.
    """

    frames_THW3: np.ndarray
    landmarks_TN3: np.ndarray
    detected_T: np.ndarray  # bool
    sound_S: np.ndarray | None = None

    def first(self, frames: int) -> DetectedVideo:
        """Its first frames."""
        return replace(
            self,
            frames_THW3=self.frames_THW3[:frames],
            landmarks_TN3=self.landmarks_TN3[:frames],
            detected_T=self.detected_T[:frames],
        )


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
