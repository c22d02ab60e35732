"""`python -m data_pipeline split`: assign people to train, val, unseen and held_out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.shards import manifest_update
from data_pipeline.shards.layout import JOINED
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.manifest_update import Change, local_shards
from data_pipeline.shards.table.schema import SPLITS
from data_pipeline.split import deal, groups, wishes
from data_pipeline.split.deal import DEALT, HELD_OUT, Group
from mytalk import command
from mytalk.face.landmarks import FRAME_HZ


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline split`."""
    parser = command.parser(
        "python -m data_pipeline split",
        "Assign people to train, val (watched while training), unseen (scored at the end) and, where corpora are held\n"
        "out, held_out. People who share an identical video, copies of a clip or a face (annotate duplicates people)\n"
        "are one group and stay together. The same arguments give the same answer; people of videos extracted later\n"
        "are added, and nobody changes the split.",
        "python -m data_pipeline split data/all --by hours --stratify corpus gender --hold-out corpus=mead",
    )
    parser.add_argument("shards", type=local_shards, help="folder that extract or index wrote")
    parser.add_argument("--val", type=float, default=0.1, help="share of people, or of hours (default 0.1)")
    parser.add_argument("--unseen", type=float, default=0.2, help="share of people, or of hours (default 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="another seed deals the people otherwise")
    parser.add_argument("--by", choices=("people", "hours"), default="people", help="what shares are of")
    parser.add_argument(
        "--stratify", nargs="+", default=[], metavar="COLUMN", help="shares hold in each of its values: corpus gender"
    )
    parser.add_argument(
        "--hold-out",
        action="append",
        default=[],
        type=wishes.named,
        metavar="corpus=NAME",
        help="all of a corpus, and who is in it elsewhere, goes to held_out: scored as out of domain, never trained",
    )
    parser.add_argument("--official", action="store_true", help="keep to the column official_split: test is unseen")
    parser.add_argument(
        "--list",
        action="append",
        default=[],
        type=wishes.named,
        metavar="SPLIT=FILE",
        help="people, sources or keys of a split, one a line",
    )
    parser.add_argument("--labels-only", action="store_true", help="join neither copies nor faces")
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
    """Assign, write the manifest where something changed, and print what is in each split."""
    _refuse_impossible(args)
    lines: list[str] = []

    def change(manifest: Manifest) -> Change:
        change, assigned_n = _changed(manifest, args)
        lines.extend(_lines(assigned_n, manifest.codes("identity")[0], manifest.column("frames")))
        return change

    manifest_update.update(args.shards, change)
    print("\n".join(lines))
    return command.EXIT_DONE


def _changed(manifest: Manifest, args: argparse.Namespace) -> tuple[Change, np.ndarray]:
    """The columns and the header of a split, and the split of each clip."""
    joined = [name for name in JOINED if manifest.has(name) and not args.labels_only]
    settings, before = _settings(args, joined), manifest.header.get("split")
    if before is not None and before != settings and not args.force:
        raise command.UserError(
            f"{args.shards} is already split by {typed(before)}; results of two splits cannot be compared: give "
            "these options, or add --force"
        )
    person_n, people = manifest.codes("identity")
    values = (groups.values_of(manifest, name) for name in ("source_sha256", *joined) if manifest.has(name))
    group_P, names = groups.of_people(person_n, people, values)
    group_n = group_P[person_n]
    split_n, known = manifest.codes("split")
    earlier = {} if args.force or before is None else _earlier(group_n, names, split_n, known, person_n, people)
    if args.everyone:
        split_of = dict.fromkeys(names, args.everyone)
    else:
        split_of = _assigned(manifest, args, group_n, names, earlier)
    assigned_G = np.array([SPLITS.index(split_of[name]) for name in names], np.int8)
    assigned_n = assigned_G[group_n]
    columns = {"split": _texts(assigned_n, SPLITS), "duplicate_group": _texts(group_n, names)}
    return Change(columns, {**manifest.header, "split": settings}), assigned_n


def _refuse_impossible(args: argparse.Namespace) -> None:
    if args.everyone:
        return
    args.unseen = 1 / args.fold[1] if args.fold else args.unseen
    if not (args.val > 0 and args.unseen > 0 and args.val + args.unseen < 1):
        raise command.UserError("--val and --unseen are shares above 0 that leave some people for train")
    if args.fold and _is_dealt(args):
        raise command.UserError("--fold divides people evenly; leave out --by hours, --stratify, --official, --list")


def _is_dealt(args: argparse.Namespace) -> bool:
    """Whether groups weigh, or wish, other than plain shares of people."""
    return bool(args.by == "hours" or args.stratify or args.hold_out or args.official or args.list)


def _settings(args: argparse.Namespace, joined: Sequence[str]) -> dict[str, Any]:
    """What must be the same when the folder is split again."""
    if args.everyone:
        settings: dict[str, Any] = {"everyone": args.everyone}
    elif args.fold:
        settings = {"val": args.val, "fold": "/".join(map(str, args.fold)), "seed": args.seed}
    else:
        settings = {"val": args.val, "unseen": args.unseen, "seed": args.seed}
    more = {
        "by": "" if args.by == "people" else args.by,
        "stratify": args.stratify,
        "hold_out": sorted(f"{column}={value}" for column, value in args.hold_out),
        "official": args.official,
        "list": wishes.digests(args.list),
        "joined": [*joined],
    }
    return settings | {name: value for name, value in more.items() if value}


def typed(settings: Mapping[str, Any]) -> str:
    """The options that give these settings, for a message."""
    words: list[str] = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if name == "joined":
            words.append(f"(with {' and '.join(value)})")
        elif value is True:
            words.append(option)
        elif name == "stratify":
            words += [option, *value]
        elif isinstance(value, list):
            words += [word for one in value for word in (option, shlex.quote(one.partition("@")[0]))]
        else:
            words += [option, str(value)]
    return " ".join(words)


def fold(text: str) -> tuple[int, int]:
    """`K/N` as numbers: part K, from 1, of N. Raises ArgumentTypeError."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts) and int(parts) > 1):
        raise argparse.ArgumentTypeError(f"write K/N, part K from 1 to N of N parts, 2 or more, as 1/3, not '{text}'")
    return int(number), int(parts)


def _assigned(
    manifest: Manifest, args: argparse.Namespace, group_n: np.ndarray, names: list[str], earlier: Mapping[str, str]
) -> dict[str, str]:
    """Split of every group by the options. Groups without speech are dealt apart: every split has people who speak.

    Raises UserError where too few groups are there, or what was wished cannot be.
    """
    speaks_G = np.zeros(len(names), bool)
    speaks_G[group_n[manifest.with_speech()]] = True
    if _is_dealt(args):
        return _dealt(manifest, args, group_n, names, earlier, speaks_G)
    everyone, silent = {*names}, {name for name, speaks in zip(names, speaks_G) if not speaks}
    if not silent or len(everyone - silent) < len(DEALT):
        return deal.assign(everyone, args.val, args.unseen, args.seed, earlier, fold=args.fold)
    split_of: dict[str, str] = {}
    for some, least in ((everyone - silent, 1), (silent, 0)):
        before = {name: split for name, split in earlier.items() if name in some}
        split_of |= deal.assign(some, args.val, args.unseen, args.seed, before, least, args.fold)
    return split_of


def _dealt(
    manifest: Manifest,
    args: argparse.Namespace,
    group_n: np.ndarray,
    names: list[str],
    earlier: Mapping[str, str],
    speaks_G: np.ndarray,
) -> dict[str, str]:
    wished = wishes.of_groups(manifest, args, group_n, len(names))
    weight_G: np.ndarray = np.ones(len(names))
    if args.by == "hours":
        weight_G = np.bincount(group_n, manifest.column("frames"), len(names))
    strata = _strata(manifest, args.stratify, group_n, len(names))
    dealt = []
    for number, name in enumerate(names):
        allowed = wished[number] or DEALT
        if name in earlier:
            if earlier[name] not in allowed:
                raise command.UserError(
                    f"{name} is in split '{earlier[name]}' and what was added since belongs to '{allowed[0]}'; split "
                    "again with --force"
                )
            allowed = (earlier[name],)
        stratum = ("speaks" if speaks_G[number] else "silent", *strata[number])
        dealt.append(Group(name, float(weight_G[number]), stratum, allowed))
    if sum(HELD_OUT not in group.allowed for group in dealt) < len(DEALT):
        raise command.UserError(
            f"{len(dealt)} independent people, those of held-out corpora left out, cannot make train, val and unseen; "
            "extract videos of at least 3"
        )
    return deal.dealt(dealt, args.val, args.unseen, args.seed)


def _strata(manifest: Manifest, columns: Sequence[str], group_n: np.ndarray, count: int) -> list[tuple[str, ...]]:
    """The values of some columns of each group's first clip. Raises UserError for a column that is not there."""
    _, first_G = np.unique(group_n, return_index=True)
    assert len(first_G) == count
    values = []
    for name in columns:
        manifest.has(name, needed=True)
        if pa.types.is_string(manifest.types[name]) or pa.types.is_dictionary(manifest.types[name]):
            codes, texts = manifest.codes(name)
            values.append([texts[code] for code in codes[first_G]])
        else:
            values.append([str(value) for value in manifest.column(name)[first_G]])
    return [*zip(*values)] if values else [()] * count


def _texts(code_n: np.ndarray, names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(code_n, pa.int32()), pa.array(names, pa.string())).cast(pa.string())


def _earlier(
    group_n: np.ndarray,
    names: list[str],
    split_n: np.ndarray,
    known: list[str],
    person_n: np.ndarray,
    people: list[str],
) -> dict[str, str]:
    """Groups that have a split. Raises UserError where a new video joins people of two splits into one group."""
    there_n = np.array([name != "" for name in known], bool)[split_n]
    pairs = np.unique(np.stack([group_n[there_n], split_n[there_n]]), axis=1)
    earlier: dict[str, str] = {}
    for group, code in pairs.T.tolist():
        name, split = names[group], known[code]
        if earlier.setdefault(name, split) != split:
            with_ = people[person_n[np.flatnonzero((group_n == group) & (split_n == code))[0]]]
            raise command.UserError(
                f"a video added since makes people of splits '{earlier[name]}' and '{split}' one group "
                f"(with {with_}); remove that video, or split again with --force"
            )
    return earlier


def _lines(assigned_n: np.ndarray, person_n: np.ndarray, frames_n: np.ndarray) -> Iterator[str]:
    """What is in each split."""
    yield f"{'split':<8}{'people':>8}{'clips':>10}{'hours':>10}"
    for number, split in enumerate(SPLITS):
        of_n = assigned_n == number
        if split in DEALT or of_n.any():
            hours = frames_n[of_n].sum() / FRAME_HZ / 3600
            yield f"{split:<8}{len(np.unique(person_n[of_n])):>8}{int(of_n.sum()):>10}{hours:>10.3f}"
