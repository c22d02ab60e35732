"""The dry run of a training's data: which clips are selected, what each slot holds, what each rank reads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from data_pipeline.examples import RECIPES
from data_pipeline.examples.settings import RunSettings
from data_pipeline.examples.windows import PLANNED
from data_pipeline.sample.batch_plan import divide, micro_batches
from data_pipeline.sample.mixture import shares
from data_pipeline.sample.order import examples_of_epoch
from data_pipeline.sample.windows import Example, SamplingConfig, WindowConfig, Windows
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table.schema import SPLITS
from mytalk import command
from mytalk.command import UserError

SIZES = [field.name for field in fields(WindowConfig)]
MOST_LISTED = 20  # slots in the text; --json lists all


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline plan",
        "Say what a training run would read, and read none of it: the clips that a filter leaves, how corpora are\n"
        "mixed, steps per epoch, and for each slot its clip, its window and its rank, with the bytes that each rank\n"
        "asks for. Settings are those of `python -m train`; --config takes them from its YAML, or from a run's\n"
        "config.yaml.",
        "python -m data_pipeline plan data/mine --global-batch 64 --world-size 8 --where 'face_px >= 96' --json",
    )
    parser.add_argument("shards", help="folder or URL of shards with a manifest")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="motion", help="whose examples (default: motion)")
    parser.add_argument("--config", metavar="FILE", help="settings of a training run, for what is not given here")
    parser.add_argument("--global-batch", type=int, metavar="G", help="examples of a step, over all ranks (default 32)")
    parser.add_argument("--world-size", type=int, default=1, metavar="W", help="ranks (default 1)")
    parser.add_argument(
        "--max-micro-batch", type=int, metavar="M", help="the most examples of a rank at once (default 32)"
    )
    parser.add_argument("--rank", type=int, metavar="R", help="list this rank's slots only")
    parser.add_argument("--split", choices=SPLITS, help="whose clips (default train)")
    parser.add_argument("--where", metavar="FILTER", help="keep only clips for which this holds")
    parser.add_argument(
        "--repeats", action="append", default=[], metavar="CORPUS=N", help="how often a corpus's clips come (default 1)"
    )
    parser.add_argument("--shards-until", type=int, metavar="N", help="only shards numbered below N")
    parser.add_argument("--seed", type=int, help="of the run (default: that of --config, or 0)")
    parser.add_argument("--start", type=int, default=0, metavar="n", help="first slot (default 0)")
    parser.add_argument("--stop", type=int, metavar="m", help="past the last slot (default: one step after --start)")
    for size in SIZES:
        parser.add_argument(
            f"--{size.replace('_', '-')}", type=int, help=f"of a window (default {getattr(WindowConfig, size)})"
        )
    parser.add_argument("--json", action="store_true", help="all of it as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    values = plan(args)
    print(json.dumps(values) if args.json else "\n".join(as_text(values)))
    return command.EXIT_DONE


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The plan as JSON values. Raises UserError for impossible arguments or settings."""
    settings = RunSettings.load(
        args.config, {size: value for size in SIZES if (value := getattr(args, size)) is not None}
    )
    division = _division(args, settings)
    sampling = _sampling(args, settings)
    manifest = Manifest.load(args.shards)
    windows = PLANNED[args.recipe](manifest, sampling, settings)
    selection, epoch = windows.selection, examples_of_epoch(windows.selection, sampling.repeats)
    slots, damaged = _slots(manifest, windows, division, args.rank)
    ranks = [
        {"rank": rank, "slots": len(costs), "bytes": sum(costs)}
        for rank in range(division.world_size)
        if args.rank in (None, rank)
        for costs in [[slot["bytes"] for slot in slots if slot["rank"] == rank]]
    ]
    mean_bytes = sum(slot["bytes"] for slot in slots) / max(len(slots), 1)
    return {
        "shards": str(manifest.folder),
        "recipe": args.recipe,
        "clips": {"manifest": len(manifest), "split": len(manifest.rows(sampling.split)), "selected": len(selection)},
        "without_speech": windows.without_speech(),
        "dropped": selection.dropped,
        "corpora": _corpora(windows),
        "selection": selection.digest,
        "global_batch": division.global_batch,
        "world_size": division.world_size,
        "damaged": damaged,
        "steps_per_epoch": epoch / division.global_batch,
        "ranks": ranks,
        "bytes_per_epoch_and_rank": round(mean_bytes * epoch / division.world_size),
        "start": division.start,
        "stop": division.stop,
        "slots": slots,
    }


@dataclass(frozen=True)
class Division:
    """Which slots are listed, and how ranks divide them."""

    global_batch: int
    micro_batch: int
    world_size: int
    by_length: bool
    start: int
    stop: int

    def ranks(self, length_of: Callable[[int], int]) -> dict[int, int]:
        """The rank that reads each slot of the steps that are listed; `length_of` is a slot's frames."""
        steps = self.start // self.global_batch, -(-self.stop // self.global_batch)
        sizes = self.global_batch, self.micro_batch
        return {
            slot: rank
            for rank in range(self.world_size)
            for slots in micro_batches(*sizes, rank, self.world_size, *steps, length_of if self.by_length else None)
            for slot in slots
        }


