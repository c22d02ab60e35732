"""The honesty table in words: for a terminal, and as Markdown for a document."""

from __future__ import annotations

from typing import Any

from eval.cheats.table import BETTER, SAME, UNKNOWN, WORSE
from mytalk.intervals import shown

MARKS = {WORSE: "caught", SAME: "no", BETTER: "LIKES IT", UNKNOWN: "?"}


def in_words(made: dict[str, Any]) -> str:
    """Coverage, the verdict on each cheat, the measures that do not respond, and who is missing, a line each."""
    lines = [_coverage(made["coverage"])]
    for cheat, found in made["table"]["cheats"].items():
        word = {True: "caught", False: "NOT CAUGHT", None: "NO JUDGE"}[found["caught"]]
        by = [f"{name} {_difference(one)}" for name, one in found["meant"].items()]
        missing = [f"{name} missing: {why}" for name, why in found["missing"].items()]
        lines.append(f"{cheat}: {word}{' as a leak' if found['leak'] else ''}: {'; '.join([*by, *missing])}")
    for ladder, verdicts in made["table"]["ladders"].items():
        found = {name: one["verdict"] for name, one in verdicts.items()}
        words = [f"{v}: {', '.join(n for n in found if found[n] == v)}" for v in dict.fromkeys(found.values())]
        lines.append(f"{ladder}: {'; '.join(words)}")
    if made["table"]["lost"]:
        lost = ", ".join(f"{row} {count}" for row, count in made["table"]["lost"].items())
        lines.append(f"clips whose face is no longer found, left out of the row: {lost}")
    return "\n".join(lines)


def markdown(made: dict[str, Any]) -> str:
    """The table of cheats by measures, then that of the ladders."""
    table = made["table"]
    measures = list(next(iter(table["cells"].values())))
    head = ["cheat", "caught by what is meant for it", *measures]
    lines = [f"{_coverage(made['coverage'])}.", "", *_row(head), *_row(["---"] * len(head))]
    for cheat, found in table["cheats"].items():
        meant = ", ".join(f"`{n}` {_difference(one)}" for n, one in found["meant"].items()) or "no judge"
        mark = {True: "**yes**", False: "**NO**", None: "?"}[found["caught"]]
        leak = " (leak)" if found["leak"] else ""
        lines += _row(
            [f"`{cheat}`", f"{mark}{leak}: {meant}", *(MARKS[table["cells"][cheat][m]["verdict"]] for m in measures)]
        )
    if table["ladders"]:
        head = ["ladder", *measures]
        lines += ["", *_row(head), *_row(["---"] * len(head))]
        for ladder, verdicts in table["ladders"].items():
            lines += _row([ladder, *(verdicts[name]["verdict"] for name in measures)])
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _coverage(coverage: dict[str, Any]) -> str:
    people, clips = coverage["people"], coverage["clips"]
    reasons = [miss["reason"] for miss in coverage["misses"]]
    missed = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    text = f"{people['scored']}/{people['total']} people, {clips['scored']}/{clips['total']} clips"
    return f"{text}; missed: {missed}" if missed else text


def _difference(one: dict[str, Any]) -> str:
    return "not measured" if one["difference"] is None else shown(one["difference"])
