"""The dry run of a training's data: which clips are left, what each slot holds, what each rank reads."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from typing import Any

from data_pipeline.sample import order
from data_pipeline.sample.batch_plan import divide
from data_pipeline.sample.mixture import shares
from data_pipeline.sample.windows import (
    Drawn,
    Example,
    FrameWindows,
    HeardWindows,
    SourcedWindows,
    WindowConfig,
    Windows,
)
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import SPLITS, Manifest
from data_pipeline.shards.reader import ClipError
from mytalk import command
from mytalk.command import UserError

RECIPES = ("motion", "syncnet", "identity", "appearance")
KINDS = {  # of the settings that a --config may hold
    **dict.fromkeys(("global_batch", "max_micro_batch", "seed", "shards_until"), int),
    **dict.fromkeys(("frames", "min_frames", "max_frames"), int),
    **dict.fromkeys(("where", "train_split"), str),
    **dict.fromkeys(("repeats", "window"), dict),
}
MOST_LISTED = 20  # slots in words; --json lists all that are asked for


def arguments() -> argparse.ArgumentParser:
    made = command.parser(
        "python -m data_pipeline plan",
        "Say what a training run would read, and read none of it: the clips that a filter leaves, how corpora are\n"
        "mixed, steps per epoch, and for each slot its clip, its window and its rank, with the bytes that each rank\n"
        "asks for. Settings are those of `python -m train`; --config takes them from its YAML, or from a run's\n"
        "config.yaml.",
        "python -m data_pipeline plan data/mine --global-batch 64 --world-size 8 --where 'face_px >= 96' --json",
    )
    made.add_argument("shards", help="folder or URL of shards with a manifest")
    made.add_argument("--recipe", choices=RECIPES, default="motion", help="whose examples (default: motion)")
    made.add_argument("--config", metavar="FILE", help="settings of a training run, for what is not said here")
    made.add_argument("--global-batch", type=int, metavar="G", help="examples of a step, over all ranks (default 32)")
    made.add_argument("--world-size", type=int, default=1, metavar="W", help="ranks (default 1)")
    made.add_argument("--max-micro-batch", type=int, metavar="M", help="the most examples of a rank at once (32)")
    made.add_argument("--rank", type=int, metavar="R", help="list this rank's slots only")
    made.add_argument("--split", choices=SPLITS, help="(default train)")
    made.add_argument("--where", metavar="FILTER", help="keep only clips for which this holds")
    made.add_argument(
        "--repeats", action="append", default=[], metavar="CORPUS=N", help="how often a corpus's clips come (default 1)"
    )
    made.add_argument("--shards-until", type=int, metavar="N", help="only shards numbered below N")
    made.add_argument("--seed", type=int)
    made.add_argument("--start", type=int, default=0, metavar="n", help="first slot (default 0)")
    made.add_argument("--stop", type=int, metavar="m", help="past the last slot (default: one step after --start)")
    for field in fields(WindowConfig):
        made.add_argument(f"--{field.name.replace('_', '-')}", type=int, help=f"of a window (default {field.default})")
    made.add_argument("--json", action="store_true", help="all of it as JSON")
    return made


def run(args: argparse.Namespace) -> int:
    made = plan(args)
    if args.json:
        print(json.dumps(made))
    else:
        print("\n".join(in_words(made)))
    return command.EXIT_DONE


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The plan as JSON values. Raises UserError for what cannot be."""
    held = _held(args.config)

    def said(name: str, key: str, default: Any) -> Any:
        given = getattr(args, name)
        return held.get(key, default) if given is None else given

    batch, world = said("global_batch", "global_batch", 32), args.world_size
    if min(batch, world, most := said("max_micro_batch", "max_micro_batch", 32)) < 1:
        raise UserError("--global-batch, --max-micro-batch and --world-size are 1 or more")
    micro = divide(batch, most, world).micro_batch
    if args.rank is not None and not 0 <= args.rank < world:
        raise UserError(f"--rank must lie between 0 and {world - 1}, not {args.rank}")
    stop = args.start + batch if args.stop is None else args.stop
    if not 0 <= args.start <= stop:
        raise UserError(f"--start {args.start} must be 0 or more, and not above --stop {stop}")
    drawn = Drawn(
        said("split", "train_split", "train"),
        said("seed", "seed", 0),
        said("where", "where", ""),
        _repeats(args.repeats) or held.get("repeats", {}),
        said("shards_until", "shards_until", 0),
    )
    manifest = Manifest.load(args.shards)
    windows = _windows(args, held, manifest, drawn)
    selection = windows.selection
    names, of_period, period = shares(selection.clips, windows.order.given)
    listed = []
    read = [0] * world
    asked = [0] * world
    damaged: dict[str, str] = {}  # by what the manifest alone says
    for slot in range(args.start, stop):
        rank = slot % batch // micro % world
        if args.rank is not None and rank != args.rank:
            continue
        example = windows.example(slot)
        try:
            bytes_read = reader.cost_bytes(manifest, windows.wants(example))
        except ClipError as error:
            damaged[error.key] = error.message
            bytes_read = 0
        read[rank] += bytes_read
        asked[rank] += 1
        listed.append(
            {"slot": slot, "step": slot // batch, "rank": rank, **_shown(manifest, example), "bytes": bytes_read}
        )
    epoch = order.examples_of_epoch(selection, drawn.repeats)
    mean_bytes = sum(read) / max(sum(asked), 1)
    return {
        "shards": str(manifest.folder),
        "recipe": args.recipe,
        "clips": {"manifest": len(manifest), "split": len(manifest.rows(drawn.split)), "selected": len(selection)},
        "dropped": selection.dropped,
        "corpora": {
            name: {"clips": selection.clips[name], "share": int(slots) / period}
            for name, slots in zip(names, of_period)
        },
        "selection": selection.digest,
        "global_batch": batch,
        "world_size": world,
        "damaged": damaged,
        "steps_per_epoch": epoch / batch,
        "ranks": [
            {"rank": rank, "slots": asked[rank], "bytes": read[rank]}
            for rank in range(world)
            if args.rank in (None, rank)
        ],
        "bytes_per_epoch_and_rank": round(mean_bytes * epoch / world),
        "start": args.start,
        "stop": stop,
        "slots": listed,
    }


def in_words(made: dict[str, Any]) -> list[str]:
    """The plan for a reader."""
    count = made["clips"]
    lines = [
        f"shards    {made['shards']}: {count['manifest']} clips, {count['split']} in the split, {count['selected']} "
        "selected"
    ]
    lines += [f"dropped   {number} by '{term}' alone" for term, number in made["dropped"].items()]
    for name, corpus in made["corpora"].items():
        lines.append(f"corpus    {name or '(unnamed)'}: {corpus['clips']} clips, {corpus['share']:.1%} of the slots")
    lines += [f"damaged   {key}: {why}" for key, why in made["damaged"].items()]
    lines.append(f"digest    {made['selection']}")
    lines.append(f"epoch     {made['steps_per_epoch']:.2f} steps of {made['global_batch']} examples")
    about = f", about {_size(made['bytes_per_epoch_and_rank'])} an epoch" if made["slots"] else ""
    more = "; the chosen frames' bytes are not counted" if made["recipe"] == "appearance" else ""
    for rank in made["ranks"]:
        lines.append(f"rank {rank['rank']:<4} {rank['slots']} slots, {_size(rank['bytes'])}{about}{more}")
    for one in made["slots"][:MOST_LISTED]:
        source = f", source {one['source']['key']} {one['source']['window']}" if "source" in one else ""
        lines.append(
            f"slot {one['slot']:<8} step {one['step']}, rank {one['rank']}: {one['key']} {one['window']}{source}"
        )
    if len(made["slots"]) > MOST_LISTED:
        lines.append(f"and {len(made['slots']) - MOST_LISTED} slots more; --json lists all")
    return lines


def _windows(args: argparse.Namespace, held: dict[str, Any], manifest: Manifest, drawn: Drawn) -> Windows:
    if args.recipe == "appearance":
        return FrameWindows(manifest, drawn)
    given = {field.name: getattr(args, field.name) for field in fields(WindowConfig)}
    given = {name: value for name, value in given.items() if value is not None}
    if args.recipe == "motion":
        return SourcedWindows(manifest, drawn, _window({**held.get("window", {}), **given}))
    if args.recipe == "syncnet":
        frames = given.get("max_frames", held.get("frames", 64))
        _window({"min_frames": frames, "max_frames": frames})
        return HeardWindows(manifest, drawn, ("frames",), order.SYNC_WINDOW, frames, frames)
    sizes: dict[str, Any] = {"min_frames": 24, "max_frames": 75}
    own = _window({**sizes, **{name: held[name] for name in sizes if name in held}, **given})
    return Windows(manifest, drawn, ("identity", "frames"), order.IDENTITY_WINDOW, own.min_frames, own.max_frames)


def _window(given: dict[str, Any]) -> WindowConfig:
    """Raises UserError for sizes that cannot be."""
    try:
        return WindowConfig(**given)
    except (TypeError, ValueError) as error:
        raise UserError(str(error).replace("WindowConfig.__init__()", "window:")) from None


def _held(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    from omegaconf import OmegaConf

    try:
        held = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except OSError:
        raise
    except Exception as error:  # the YAML reader's own errors share no base class
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(held, dict):
        raise UserError(f"{path} holds no settings")
    for name, kind in KINDS.items():
        if name in held and not isinstance(held[name], kind):
            raise UserError(f"{path}: {name} is {held[name]!r}; write {'a number' if kind is int else 'as train does'}")
    return {str(name): value for name, value in held.items()}


def _repeats(given: list[str]) -> dict[str, float]:
    repeats = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            repeats[name] = float(number)
        except ValueError:
            raise UserError(f"--repeats {text} is not CORPUS=NUMBER, such as --repeats hdtf=2") from None
    return repeats


def _shown(manifest: Manifest, example: Example) -> dict[str, Any]:
    place, source = example
    shown = {"key": str(manifest.at(place.row, "key")), "window": [place.start, place.stop]}
    if source is None:
        return shown
    return shown | {"source": {"key": str(manifest.at(source.row, "key")), "window": [source.start, source.stop]}}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
