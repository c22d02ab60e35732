"""Appearance examples against decord on an mp4 per clip, and against bare reads of the same bytes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row
from benchmarks.stream.turns import (
    MICRO_BATCH,
    SLOTS,
    Contestant,
    Known,
    as_float,
    as_points,
    assert_same,
    row_of,
    take_turns,
)
from data_pipeline.examples.appearance import AppearanceExamples, Read, ReferenceConfig
from data_pipeline.sample.windows import Example, SamplingConfig
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from mytalk.media import mp4
from mytalk.networks.appearance.config import AppearanceConfig


def rows(manifest: Manifest, files: Path, args: argparse.Namespace) -> list[Row]:
    """Appearance examples against decord on files, and against the floor."""
    ours, floor = _appearance(AppearanceExamples, manifest), _appearance(BareAppearance, manifest)
    same_bytes = FileAppearance(manifest, files, "-as-in-shard.mp4")
    usual = FileAppearance(manifest, files, ".mp4")
    numbers = list(range(MICRO_BATCH))
    assert_same(ours(numbers), same_bytes(numbers))
    assert_same(ours(numbers), floor(numbers))
    of = [Contestant(make) for make in (ours, usual, same_bytes, floor)]
    take_turns(of, args, "appearance")
    floor.known.close()
    return [
        row_of("appearance examples a second / decord, an mp4 per clip as x264 makes it", of[0], of[1], 3),
        row_of("appearance examples a second / decord, the same bytes as a file per clip", of[0], of[2], 3),
        row_of("appearance examples a second / floor of bare reads", of[0], of[3], 0.85),
    ]


def _appearance(kind: Any, manifest: Manifest) -> Any:
    return kind(manifest, SamplingConfig(), AppearanceConfig(), ReferenceConfig())


class FileAppearance:
    """Random access into one mp4 per clip by decord; the landmarks are an .npy per clip."""

    def __init__(self, manifest: Manifest, files: Path, ending: str):
        self.examples = _appearance(AppearanceExamples, manifest)
        keys = [str(manifest.at(row, "key")) for row in range(len(manifest))]
        self.paths = [(str(files / f"{key}.npy"), str(files / f"{key}{ending}")) for key in keys]

    def __call__(self, numbers: list[int]) -> Any:
        import decord

        examples, read = [self.examples.windows.example(slot) for slot in numbers], []
        for slot, example in zip(numbers, examples):
            npy_path, video_path = self.paths[example.window.row]
            landmarks_TN3 = as_float(np.load(npy_path, allow_pickle=False))
            frames = [example.window.start, *self.examples.reference_frames(slot, example, landmarks_TN3)]
            pixels = decord.VideoReader(video_path, num_threads=1).get_batch(frames).asnumpy()
            read.append(Read(landmarks_TN3, landmarks_TN3[frames[:1]], frames, pixels, None))
        return self.examples.collate(numbers, examples, read)


class BareAppearance(AppearanceExamples):
    """The floor: bare reads of the landmarks, the video's index and its groups of pictures, all places known."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.known = Known(self, range(SLOTS + MICRO_BATCH))
        self.plans = {slot: self._plan(slot, example) for slot, example in self.known.examples.items()}

    def _plan(self, slot: int, example: Example) -> tuple[list[int], mp4.Track, list[tuple[int, int, int]]]:
        """Frames, the video's index, and the places of it and of the groups of pictures."""
        row = example.window.row
        (found,) = self.read([slot], [example])
        frames, whole = found.chosen, reader.member_piece(self.manifest, row, "video")
        track = mp4.Track.parse(reader.read_member(self.manifest, row, "video"), whole.size)
        ranges = [(0, min(mp4.HEAD_BYTES, whole.size)), *track.ranges(frames)]
        pieces = [whole._replace(offset=whole.offset + offset, size=size) for offset, size in ranges]
        return frames, track, [self.known.place(piece) for piece in pieces]

    def named(self, numbers: list[int], examples: Any) -> dict[str, Any]:
        return self.known.tell(numbers)

    def __call__(self, numbers: list[int]) -> Any:
        read = []
        for slot in numbers:
            frames, track, places = self.plans[slot]
            landmarks_TN3 = as_float(as_points(os.pread(*self.known.places[slot][0])))
            _, *pieces = (os.pread(*place) for place in places)
            read.append(Read(landmarks_TN3, landmarks_TN3[frames[:1]], frames, track.decode(pieces, frames), None))
        return self.collate(numbers, [self.known.examples[slot] for slot in numbers], read)
