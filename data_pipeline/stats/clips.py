"""What the manifest tells of the kept clips: totals of each corpus, labels of speech, people.

Shape suffixes: n clips, P people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.shards.layout import SPEAKS
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import FRAME_HZ

ALL = "all"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Totals:
    """Of one corpus, or of all."""

    corpus: str
    clips: int
    hours: float
    people: int
    sources: int


class Person(NamedTuple):
    """A person with the number and length of their clips; `row` is their longest clip."""

    name: str
    clips: int
    seconds: float
    row: int


def totals(manifest: Manifest) -> list[Totals]:
    """Of each corpus in order of appearance, then of all where there are several, or none."""
    if not len(manifest):
        return [Totals(ALL, 0, 0.0, 0, 0)]
    codes_n, corpora = manifest.codes("corpus")
    frames_n = manifest.column("frames")
    counted = [_totals(manifest, name, codes_n == code, frames_n) for code, name in enumerate(corpora)]
    everything = _totals(manifest, ALL, np.ones(len(manifest), bool), frames_n)
    return counted if len(counted) == 1 else [*counted, everything]


def _totals(manifest: Manifest, name: str, mine_n: np.ndarray, frames_n: np.ndarray) -> Totals:
    hours = float(frames_n[mine_n].sum(dtype=np.int64)) / FRAME_HZ / 3600
    people = len(np.unique(manifest.codes("identity")[0][mine_n]))
    return Totals(name, int(mine_n.sum()), hours, people, _sources(manifest, mine_n))


def _sources(manifest: Manifest, mine_n: np.ndarray) -> int:
    """How many sources some clips are from: a name may be that of another source in another corpus."""
    if not manifest.has("source"):
        return 0
    (source_n, _), (corpus_n, corpora) = manifest.codes("source"), manifest.codes("corpus")
    return len(np.unique(source_n[mine_n].astype(np.int64) * len(corpora) + corpus_n[mine_n]))


def labels(manifest: Manifest) -> Counter[str]:
    """Clips by label of speech: `speaks`, the rule that says no, or `unknown`."""
    counted = Counter(manifest.silent_by_reason(np.arange(len(manifest))))
    if manifest.has(SPEAKS):
        counted[SPEAKS] = sum(row["count_all"] for row in _counts(manifest, [SPEAKS]) if row[SPEAKS])
    counted[UNKNOWN] = len(manifest) - counted.total()
    return +counted


def _counts(manifest: Manifest, names: list[str]) -> Iterator[dict[str, Any]]:
    """How many clips (`count_all`) have each combination of values of these columns, some clips at a time."""
    for batch in manifest.batches(names):
        yield from batch.group_by(names).aggregate([([], "count_all")]).to_pylist()


@dataclass(frozen=True)
class People:
    """Clips and frames of each person, by number."""

    manifest: Manifest
    clips_P: np.ndarray
    frames_P: np.ndarray

    @classmethod
    def of(cls, manifest: Manifest) -> People:
        """The people of a manifest."""
        if not len(manifest):
            return cls(manifest, np.zeros(0, np.int64), np.zeros(0))
        person_n, names = manifest.codes("identity")
        clips_P = np.bincount(person_n, minlength=len(names))
        return cls(manifest, clips_P, np.bincount(person_n, manifest.column("frames"), minlength=len(names)))

    def __len__(self) -> int:
        return len(self.clips_P)

    def largest(self, most: int) -> Iterator[Person]:
        """Those who are seen longest first."""
        for number in np.argsort(-self.frames_P, kind="stable")[:most].tolist():
            yield self._person(number)

    def with_one_clip(self) -> list[str]:
        """Names of people with a single clip."""
        names = self.manifest.codes("identity")[1] if len(self) else []
        return [names[number] for number in np.flatnonzero(self.clips_P == 1).tolist()]

    def _person(self, number: int) -> Person:
        person_n, names = self.manifest.codes("identity")
        rows = np.flatnonzero(person_n == number)
        longest = int(rows[self.manifest.column("frames")[rows].argmax()])
        seconds = float(self.frames_P[number]) / FRAME_HZ
        return Person(names[number], int(self.clips_P[number]), seconds, longest)
