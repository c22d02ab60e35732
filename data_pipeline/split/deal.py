"""Dealing groups of people to splits, by number or by hours, strata in turn. Nothing depends on the order of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_pipeline.shards.table.schema import SPLITS
from mytalk import command

HELD_OUT = "held_out"
DEALT = tuple(name for name in SPLITS if name != HELD_OUT)
STRICTEST = (HELD_OUT, "unseen", "val", "train")  # where people of several wishes are one group, the first holds


@dataclass(frozen=True)
class Group:
    """People who stay together: how much they weigh (hours, or 1), their stratum, and the splits they may be in."""

    name: str
    weight: float
    stratum: tuple[str, ...] = ()
    allowed: tuple[str, ...] = DEALT


def dealt(groups: Iterable[Group], val: float, unseen: float, seed: int) -> dict[str, str]:
    """Split of every group, so that `val` and `unseen` are those shares of the weight, of every stratum as of all.

    Groups lie in a row, a stratum behind the other, inside one in the order of a digest of (seed, name). Each goes to
    the split that is most in want among all weight so far. So at every place of the row each split is near its share,
    by about the largest group, and so is every stretch of it. Groups that are allowed one split count where they lie.
    A split that would be empty gets the lightest group that may be there, where three are free.
    """
    row = sorted(groups, key=lambda group: (group.stratum, _drawn(group.name, seed)))
    shares = {"train": 1 - val - unseen, "val": val, "unseen": unseen}
    split_of, held, total = dict[str, str](), dict.fromkeys(DEALT, 0.0), 0.0
    for group in row:
        open_to = [name for name in DEALT if name in group.allowed]
        if not open_to:
            split_of[group.name] = group.allowed[0]
            continue
        total += group.weight
        chosen = max(open_to, key=lambda name: (shares[name] * total - held[name], shares[name]))
        split_of[group.name] = chosen
        held[chosen] += group.weight
    for empty in [name for name in DEALT if name not in split_of.values()]:
        _fill(row, split_of, empty, seed)
    return split_of


def _fill(row: list[Group], split_of: dict[str, str], empty: str, seed: int) -> None:
    """Move the lightest group that may be in an empty split there, from a split that has others."""
    members = [*split_of.values()]
    movable = [g for g in row if {empty, split_of[g.name]} <= {*g.allowed} and members.count(split_of[g.name]) > 1]
    if movable:
        split_of[min(movable, key=lambda group: (group.weight, _drawn(group.name, seed))).name] = empty


def _drawn(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()


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
    order = sorted(names, key=lambda name: _drawn(name, seed))
    if len(order) < least * len(DEALT):
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
