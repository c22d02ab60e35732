"""What is scored with what: a pure function of the manifest, the split and the seed, made before any work.

A clip's choices are drawn from (seed, its key), so that neither the order of the work nor the number of
processes, nor how many other clips are scored, changes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError

MIN_SCORED_FRAMES = 25  # 1 s: a person's only clip must have this much left after its source window
PICTURED_PEOPLE = 4
SOURCE, SPEECH, NOISE, CHOICE = "source", "speech", "noise", "choice"


class Task(Protocol):
    """One clip to score, of whatever kind: the key of its score, and the person who is counted."""

    @property
    def key(self) -> str: ...

    @property
    def person(self) -> str: ...


@dataclass(frozen=True)
class Settings:
    """What a user chooses; all of it is in the protocol."""

    split: str = "unseen"
    sampler_steps: int = 30
    seed: int = 0
    source_frames: int = 75  # of 25 Hz; how much of the person the model sees
    clips_per_person: int | None = None  # None: all
    frames: int | None = None  # of each clip at most, its first; None: all
    guidance: float = 1.0  # of the speech
    person_guidance: float = 1.0
    precision: str = "fp32"  # of the painter

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < MIN_SCORED_FRAMES:
            raise UserError(f"--frames {self.frames} is too short to measure; it must be {MIN_SCORED_FRAMES} or more")

    def stated(self) -> dict[str, Any]:
        """For a protocol: whole clips without `frames`; guidances and `precision` are named where they are set."""
        silent = {"frames": None, "guidance": 1.0, "person_guidance": 1.0, "precision": "fp32"}
        return {name: value for name, value in asdict(self).items() if name not in silent or value != silent[name]}


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) of a manifest row."""

    row: int
    start: int
    stop: int


@dataclass(frozen=True)
class ScoringTask:
    """One clip to score. `source` is another window of the person; None where the person has none to give."""

    key: str
    person: str
    scored: Window
    source: Window | None
    pictured: bool  # its opening curves are kept for the picture


def plan_tasks(manifest: Manifest, settings: Settings) -> list[ScoringTask]:
    """The clips with sound, person by person. Raises UserError for a split that is unknown or has none."""
    keys = manifest.column("key")
    tasks: list[ScoringTask] = []
    for number, (person, rows) in enumerate(manifest.rows_of_people(settings.split, with_speech=True).items()):
        chosen = rows
        if settings.clips_per_person is not None and len(rows) > settings.clips_per_person:
            random = generator(settings.seed, person, CHOICE)
            chosen = sorted(random.choice(rows, settings.clips_per_person, replace=False).tolist())
        for place, row in enumerate(chosen):
            scored, source = _windows(manifest, row, rows, settings)
            if settings.frames is not None:
                scored = replace(scored, stop=min(scored.stop, scored.start + settings.frames))
            pictured = number < PICTURED_PEOPLE and place == 0
            tasks.append(ScoringTask(str(keys[row]), person, scored, source, pictured))
    return tasks


def other_speech(manifest: Manifest, settings: Settings, task: ScoringTask) -> Iterator[int]:
    """Rows whose speech may stand in for the clip's, in order of preference: other people's, then the person's own.

    Never the clip itself. The caller checks that the audio differs.
    """
    rows = generator(settings.seed, task.key, SPEECH).permutation(manifest.rows(settings.split, with_speech=True))
    own = manifest.column("identity")[rows] == task.person
    yield from rows[~own].tolist()
    yield from (row for row in rows[own].tolist() if row != task.scored.row)


def noise_seed(settings: Settings, key: str) -> int:
    """Seed of a clip's start noise; both generations of the clip start from it."""
    return noise_seeds(settings, key, 1)[0]


def noise_seeds(settings: Settings, key: str, count: int) -> list[int]:
    """Several seeds of a clip, `noise_seed` first."""
    random = generator(settings.seed, key, NOISE)
    return [int(random.integers(2**63)) for _ in range(count)]


def generator(seed: int, key: str, purpose: str) -> np.random.Generator:
    """Random numbers that belong to a seed, a key and a purpose."""
    name = hashlib.blake2b(f"{seed}:{purpose}:{key}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(name, "big"))


def _windows(manifest: Manifest, row: int, rows: list[int], settings: Settings) -> tuple[Window, Window | None]:
    """What of a clip is scored, and where its person is seen: in another clip, so that no truth is shown.

    A person's only clip gives its beginning as source, and what follows is scored.
    """
    frames = manifest.column("frames")
    count = int(frames[row])
    random = generator(settings.seed, str(manifest.column("key")[row]), SOURCE)
    others = [other for other in rows if other != row]
    if others:
        other = others[int(random.integers(len(others)))]
        length = min(settings.source_frames, int(frames[other]))
        start = int(random.integers(int(frames[other]) - length + 1))
        return Window(row, 0, count), Window(other, start, start + length)
    if count - settings.source_frames >= MIN_SCORED_FRAMES:
        return Window(row, settings.source_frames, count), Window(row, 0, settings.source_frames)
    return Window(row, 0, count), None
