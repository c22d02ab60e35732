"""Assign people to train, val and unseen: no person, nor anyone who shares a video with them, is in two."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_pipeline.shards import manifest_update
from data_pipeline.shards.layout import HAS_AUDIO
from data_pipeline.shards.manifest import SPLITS, Manifest
from data_pipeline.shards.manifest_update import set_column
from mytalk import command
from mytalk.face.landmarks import FRAME_HZ


def arguments() -> argparse.ArgumentParser:
    made = command.parser(
        "python -m data_pipeline split",
        "Assign people to train, val (watched while training) and unseen (scored at the end). People who\n"
        "share an identical video are one group and stay together. The same arguments give the same answer;\n"
        "people who came with videos extracted later are added and nobody moves.",
        "python -m data_pipeline split data/hdtf --val 0.1 --unseen 0.2",
    )
    made.add_argument("shards", type=Path, help="folder that extract wrote")
    made.add_argument("--val", type=float, default=0.1, help="share of people (default 0.1)")
    made.add_argument("--unseen", type=float, default=0.2, help="share of people (default 0.2)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--force", action="store_true", help="replace another split; results then differ")
    return made


def run(args: argparse.Namespace) -> int:
    stated = {"val": args.val, "unseen": args.unseen, "seed": args.seed}
    if not (args.val > 0 and args.unseen > 0 and args.val + args.unseen < 1):
        raise command.UserError("--val and --unseen are shares above 0 that leave some people for train")
    stored = manifest_update.stored(args.shards)
    if stored is None:
        Manifest.load(args.shards)  # says what is missing
        raise command.UserError(f"{args.shards}: no manifest that can be read; type the extract command again")
    table, header, consistent = stored
    before = header.get("split")
    if before is not None and before != stated and not args.force:
        was = " ".join(f"--{name} {value}" for name, value in before.items())
        raise command.UserError(
            f"{args.shards} is already split by {was}; results of another split cannot be compared: name "
            "that one, or add --force"
        )
    identities, splits = table["identity"].to_pylist(), table["split"].to_pylist()
    group_of = groups(zip(identities, table["source_sha256"].to_pylist()))
    held = {} if args.force or before is None else _held(identities, splits, group_of)
    split_of = _assign_all(table, group_of, args, held)
    assigned = [split_of[group_of[identity]] for identity in identities]
    if not consistent or before != stated or assigned != splits:
        table = set_column(table, "split", pa.array(assigned, pa.string()))
        group_n = pa.array([group_of[identity] for identity in identities], pa.string())
        table = set_column(table, "duplicate_group", group_n)
        manifest_update.save(args.shards, table, {**header, "split": stated})
    _print(table)
    return command.EXIT_DONE


def _assign_all(
    table: pa.Table, group_of: Mapping[str, str], args: argparse.Namespace, held: Mapping[str, str]
) -> dict[str, str]:
    """Split of every group. Groups without sound are dealt apart, so that every split has people who speak.

    Raises UserError as `assign` does.
    """
    has_audio = table[HAS_AUDIO].fill_null(True).to_pylist() if HAS_AUDIO in table.column_names else []
    everyone = set(group_of.values())
    silent = everyone - {group_of[name] for name, heard in zip(table["identity"].to_pylist(), has_audio) if heard}
    if not has_audio or len(everyone - silent) < len(SPLITS):
        return assign(everyone, args.val, args.unseen, args.seed, held)
    split_of: dict[str, str] = {}
    for names, least in ((everyone - silent, 1), (silent, 0)):
        of_these = {name: split for name, split in held.items() if name in names}
        split_of |= assign(names, args.val, args.unseen, args.seed, of_these, least)
    return split_of


def groups(people_and_sources: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group of every person: those who share a source's digest, directly or through others, are one.

    A group is named by its first member in order of names. Union-find.
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
    names: Iterable[str], val: float, unseen: float, seed: int, held: Mapping[str, str] | None = None, least: int = 1
) -> dict[str, str]:
    """Split of every group; `val` and `unseen` are shares of groups, at least one group (`least`) in each split.

    Groups are drawn in the order of a digest of (seed, name), so the answer depends on neither the order of
    rows nor the machine. Groups in `held` stay where they are; the others fill what is short.
    Raises UserError for fewer than 3 groups, where each split must have one.
    """
    held = dict(held or {})
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest())
    if len(order) < least * len(SPLITS):
        raise command.UserError(
            f"{len(order)} independent people cannot make train, val and unseen; extract videos of at least 3"
        )
    wanted = {"val": max(least, round(val * len(order))), "unseen": max(least, round(unseen * len(order)))}
    while sum(wanted.values()) > len(order) - least:
        wanted[max(wanted, key=lambda name: wanted[name])] -= 1
    free = [name for name in order if name not in held]
    split_of = dict(held)
    for split in ("unseen", "val"):
        short = max(wanted[split] - sum(where == split for where in held.values()), 0)
        split_of.update(dict.fromkeys(free[:short], split))
        free = free[short:]
    split_of.update(dict.fromkeys(free, "train"))
    return split_of


def _held(identities: list[str], splits: list[str], group_of: dict[str, str]) -> dict[str, str]:
    """Where groups already are. Raises UserError where a new video ties people of two splits together."""
    held: dict[str, str] = {}
    for identity, split in zip(identities, splits):
        group = group_of[identity]
        if split and held.setdefault(group, split) != split:
            raise command.UserError(
                f"a video added since makes people of splits '{held[group]}' and '{split}' one group "
                f"(with {identity}); remove that video, or split anew with --force"
            )
    return held


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
