"""`python -m eval gaps`: the headline of a benchmark: people seen in training, unseen people, unseen corpora.

Takes folders that `eval benchmark` (or `eval motion`) wrote with the same models: one of `--split train`, one of
`--split unseen`, and any number of others, such as the held-out corpora. Writes OUT/gaps.json, OUT/gaps.md and
OUT/gaps.html (one file, opens anywhere).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from eval import score_file
from eval.gaps import groups, page
from eval.gaps.groups import Scored
from eval.report import check
from mytalk import atomic, command
from mytalk.command import EXIT_DONE, UserError
from mytalk.intervals import shown

NAME, MARKDOWN = "gaps.json", "gaps.md"
OF_DATA = ("manifest", "shards", "ridge")  # digests that may differ; the rest are the models'
SAME = (
    "name",
    "sampler_steps",
    "guidance",
    "person_guidance",
    "precision",
    "seed",
    "source_frames",
    "detector",
    "metrics",
)  # of the protocol


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = command.parser(
        "python -m eval gaps", __doc__, "python -m eval gaps runs/seen runs/unseen runs/ood --out runs/gaps"
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="folders of finished reports")
    parser.add_argument("--out", type=Path, required=True, help="folder of the gaps")
    parser.add_argument("--row", default="mytalk", help="the report's row that is compared (default: %(default)s)")
    parser.add_argument(
        "--reference", metavar="GROUP", help="the group that gaps are from (default: people seen, else the first)"
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Read the reports, print and write the gaps."""
    reports = {folder: check.finished(folder) for folder in args.reports}
    first = reports[args.reports[0]]
    for folder, report in reports.items():
        _refuse_others(first, report, args.reports[0], folder)
    if args.row not in first["methods"]:
        raise UserError(f"{args.reports[0]} has no row '{args.row}'; there are: {', '.join(first['methods'])}")
    scored = [_scored(folder, report) for folder, report in reports.items()]
    by_group = groups.grouped(scored)
    refused = {name for report in reports.values() for name in report.get("refused", {})}
    metrics = {name: what for name, what in first["protocol"]["metrics"].items() if name not in refused}
    gaps = _made(by_group, args.row, metrics, args.reference)
    gaps["digests"] = {name: digest for name, digest in first["digests"].items() if name not in OF_DATA}
    atomic.write_bytes(args.out / page.NAME, page.html(gaps, by_group).encode())
    atomic.write_bytes(args.out / MARKDOWN, markdown(gaps).encode())
    atomic.write_json(args.out / NAME, gaps)
    print(markdown(gaps), end="")
    print(args.out / NAME)
    print(args.out / page.NAME)
    return EXIT_DONE


def _scored(folder: Path, report: dict[str, Any]) -> Scored:
    clips = [clip for path in score_file.files(folder) for clip in score_file.read(path)[1]]
    return Scored(report["protocol"]["split"], tuple(report["protocol"]["corpora"]), clips)


def _refuse_others(first: dict[str, Any], report: dict[str, Any], one: Path, other: Path) -> None:
    """Raises UserError where two reports are of other models or were measured otherwise."""
    models = [{k: v for k, v in r["digests"].items() if k not in OF_DATA} for r in (first, report)]
    protocols = [{name: r["protocol"].get(name) for name in SAME} for r in (first, report)]
    differing = [name for a, b in (models, protocols) for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    if differing:
        raise UserError(
            f"{other} and {one} differ in {', '.join(differing)}; name reports of the same models and protocol"
        )


def _made(by_group: dict[str, list], row: str, metrics: dict[str, Any], reference: str | None = None) -> dict[str, Any]:
    """What gaps.json holds of the metrics, which every report knows.

    The reference is, unless named, the first group: people seen, where they are.
    """
    if len(by_group) < 2:
        raise UserError(
            f"there is one group, {', '.join(by_group)}, and no gap; name reports of other splits or corpora"
        )
    reference = reference or next(iter(by_group))
    if reference not in by_group:
        raise UserError(f"there is no group '{reference}'; there are: {', '.join(by_group)}")
    table = {
        name: {
            "groups": groups.entries(by_group, row, name),
            "gaps": {
                group: groups.gap(clips, by_group[reference], row, name)
                for group, clips in by_group.items()
                if group != reference
            },
        }
        for name in metrics
    }
    people = {group: len({clip.person for clip in clips}) for group, clips in by_group.items()}
    return {
        "row": row,
        "reference": reference,
        "people": people,
        "metrics": metrics,
        "table": {name: found for name, found in table.items() if found["groups"]},
        "method": groups.METHOD,
    }


def markdown(made: dict[str, Any]) -> str:
    """The gaps as a table: a line for each metric, each group's mean, and its gap to the reference."""
    head = [f"{made['row']}", *(f"{group} ({count} people)" for group, count in made["people"].items())]
    lines = [head, ["---"] * len(head)]
    for name, found in made["table"].items():
        cells = []
        for group in made["people"]:
            entry, gap = found["groups"].get(group), found["gaps"].get(group)
            text = "not measured" if entry is None else shown(entry)
            cells.append(text if gap is None else f"{text}; gap {shown(gap)}")
        lines.append([f"`{name}`, {made['metrics'][name]['better']} is better", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
