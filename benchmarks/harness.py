"""What the benchmarks share: contestants take turns, and each line of the table compares them round by round.

A busy machine slows all that take turns alike: what is compared is each round's ratio.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mytalk import command
from mytalk.progress import Progress


@dataclass
class Row:
    """A line of the table. `values` are one a round."""

    what: str
    ours: str
    other: str
    values: list[float]
    goal: str = "-"
    cpu_ratio: float | None = None


def turns(what: str, contestants: int, rounds: int) -> Iterator[int]:
    """The number of the contestant whose turn it is; who begins alternates from round to round."""
    progress = Progress(what, rounds, "rounds")
    for number in range(rounds):
        yield from list(range(contestants))[:: -1 if number % 2 else 1]
        progress.step()
    progress.finish()


def table(rows: list[Row]) -> list[str]:
    """Lines of Markdown: the median of the rounds, with the least and the most."""
    lines = ["| what | ours | the other's | median of the rounds | by CPU time | goal |", "|---|---|---|---|---|---|"]
    for row in rows:
        cpu = "-" if row.cpu_ratio is None else f"{row.cpu_ratio:.3f}"
        least, middle, most = np.percentile(row.values, (0, 50, 100)) if row.values else (math.nan,) * 3
        lines.append(
            f"| {row.what} | {row.ours} | {row.other} | **{middle:.3f}** ({least:.3f} to {most:.3f}) | {cpu} "
            f"| {row.goal} |"
        )
    return lines


def report(conditions: str, rows: list[Row], out: Path | None) -> int:
    """Print the conditions and the table, write the rows as JSON where asked for; the exit code."""
    print(f"{conditions}\n")
    print("\n".join(table(rows)))
    if out:
        out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return command.EXIT_DONE


def end(program: str, run: Callable[[], int]) -> None:
    """Run a benchmark as a command and exit."""
    sys.exit(command.guarded(program, run, "--debug" in sys.argv))
