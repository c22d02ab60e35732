"""What the stream costs beside its rivals: examples a second, the share of the reader's own floor, the first batch.

One run, on shards that it makes itself in a temporary folder. The contestants take turns, round after round, so that a
busy machine slows them alike: what is compared is each round's ratio. All are one process with one thread of torch, on
files in the page cache, and all make the same tensors of the same kind of draws: that is asserted before the clock
runs. So what differs is how the bytes are found, read, checked and decoded.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import first_batch, harness, talkers
from benchmarks.harness import Row
from data_pipeline.examples.appearance import AppearanceExamples, ReferenceConfig
from data_pipeline.examples.motion import MotionExamples
from data_pipeline.sample.batches import Batch, Examples
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, Window, WindowConfig, draw
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from mytalk import command
from mytalk.face.landmarks import COUNT, FRAME_HZ, SAMPLES_PER_FRAME
from mytalk.machine import cores
from mytalk.media import mp4
from mytalk.networks.appearance.config import AppearanceConfig

MICRO_BATCH, WINDOW = 8, WindowConfig(min_frames=50, max_frames=50, source_frames=75)
SLOTS = 256  # whose places the floors know beforehand; they come round again
LONGER = 4  # times as long are other clips, of which there are as many fewer
SHUFFLED = 64  # samples that the stock pipeline holds to shuffle them
FIRST_BATCH_S, SHARDS = 5.0, 20_000
CLIPS_PER_SHARD = (10, 100, 500)  # of the indexes whose first batch is timed
ROUNDS, LEAST_ROUNDS, ROUNDS_OF_FIRST = 15, 5, (5, 5, 3)


@dataclass
class Contestant:
    """Makes a batch of slots. `wall_s` and `cpu_s` are seconds an example, of every round."""

    make: Callable[[list[int]], Any]
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def arguments() -> argparse.ArgumentParser:
    made = command.parser(
        "python -m benchmarks.stream",
        "Measure the stream: motion examples against a stock webdataset pipeline, appearance examples against decord\n"
        "on one mp4 per clip, both against bare reads of the same bytes, and the time to the first batch of a large\n"
        "index. Makes its own shards (1.2 MB a clip, and some 2 GB for the largest index) and prints one table.",
        "python -m benchmarks.stream --clips 80 --seconds 5 --out stream.json",
    )
    made.add_argument("--clips", type=int, default=80, help="clips of 5 s, 12 or more (default: %(default)s)")
    made.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of each contestant; below 1 is a rehearsal, with few turns and small indexes (default: %(default)s)",
    )
    made.add_argument("--out", type=Path, help="also write the rows as JSON")
    return made


def run(args: argparse.Namespace) -> int:
    if args.clips < 12 or args.seconds <= 0:
        raise command.UserError("--clips must be 12 or more and --seconds above 0")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        talkers.write(folder / "shards", folder / "files", args.clips)
        manifest = Manifest.load(folder / "shards")
        rows = motion_rows(manifest, args)
        talkers.write(folder / "long", None, args.clips // LONGER, talkers.FRAMES * LONGER)
        rows += motion_rows(Manifest.load(folder / "long"), args)
        rows += appearance_rows(manifest, folder / "files", args)
        rows += first_rows(folder, *((SHARDS, ROUNDS_OF_FIRST) if args.seconds >= 1 else (200, (1, 1, 1))))
    conditions = (
        f"{args.clips} clips, {args.seconds:g} s each in {len(rows[0].values)} turns, {cores()} cores; one process and "
        f"one thread of torch each, micro-batches of {MICRO_BATCH}; medians over the rounds (least to most)"
    )
    return harness.report(conditions, rows, args.out)


# Turns -----------------------------------------------------------------------------------------------


def take_turns(contestants: list[Contestant], args: argparse.Namespace, what: str) -> None:
    """Every contestant makes batches of the same slots, in turn, for `--seconds` in all."""
    rounds = ROUNDS if args.seconds >= 1 else LEAST_ROUNDS
    for contestant in contestants:  # warms up: files are opened, sums read, decoders made
        contestant.make(list(range(MICRO_BATCH)))
    for number in harness.turns(what, len(contestants), rounds):
        contestant = contestants[number]
        examples, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < args.seconds / rounds:
            first = examples % SLOTS
            contestant.make(list(range(first, first + MICRO_BATCH)))
            examples += MICRO_BATCH
        contestant.wall_s.append((time.perf_counter() - wall) / examples)
        contestant.cpu_s.append((time.process_time() - cpu) / examples)


def row_of(what: str, ours: Contestant, rival: Contestant, goal: float) -> Row:
    """The table's line of two contestants, in examples a second."""
    ratios = [theirs / own for own, theirs in zip(ours.wall_s, rival.wall_s)]
    own_rate, rate = (f"{1 / np.median(one.wall_s):.0f}" for one in (ours, rival))
    cpu_ratio = float(np.median(rival.cpu_s) / np.median(ours.cpu_s))
    return Row(what, own_rate, rate, ratios, f"{goal:g}", cpu_ratio)


