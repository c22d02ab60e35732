"""`python -m eval compare`: whether methods differ, on the clips that all of them were scored on.

Each FOLDER holds a report of `score`, `benchmark` or `motion`; FOLDER=METHOD names one of its rows (without: mytalk, or
the only one). For every two of them and every metric: the mean difference over people with its interval, the p value of
a permutation test over people, and that value corrected for all metrics.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

from eval.compare import paired, reports
from eval.compare.reports import Method
from eval.metrics.metric import HIGHER, LOWER, REAL, badness
from eval.report import text
from eval.score_file import FLOOR
from mytalk import atomic, command
from mytalk.command import EXIT_DONE, UserError
from mytalk.intervals import mean_and_ci95, mean_over_people, person_means

LEVEL = 0.05
NOT_APART = "not apart"
FORMAT = 1


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    example = "python -m eval compare runs/theirs runs/ours --out compared.json"
    parser = command.parser("python -m eval compare", __doc__, example)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folder of a report, or FOLDER=METHOD")
    parser.add_argument("--out", type=Path, help="write everything as JSON, too")
    parser.add_argument(
        "--force-protocol",
        action="store_true",
        help="compare reports of other protocols, data or judges; they are named",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Compare; print a table for every two methods."""
    if len(args.folders) < 2:
        raise UserError("one method is no comparison; name two folders or more")
    compared = compare(reports.methods(args.folders), args.force_protocol)
    if args.out:
        atomic.write_json(args.out, compared)
    print(in_words(compared))
    return EXIT_DONE


def compare(methods: list[Method], force: bool = False) -> dict[str, Any]:
    """Every two methods on the clips that both have. Raises UserError where they are not comparable, unless forced."""
    differ: dict[str, list[str]] = {}
    for one, other in combinations(methods, 2):
        if names := reports.differences(one.report, other.report):
            differ[f"{one.name} and {other.name}"] = names
    if differ and not force:
        words = "; ".join(f"{pair} in {', '.join(names)}" for pair, names in differ.items())
        raise UserError(f"the reports differ: {words}; score them alike, or compare all the same with --force-protocol")
    return {
        "format": FORMAT,
        "methods": {method.name: str(method.folder) for method in methods},
        "rule": paired.RULE,
        "level": LEVEL,
        "differences": differ,
        "pairs": [compared_pair(one, other) for one, other in combinations(methods, 2)],
    }


def compared_pair(one: Method, other: Method) -> dict[str, Any]:
    """Two methods, metric by metric. Raises UserError where they share no scored clip."""
    keys = [key for key in one.clips if key in other.clips]
    if not keys:
        raise UserError(f"{one.name} and {other.name} share no scored clip; score them on the same clips")
    stated, also = text.measured(one.report), text.measured(other.report)
    entries, left_out = dict[str, dict[str, Any]](), dict[str, str]()
    for metric in stated:
        if stated[metric].get("over") == "people":
            left_out[metric] = "is of all clips together, not compared"
        elif metric not in also:
            left_out[metric] = f"not measured of {other.name}"
        elif (entry := _entry(metric, stated[metric]["better"], one, other, keys)) is None:
            left_out[metric] = "no clip has a value of both"
        else:
            entries[metric] = entry
    left_out |= {metric: f"not measured of {one.name}" for metric in also if metric not in stated}
    corrected = paired.holm({metric: entry["p"] for metric, entry in entries.items()})
    for metric, entry in entries.items():
        entry["p_holm"] = corrected[metric]
        if corrected[metric] >= LEVEL:
            entry["better"] = NOT_APART
    return {
        "methods": [one.name, other.name],
        "people": len({one.clips[key].person for key in keys}),
        "clips": len(keys),
        "clips_of_one": {one.name: len(one.clips) - len(keys), other.name: len(other.clips) - len(keys)},
        "metrics": entries,
        **({"left_out": left_out} if left_out else {}),
    }


def _entry(metric: str, better: str, one: Method, other: Method, keys: list[str]) -> dict[str, Any] | None:
    """One metric of two methods; None where no clip has both. `difference`: first minus second, of values that should
    be high or low, else of distances from what is right."""
    plain = better in (LOWER, HIGHER)
    people, values, worse = [], [], []
    for key in keys:
        clips = (one.clips[key], other.clips[key])
        pair = [clip.methods[method.row].get(metric) for clip, method in zip(clips, (one, other))]
        real = [clip.methods.get(FLOOR, {}).get(metric) for clip in clips]
        numbers = [value for value in pair if value is not None]
        if len(numbers) < 2 or (better == REAL and None in real):
            continue
        bad = [badness(better, value, floor) for value, floor in zip(numbers, real)]
        people.append(clips[0].person)
        values.append(numbers)
        worse.append(bad[0] - bad[1])
    if not values:
        return None
    means = [mean_over_people(zip(people, (pair[side] for pair in values))) for side in range(2)]
    by_person = list(person_means(zip(people, worse)).values())
    sign = -1 if better == HIGHER else 1
    difference, ci95 = mean_and_ci95([sign * value for value in by_person])
    mean_worse = sum(by_person)
    return {
        "means": means,
        "difference": difference,
        "of": "values" if plain else "distances from what is right",
        "ci95": ci95,
        "p": paired.p_value(by_person),
        "better": one.name if mean_worse < 0 else other.name if mean_worse > 0 else NOT_APART,
        "people": len(by_person),
        "clips": len(values),
    }


def in_words(compared: dict[str, Any]) -> str:
    """The comparison for a terminal: a table for every two methods."""
    lines = [f"DIFFERENT: {pair}: {', '.join(names)}" for pair, names in compared["differences"].items()]
    for pair in compared["pairs"]:
        one, other = pair["methods"]
        only = ", ".join(f"{count} of {name} alone" for name, count in pair["clips_of_one"].items() if count)
        lines.append(
            f"{one} against {other}: {pair['people']} people, {pair['clips']} clips" + (f" ({only})" if only else "")
        )
        table = [["metric", one, other, "difference [95 % interval]", "p", "p_holm", "better"]]
        for metric, entry in pair["metrics"].items():
            ends = "no interval" if entry["ci95"] is None else "{:.3f}, {:.3f}".format(*entry["ci95"])
            name = metric if entry["of"] == "values" else f"{metric} (distance)"
            p_values = [f"{entry[p]:.4f}" if entry[p] >= 1e-4 else f"{entry[p]:.0e}" for p in ("p", "p_holm")]
            row = [name, *(f"{mean:.3f}" for mean in entry["means"]), f"{entry['difference']:.3f} [{ends}]"]
            table.append([*row, *p_values, entry["better"]])
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        lines += [f"left out: {metric}: {why}" for metric, why in pair.get("left_out", {}).items()]
    return "\n".join([*lines, compared["rule"]])
