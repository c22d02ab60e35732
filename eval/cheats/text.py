"""The honesty table in words: for a terminal, and as Markdown for a document."""

from __future__ import annotations

from typing import Any

from eval.cheats.plan import RECODED
from eval.cheats.table import BETTER, IN_ORDER, INSENSITIVE, OUT_OF_ORDER, REWARDED, SAME, UNKNOWN, WORSE
from mytalk.intervals import shown

MARKS = {WORSE: "x", SAME: "-", BETTER: "LIKES", UNKNOWN: "?"}
RUNGS = {IN_ORDER: "in order", OUT_OF_ORDER: "mixed", INSENSITIVE: "-", REWARDED: "LIKES", UNKNOWN: "?"}
LEGEND = (
    "Differences are turned so that above 0 is worse, [95 % over people]. x: found worse than the real clip; -: not "
    "seen (the interval holds 0); LIKES: found better; ?: no value, or one person. On a ladder - is INSENSITIVE: do "
    "not use the measure to tell such damage; mixed: the worst rung is worse, but some rung is better than the one "
    "before."
)


def in_words(made: dict[str, Any]) -> str:
    """Coverage, the verdict on each cheat, the measures that do not respond, and who is missing, a line each."""
    lines = [_coverage(made["coverage"])]
    for cheat, entry in made["table"]["cheats"].items():
        word = {True: "caught", False: "NOT CAUGHT", None: "NO JUDGE"}[entry["caught"]]
        by = [f"{name} {_difference(one)}" for name, one in entry["meant"].items()]
        missing = [f"{name} missing: {why}" for name, why in entry["missing"].items()]
        lines.append(f"{cheat}: {word}{' as a leak' if entry['leak'] else ''}: {'; '.join([*by, *missing])}")
    for ladder, verdicts in made["table"]["ladders"].items():
        verdict_of = {name: one["verdict"] for name, one in verdicts.items()}
        words = [
            f"{v}: {', '.join(n for n in verdict_of if verdict_of[n] == v)}" for v in dict.fromkeys(verdict_of.values())
        ]
        lines.append(f"{ladder}: {'; '.join(words)}")
    if made["table"]["lost"]:
        lost = ", ".join(f"{row} {count}" for row, count in made["table"]["lost"].items())
        lines.append(f"clips whose face is no longer found, left out of the row: {lost}")
    return "\n".join(lines)


def markdown(made: dict[str, Any]) -> str:
    """What is meant for each cheat, then every measure by cheats and by ladders, in short cells."""
    table = made["table"]
    others = [name for name in RECODED if name in table["cells"]]
    columns = {name: table["cells"][name] | found["meant"] for name, found in table["cheats"].items()}
    columns |= {name: table["cells"][name] for name in others}
    lines = [f"{_coverage(made['coverage'])}. {LEGEND}", "", *_meant(table["cheats"]), ""]
    lines += _grid("measure", columns, MARKS)
    if table["ladders"]:
        lines += ["", *_grid("ladder", table["ladders"], RUNGS)]
    missing = [f"`{name}` ({why})" for name, why in made.get("refused", {}).items()]
    return "\n".join([*lines, *(["", f"Without a judge: {', '.join(missing)}."] if missing else [])]) + "\n"


def _meant(cheats: dict[str, Any]) -> list[str]:
    """A line for each cheat and each measure that is meant to catch it."""
    head = ["cheat", "meant for it", "how much worse", "sees it"]
    lines = [*_row(head), *_row(["---"] * len(head))]
    for cheat, found in cheats.items():
        caught = {True: "", False: " **NOT CAUGHT**", None: " no judge"}[found["caught"]]
        name = f"`{cheat}`{' (leak)' if found['leak'] else ''}{caught}"
        for measure, one in found["meant"].items():
            lines += _row([name, f"`{measure}`", _difference(one), MARKS[one["verdict"]]])
            name = ""
        if not found["meant"]:
            lines += _row([name, ", ".join(f"`{n}`" for n in found["missing"]), "", "?"])
    return lines


def _grid(what: str, columns: dict[str, dict[str, Any]], marks: dict[str, str]) -> list[str]:
    """Measures by columns, a mark a cell."""
    lines = [*_row([what, *(name.replace("_", " ") for name in columns)]), *_row(["---"] * (1 + len(columns)))]
    for measure in next(iter(columns.values())):
        lines += _row([f"`{measure}`", *(marks[found[measure]["verdict"]] for found in columns.values())])
    return lines


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
