"""Motion examples against the stock webdataset pipeline, and against bare reads of the same bytes."""

from __future__ import annotations

import argparse
import io
import itertools
import os
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Row
from benchmarks.stream.turns import MICRO_BATCH, SLOTS, Contestant, Known, as_points, assert_same, row_of, take_turns
from data_pipeline.examples.motion import MotionExamples
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, Window, WindowConfig, draw
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import FRAME_HZ, SAMPLES_PER_FRAME

WINDOW = WindowConfig(min_frames=50, max_frames=50, source_frames=75)
SHUFFLED = 64  # samples that the stock pipeline holds to shuffle them


def rows(manifest: Manifest, args: argparse.Namespace) -> list[Row]:
    """Motion examples against the stock pipeline and against the floor."""
    ours = MotionExamples(manifest, SamplingConfig(), WINDOW)
    stock, floor = StockMotion(manifest), BareMotion(manifest)
    numbers = list(range(MICRO_BATCH))
    assert_same(ours(numbers), stock.of_places(numbers, [ours.windows.example(slot) for slot in numbers]))
    assert_same(ours(numbers), floor(numbers))

    def read(numbers: list[int]) -> list[Any]:
        return ours.read(numbers, [ours.windows.example(slot) for slot in numbers])

    of = [Contestant(make) for make in (ours, stock, floor, read, stock.read)]
    take_turns(of, args, "motion")
    floor.known.close()
    clip = f"clips of {ours.lengths.mean() / FRAME_HZ:.0f} s"
    return [
        row_of(f"motion examples a second / stock webdataset, {clip}", of[0], of[1], 4),
        row_of(f"only what is read for them, no noise, no padding, {clip}", of[3], of[4], 4),
        row_of(f"motion examples a second / floor of bare reads, {clip}", of[0], of[2], 0.85),
    ]


class BareMotion(MotionExamples):
    """The floor: bare reads of the bytes that the examples hold, and the same tensors made of them."""

    def __init__(self, manifest: Manifest):
        super().__init__(manifest, SamplingConfig(), WINDOW)
        self.known = Known(self, range(SLOTS + MICRO_BATCH))

    def named(self, numbers: list[int], examples: Any) -> dict[str, Any]:
        return self.known.tell(numbers)

    def __call__(self, numbers: list[int]) -> Any:
        read = []
        for slot in numbers:
            points, speech, source, source_speech = (os.pread(*place) for place in self.known.places[slot])
            spoken = np.frombuffer(speech, "<i2"), np.frombuffer(source_speech, "<i2")
            read.append([as_points(points), spoken[0], as_points(source), spoken[1]])
        return self.collate(numbers, [self.known.examples[slot] for slot in numbers], read)


class StockMotion:
    """The stock pipeline: webdataset streams the tars, decodes every clip whole, and a window is cut from it.

    For its benefit: every person's last clips stay in memory, so that a source costs no read, and there is one from
    the first example on; the facts of a clip are the manifest's, the tensors are made by the same code.
    """

    def __init__(self, manifest: Manifest):
        import webdataset

        self.by_key = {str(manifest.at(row, "key")): row for row in range(len(manifest))}
        self.examples = MotionExamples(manifest, SamplingConfig(), WINDOW)
        urls = [str(manifest.shard_path("motion", shard)) for shard in range(manifest.shards_until)]
        decoders = [webdataset.handle_extension("npy", npy), webdataset.handle_extension("wav", wav)]
        self.once = webdataset.WebDataset(urls, shardshuffle=False).decode(*decoders)
        shuffled = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(SHUFFLED, seed=0)
        self.stream: Iterator[dict[str, Any]] = iter(shuffled.decode(*decoders).repeat())
        self.held: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        for sample in self.once:
            self.keep(sample)

    def keep(self, sample: dict[str, Any]) -> tuple[int, np.ndarray, np.ndarray]:
        """A decoded clip (its row, landmarks, audio), held as its person's last; two are held."""
        clip = self.by_key[sample["__key__"]], sample["landmarks.npy"], sample["audio.wav"]
        before = self.held.get(sample["facts.json"]["identity"], [])
        self.held[sample["facts.json"]["identity"]] = [clip, *(one for one in before if one[0] != clip[0])][:2]
        return clip

    def __call__(self, numbers: list[int]) -> Any:
        return self.examples.collate(numbers, *self.read(numbers))

    def read(self, numbers: list[int]) -> tuple[list[Example], list[Any]]:
        """The next clips' windows and sources, and what `collate` needs of them."""
        examples, read = [], []
        for slot, sample in zip(numbers, itertools.islice(self.stream, len(numbers))):
            row, points, speech = self.keep(sample)
            other = self.held[sample["facts.json"]["identity"]][-1]
            random = self.examples.windows.random(slot, Purpose.WINDOW)
            place = Window(row, *draw(random, len(points), WINDOW.min_frames, WINDOW.max_frames))
            random = self.examples.windows.random(slot, Purpose.SOURCE)
            source = Window(other[0], *draw(random, len(other[1]), WINDOW.source_frames, WINDOW.source_frames))
            examples.append(Example(place, source))
            read.append([*cut(points, speech, place), *cut(other[1], other[2], source)])
        return examples, read

    def of_places(self, numbers: list[int], examples: list[Example]) -> Any:
        """The batch of given examples, from clips decoded as ever: what is held against ours."""
        wanted = {place.row for example in examples for place in example if place is not None}
        decoded = {}
        for sample in self.once:
            row = self.by_key[sample["__key__"]]
            if row in wanted:
                decoded[row] = sample["landmarks.npy"], sample["audio.wav"]
        read = [[part for p in pair if p for part in cut(*decoded[p.row], p)] for pair in examples]
        return self.examples.collate(numbers, examples, read)


def npy(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def wav(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as opened:
        return np.frombuffer(opened.readframes(opened.getnframes()), "<i2")


def cut(points_TN2: np.ndarray, speech_S: np.ndarray, place: Window) -> list[np.ndarray]:
    """Landmarks and audio of a place in a whole clip."""
    start, stop = place.start * SAMPLES_PER_FRAME, place.stop * SAMPLES_PER_FRAME
    return [points_TN2[place.start : place.stop], speech_S[start:stop]]