def assert_same(ours: Batch, theirs: Batch) -> None:
    """Every tensor of two batches is equal in shape, kind and values."""
    own, other = ours.tensors(), theirs.tensors()
    assert own.keys() == other.keys()
    for name in own:
        assert own[name].dtype == other[name].dtype, name
        assert torch.equal(own[name], other[name]), name
    assert ours.keys_B == theirs.keys_B


class Known:
    """What a bare reader knows beforehand of a slot: its example, its clip's key, and byte ranges of files."""

    def __init__(self, of: Examples, numbers: range):
        self.manifest, self.opened = of.manifest, dict[str, int]()
        self.examples = {slot: of.windows.example(slot) for slot in numbers}
        self.named = {s: (str(of.manifest.at(e.window.row, "key")), e.window.start) for s, e in self.examples.items()}
        self.places = {
            slot: [self.place(reader.piece_of(of.manifest, request)) for request in of.windows.requests(example)]
            for slot, example in self.examples.items()
        }

    def place(self, piece: reader.Piece) -> tuple[int, int, int]:
        """(descriptor, size, offset) of a piece, as pread takes them."""
        path = str(self.manifest.shard_path(piece.column, int(self.manifest.at(piece.row, "shard"))))
        if path not in self.opened:
            self.opened[path] = os.open(path, os.O_RDONLY)
        return self.opened[path], piece.size, piece.offset

    def tell(self, numbers: list[int]) -> dict[str, Any]:
        """`Examples.named` without looking anything up."""
        keys, starts = zip(*(self.named[slot] for slot in numbers))
        return {"slots_B": torch.tensor(numbers), "keys_B": list(keys), "starts_B": torch.tensor(starts)}

    def close(self) -> None:
        for descriptor in self.opened.values():
            os.close(descriptor)


def as_points(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f2").reshape(-1, COUNT, 3)


def as_float(half: np.ndarray) -> np.ndarray:
    """As float32 by torch, for all alike: numpy takes 30 times as long."""
    return torch.from_numpy(half).float().numpy()


# Motion ----------------------------------------------------------------------------------------------


def motion_rows(manifest: Manifest, args: argparse.Namespace) -> list[Row]:
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


# Appearance ------------------------------------------------------------------------------------------


def appearance_rows(manifest: Manifest, files: Path, args: argparse.Namespace) -> list[Row]:
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
            read.append((landmarks_TN3, landmarks_TN3[frames[:1]], frames, pixels))
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
        frames, whole = found[2], reader.member_piece(self.manifest, row, "video")
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
            read.append((landmarks_TN3, landmarks_TN3[frames[:1]], frames, track.decode(pieces, frames)))
        return self.collate(numbers, [self.known.examples[slot] for slot in numbers], read)


# The first batch -------------------------------------------------------------------------------------


def first_rows(folder: Path, shards: int, rounds_of_first: tuple[int, ...]) -> list[Row]:
    """Time to the first batch of large indexes, each in fresh processes."""
    rows = []
    for per_shard, rounds in zip(CLIPS_PER_SHARD, rounds_of_first):
        index = folder / f"index-{per_shard}"
        print(f"making an index of {shards} shards x {per_shard} clips", file=sys.stderr)
        talkers.write_index(index, folder / "shards", shards, per_shard)
        asked = [sys.executable, "-m", "benchmarks.first_batch", str(index)]
        taken = []
        for _ in range(rounds):
            done = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=600)
            taken.append(json.loads(done.stdout))
        median = {name: float(np.median([one[name] for one in taken])) for name in taken[0]}
        parts = ", ".join(f"{name} {median[name]:.2f}" for name in ("load", "plan", "batch"))
        sums_s = [one["load"] + one["plan"] + one["batch"] for one in taken]
        rows.append(
            Row(
                f"first batch of {first_batch.BATCH}, {shards} shards x {per_shard} clips: {FIRST_BATCH_S:g} s / time",
                f"{np.median(sums_s):.2f} s ({parts}); {median['memory_mb']:.0f} MB; imports {median['imports']:.2f}",
                f"{FIRST_BATCH_S:g} s",
                [FIRST_BATCH_S / taken_s for taken_s in sums_s],
                "1",
            )
        )
    return rows


if __name__ == "__main__":
    harness.end("python -m benchmarks.stream", lambda: run(arguments().parse_args()))
