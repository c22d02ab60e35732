"""Assign people to train, val and unseen. People who share a video are in the same split."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.shards import manifest_update
from data_pipeline.shards.layout import HAS_AUDIO, SPEAKS
from data_pipeline.shards.manifest import SPLITS, Manifest
from data_pipeline.shards.manifest_update import set_column
from mytalk import command
from mytalk.face.landmarks import FRAME_HZ


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m data_pipeline split",
        "Assign people to train, val (watched while training) and unseen (scored at the end). People who\n"
        "share an identical video are one group and stay together. The same arguments give the same answer;\n"
        "people of videos extracted later are added, and nobody changes the split.",
        "python -m data_pipeline split data/hdtf --val 0.1 --unseen 0.2",
    )
    parser.add_argument("shards", type=Path, help="folder that extract wrote")
    parser.add_argument("--val", type=float, default=0.1, help="share of people (default 0.1)")
    parser.add_argument("--unseen", type=float, default=0.2, help="share of people (default 0.2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--fold",
        type=fold,
        metavar="K/N",
        help="the K-th of N equal parts of the people is unseen, whatever --unseen: over K = 1 to N everybody "
        "is unseen once (cross-validation)",
    )
    parser.add_argument("--everyone", choices=SPLITS, help="all people into this split, as a corpus that is held out")
    parser.add_argument("--force", action="store_true", help="replace another split; results then differ")
    return parser


def run(args: argparse.Namespace) -> int:
    settings: dict[str, Any] = {"val": args.val, "unseen": args.unseen, "seed": args.seed}
    if args.everyone:
        settings = {"everyone": args.everyone}
    elif args.fold:
        args.unseen = 1 / args.fold[1]
        settings = {"val": args.val, "fold": "/".join(map(str, args.fold)), "seed": args.seed}
    if not args.everyone and not (args.val > 0 and args.unseen > 0 and args.val + args.unseen < 1):
        raise command.UserError("--val and --unseen are shares above 0 that leave some people for train")
    stored = manifest_update.stored(args.shards)
    if stored is None:
        Manifest.load(args.shards)  # raises what is missing
        raise command.UserError(f"{args.shards}: its manifest cannot be read; run the extract command again")
    table, header, consistent = stored
    before = header.get("split")
    if before is not None and before != settings and not args.force:
        was = " ".join(f"--{name} {value}" for name, value in before.items())
        raise command.UserError(
            f"{args.shards} is already split by {was}; results of two splits cannot be compared: give "
            "these options, or add --force"
        )
    identities, splits = table["identity"].to_pylist(), table["split"].to_pylist()
    group_of = groups(zip(identities, table["source_sha256"].to_pylist()))
    earlier = {} if args.force or before is None else _earlier(identities, splits, group_of)
    everyone = dict.fromkeys(set(group_of.values()), args.everyone)
    split_of = everyone if args.everyone else _assign_all(table, group_of, args, earlier)
    assigned = [split_of[group_of[identity]] for identity in identities]
    if not consistent or before != settings or assigned != splits:
        table = set_column(table, "split", pa.array(assigned, pa.string()))
        group_n = pa.array([group_of[identity] for identity in identities], pa.string())
        table = set_column(table, "duplicate_group", group_n)
        manifest_update.save(args.shards, table, {**header, "split": settings})
    _print(table)
    return command.EXIT_DONE


def fold(text: str) -> tuple[int, int]:
    """`K/N` as numbers: part K, from 1, of N. Raises ArgumentTypeError."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts) and int(parts) > 1):
        raise argparse.ArgumentTypeError(f"write K/N, part K from 1 to N of N parts, 2 or more, as 1/3, not '{text}'")
    return int(number), int(parts)


def _assign_all(
    table: pa.Table, group_of: Mapping[str, str], args: argparse.Namespace, earlier: Mapping[str, str]
) -> dict[str, str]:
    """Split of every group. Groups without speech are assigned apart, so that every split has people who speak.

    Raises UserError as `assign` does.
    """
    speech_n = np.ones(len(table), bool)
    for column in (HAS_AUDIO, SPEAKS):
        if column in table.column_names:
            speech_n &= table[column].fill_null(True).to_numpy().astype(bool)
    everyone = set(group_of.values())
    silent = everyone - {group_of[name] for name, speech in zip(table["identity"].to_pylist(), speech_n) if speech}
    if not silent or len(everyone - silent) < len(SPLITS):
        return assign(everyone, args.val, args.unseen, args.seed, earlier, fold=args.fold)
    split_of: dict[str, str] = {}
    for names, least in ((everyone - silent, 1), (silent, 0)):
        known = {name: split for name, split in earlier.items() if name in names}
        split_of |= assign(names, args.val, args.unseen, args.seed, known, least, args.fold)
    return split_of