def _given(value: Any, settings: RunSettings, key: str, default: Any) -> Any:
    """An argument; where it is not given, the config file's key, then the default."""
    from_file = settings.get(key, default)
    return from_file if value is None else value


def _division(args: argparse.Namespace, settings: RunSettings) -> Division:
    """Raises UserError for impossible numbers."""
    batch = _given(args.global_batch, settings, "global_batch", 32)
    most, world = _given(args.max_micro_batch, settings, "max_micro_batch", 32), args.world_size
    if min(batch, world, most) < 1:
        raise UserError("--global-batch, --max-micro-batch and --world-size are 1 or more")
    micro = divide(batch, most, world).micro_batch
    if args.rank is not None and not 0 <= args.rank < world:
        raise UserError(f"--rank must lie between 0 and {world - 1}, not {args.rank}")
    stop = args.start + batch if args.stop is None else args.stop
    if not 0 <= args.start <= stop:
        raise UserError(f"--start {args.start} must be 0 or more, and not above --stop {stop}")
    return Division(batch, micro, world, settings.get("batch_by_length", False), args.start, stop)


def _sampling(args: argparse.Namespace, settings: RunSettings) -> SamplingConfig:
    repeats: dict[str, float] = {}
    default = SamplingConfig()
    return SamplingConfig(
        _given(args.split, settings, "train_split", default.split),
        _given(args.seed, settings, "seed", default.seed),
        _given(args.where, settings, "where", default.where),
        _repeats(args.repeats) or settings.get("repeats", repeats),
        _given(args.shards_until, settings, "shards_until", default.shards_until),
    )


def _slots(
    manifest: Manifest, windows: Windows, division: Division, only_rank: int | None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What each slot holds and costs, and the clips that the manifest alone shows to be damaged, with the reason."""
    slots, damaged, ranks = [], {}, division.ranks(windows.length)
    for slot in range(division.start, division.stop):
        rank = ranks[slot]
        if only_rank is not None and rank != only_rank:
            continue
        example = windows.example(slot)
        try:
            bytes_read = reader.cost_bytes(manifest, windows.requests(example))
        except ClipError as error:
            damaged[error.key] = error.message
            bytes_read = 0
        place = {"slot": slot, "step": slot // division.global_batch, "rank": rank}
        slots.append({**place, **_content(manifest, example), "bytes": bytes_read})
    return slots, damaged


def _corpora(windows: Windows) -> dict[str, dict[str, float]]:
    """Clips of each corpus, and its share of the slots."""
    clips = windows.selection.clips
    names, slots, period = shares(clips, windows.order.used_repeats)
    return {name: {"clips": clips[name], "share": int(count) / period} for name, count in zip(names, slots)}


def as_text(values: dict[str, Any]) -> list[str]:
    """The plan as lines of text."""
    count = values["clips"]
    lines = [
        f"shards    {values['shards']}: {count['manifest']} clips, {count['split']} in the split, {count['selected']} "
        "selected"
    ]
    if values["without_speech"]:
        reasons = ", ".join(f"{number} {reason}" for reason, number in values["without_speech"].items())
        total = sum(values["without_speech"].values())
        lines.append(f"left out  {total} clips without speech ({reasons}), which {values['recipe']} cannot use")
    lines += [f"dropped   {number} by '{term}' alone" for term, number in values["dropped"].items()]
    for name, corpus in values["corpora"].items():
        lines.append(f"corpus    {name or '(unnamed)'}: {corpus['clips']} clips, {corpus['share']:.1%} of the slots")
    lines += [f"damaged   {key}: {why}" for key, why in values["damaged"].items()]
    lines.append(f"digest    {values['selection']}")
    lines.append(f"epoch     {values['steps_per_epoch']:.2f} steps of {values['global_batch']} examples")
    per_epoch = f", about {_size(values['bytes_per_epoch_and_rank'])} an epoch" if values["slots"] else ""
    note = "; the chosen frames' bytes are not counted" if values["recipe"] == "appearance" else ""
    for rank in values["ranks"]:
        lines.append(f"rank {rank['rank']:<4} {rank['slots']} slots, {_size(rank['bytes'])}{per_epoch}{note}")
    for slot in values["slots"][:MOST_LISTED]:
        source = f", source {slot['source']['key']} {slot['source']['window']}" if "source" in slot else ""
        lines.append(
            f"slot {slot['slot']:<8} step {slot['step']}, rank {slot['rank']}: {slot['key']} {slot['window']}{source}"
        )
    if len(values["slots"]) > MOST_LISTED:
        lines.append(f"and {len(values['slots']) - MOST_LISTED} slots more; --json lists all")
    return lines


def _repeats(given: list[str]) -> dict[str, float]:
    repeats = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            repeats[name] = float(number)
        except ValueError:
            raise UserError(f"--repeats {text} is not CORPUS=NUMBER, such as --repeats hdtf=2") from None
    return repeats


def _content(manifest: Manifest, example: Example) -> dict[str, Any]:
    window, source = example
    content = {"key": str(manifest.at(window.row, "key")), "window": [window.start, window.stop]}
    if source is None:
        return content
    return content | {"source": {"key": str(manifest.at(source.row, "key")), "window": [source.start, source.stop]}}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
