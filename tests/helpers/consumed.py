"""What the ranks of a run consume, of short talkers, for all four recipes; and whether two runs consumed the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch

from data_pipeline.examples.appearance import AppearanceExamples, ReferenceConfig
from data_pipeline.examples.identity import IdentityExamples
from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.examples.syncnet import SyncExamples
from data_pipeline.sample import loader
from data_pipeline.sample.batches import BadExample, Batch, Examples
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards.manifest import Manifest
from mytalk.networks.appearance.config import AppearanceConfig
from tests.helpers import talkers

GLOBAL_BATCH = 12
STEPS = 4
MODEL = AppearanceConfig(size_px=32, stem=2, channels=[8, 16], blocks=[0, 1], heads=2, discriminator_channels=4)
WINDOW = WindowConfig(min_frames=8, max_frames=14, source_frames=6)
RECIPES: dict[str, Callable[[Manifest, SamplingConfig], Examples]] = {
    "motion": lambda made, drawn: MotionExamples(made, drawn, WINDOW, MotionDraws(voice_stretch=0.2)),
    "syncnet": lambda made, drawn: SyncExamples(made, drawn, 12, 0.1),
    "identity": lambda made, drawn: IdentityExamples(made, drawn, 6, 10),
    "appearance": lambda made, drawn: AppearanceExamples(made, drawn, MODEL, ReferenceConfig(2, 4)),
}
ONE_CORPUS, TWO_CORPORA = ("test",), ("b", "a")
DRAWN = SamplingConfig(seed=3)


def write(folder: Path, people: dict[str, int], corpora: tuple[str, ...] = ONE_CORPUS, video: bool = True) -> Path:
    """Short talkers. A longer set of more people of the last split begins with the same shards."""
    return talkers.write(folder, people, frames=20, per_shard=4, corpora=corpora, video=video)


def content(batch: Batch, place: int) -> dict:
    """Key, window and tensors of one example, without padding."""
    held = {name: tensor[place] for name, tensor in batch.tensors().items()}
    frames = int(held["mask_BT"].sum()) if "mask_BT" in held else 0
    source = int(held["source_mask_BU"].sum()) if "source_mask_BU" in held else 0
    lengths = {"landmarks_BTN3": frames, "mask_BT": frames, "noise_BTK2": frames, "audio_BS": frames * 640}
    lengths |= {"source_BUN3": source, "source_mask_BU": source, "source_audio_BS": source * 640}
    cut = {name: value[: lengths[name]] if name in lengths else value for name, value in held.items()}
    return {"key": batch.keys_B[place], **cut}


class Consumed(dict):
    """Slot -> content, and what was bad."""

    def __init__(self) -> None:
        self.bad: list[BadExample] = []

    def add(self, batch: Batch) -> None:
        for place, slot in enumerate(batch.slots_B.tolist()):
            assert slot not in self, "each slot once"
            self[slot] = content(batch, place)
        self.bad += batch.bad

    def sorted_bad(self) -> list[BadExample]:
        return sorted(self.bad, key=lambda bad: bad.slot)  # stable: the attempts of a slot stay in order


def run(examples: Examples, world=1, workers=0, micro=GLOBAL_BATCH, start=0, stop=STEPS, until: int | None = None):
    """What the ranks of a run to `stop` consume until they are stopped after step `until`."""
    made = Consumed()
    rounds = GLOBAL_BATCH // micro // world
    for rank in range(world):
        own = loader.SlotStream(examples, GLOBAL_BATCH, micro, rank, world, start, stop)
        with contextlib.closing(loader.load(own, workers, prefetch=2)) as batches:
            for _ in range(((stop if until is None else until) - start) * rounds):
                made.add(next(batches))
    return made


def assert_same(ours: Consumed, theirs: dict) -> None:
    """Two runs consumed the same, bit for bit."""
    assert sorted(ours) == sorted(theirs)
    for slot, example in ours.items():
        assert_same_example(slot, example, theirs[slot])


def assert_same_example(slot: int, ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
        assert same, f"slot {slot}: {name}"


def with_column(before: Manifest, name: str, values: list) -> Manifest:
    table = before.table
    if name in table.column_names:
        kind = table.schema.field(name).type
        return Manifest(
            before.folder, before.header, table.set_column(table.column_names.index(name), name, pa.array(values, kind))
        )
    return Manifest(before.folder, before.header, table.append_column(name, pa.array(values)))