def groups(people_and_sources: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group of every person, by union-find: people who share a source's digest, directly or through others.

    A group has the name of its first member in order of names.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    owner: dict[str, str] = {}
    for person, source in people_and_sources:
        parent.setdefault(person, person)
        first, second = sorted((root(person), root(owner.setdefault(source, person))))
        parent[second] = first
    return {person: root(person) for person in parent}


def assign(
    names: Iterable[str],
    val: float,
    unseen: float,
    seed: int,
    earlier: Mapping[str, str] | None = None,
    least: int = 1,
    fold: tuple[int, int] | None = None,
) -> dict[str, str]:
    """Split of every group; `val` and `unseen` are shares of groups, at least one group (`least`) in each split.

    Groups are drawn in the order of a digest of (seed, name), so the answer depends on neither the order of
    rows nor the machine. Groups in `earlier` keep their split; the others fill up the shares. With `fold`, (K, N), the
    unseen are the K-th of N parts of that order, whatever their share.
    Raises UserError for fewer than 3 groups, where each split must have one, and for fewer than 2 outside a part.
    """
    earlier = dict(earlier or {})
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest())
    if len(order) < least * len(SPLITS):
        raise command.UserError(
            f"{len(order)} independent people cannot make train, val and unseen; extract videos of at least 3"
        )
    wanted = {"val": max(least, round(val * len(order))), "unseen": max(least, round(unseen * len(order)))}
    if fold is not None:
        order, wanted["unseen"] = _part_first(order, *fold)
        wanted["val"] = min(wanted["val"], len(order) - wanted["unseen"] - least)
        if wanted["val"] < least or wanted["unseen"] < least:
            raise command.UserError(f"{len(order)} independent people are too few for {fold[1]} parts")
    while sum(wanted.values()) > len(order) - least:
        wanted[max(wanted, key=lambda name: wanted[name])] -= 1
    free = [name for name in order if name not in earlier]
    split_of = dict(earlier)
    for split in ("unseen", "val"):
        short = max(wanted[split] - sum(other == split for other in earlier.values()), 0)
        split_of.update(dict.fromkeys(free[:short], split))
        free = free[short:]
    split_of.update(dict.fromkeys(free, "train"))
    return split_of


def _part_first(order: list[str], number: int, parts: int) -> tuple[list[str], int]:
    """The order, turned so that it begins with part `number` of `parts` that differ by one at most; the part's size."""
    start, stop = ((k * len(order)) // parts for k in (number - 1, number))
    return order[start:] + order[:start], stop - start


def _earlier(identities: list[str], splits: list[str], group_of: dict[str, str]) -> dict[str, str]:
    """Groups that have a split. Raises UserError where a new video joins people of two splits into one group."""
    earlier: dict[str, str] = {}
    for identity, split in zip(identities, splits):
        group = group_of[identity]
        if split and earlier.setdefault(group, split) != split:
            raise command.UserError(
                f"a video added since makes people of splits '{earlier[group]}' and '{split}' one group "
                f"(with {identity}); remove that video, or split again with --force"
            )
    return earlier


def _print(table: pa.Table) -> None:
    identities, splits = table["identity"].to_pylist(), table["split"].to_pylist()
    frames = table["frames"].to_pylist()
    rows: dict[str, list[Any]] = {split: [set(), 0, 0] for split in SPLITS}
    for identity, split, count in zip(identities, splits, frames):
        rows[split][0].add(identity)
        rows[split][1] += 1
        rows[split][2] += count
    print(f"{'split':<8}{'people':>8}{'clips':>10}{'hours':>10}")
    for split, (people, clips, total) in rows.items():
        print(f"{split:<8}{len(people):>8}{clips:>10}{total / FRAME_HZ / 3600:>10.3f}")
