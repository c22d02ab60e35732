"""The honesty table in words: for a terminal, and as Markdown for a document."""

from __future__ import annotations

from typing import Any

from eval.cheats.table import BETTER, IN_ORDER, INSENSITIVE, OUT_OF_ORDER, REWARDED, SAME, UNKNOWN, WORSE
from mytalk.intervals import shown

MOST_COLUMNS = 12
LADDER_VERDICTS = (IN_ORDER, OUT_OF_ORDER, INSENSITIVE, REWARDED)
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
    """The table of cheats by measures, then that of the ladders; many measures are listed instead of in columns."""
    table = made["table"]
    measures = list(next(iter(table["cells"].values())))
    wide = len(measures) <= MOST_COLUMNS
    columns = measures if wide else ["also caught by", "likes it", "not seen by"]
    head = ["cheat", "caught by what is meant for it", *columns]
    lines = [f"{_coverage(made['coverage'])}.", "", *_row(head), *_row(["---"] * len(head))]
    for cheat, found in table["cheats"].items():
        meant = ", ".join(f"`{n}` {_difference(one)}" for n, one in found["meant"].items()) or "no judge"
        mark = {True: "**yes**", False: "**NO**", None: "?"}[found["caught"]]
        verdicts = {name: one["verdict"] for name, one in table["cells"][cheat].items()}
        if wide:
            cells = [MARKS[verdicts[name]] for name in measures]
        else:
            others = {name: verdict for name, verdict in verdicts.items() if name not in found["meant"]}
            cells = [_listed(others, verdict) for verdict in (WORSE, BETTER, SAME)]
        lines += _row([f"`{cheat}`", f"{mark}{' (leak)' if found['leak'] else ''}: {meant}", *cells])
    if table["ladders"]:
        head = ["ladder", *(measures if wide else LADDER_VERDICTS)]
        lines += ["", *_row(head), *_row(["---"] * len(head))]
        for ladder, by_name in table["ladders"].items():
            found = {name: one["verdict"] for name, one in by_name.items()}
            cells = [found[name] for name in measures] if wide else [_listed(found, v) for v in LADDER_VERDICTS]
            lines += _row([ladder, *cells])
    return "\n".join(lines) + "\n"


def _listed(verdicts: dict[str, str], verdict: str) -> str:
    """The measures of one verdict."""
    return ", ".join(f"`{name}`" for name, found in verdicts.items() if found == verdict) or "none"


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
