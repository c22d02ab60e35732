"""`python -m eval judges`: every file of weights of others, whether it is there, and its terms.

A judge whose file is missing is left out of reports by name. Files without a package are brought by the user: put them
into a folder and name it in the environment variable MYTALK_WEIGHTS.
"""

from __future__ import annotations

import argparse
import textwrap

from eval.judges import load
from mytalk import command
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE


def arguments() -> argparse.ArgumentParser:
    """The command's arguments."""
    return command.parser("python -m eval judges", __doc__, "python -m eval judges")


def run(args: argparse.Namespace) -> int:
    """Print the table. Exit code 1 where some file is another than the registry names."""
    states = load.states()
    width = max(len(one.name) for one in states)
    for one in states:
        print(f"{one.name.ljust(width)}  {one.state}")
        lines = [one.weights.use, f"licence: {one.weights.licence}", f"source: {one.weights.source}"]
        if one.state == load.THERE and not one.weights.sha256:
            lines.append(f"sha256: {one.sha256} (none is named in configs/weights.yaml)")
        if one.state != load.THERE:
            lines.append(f"install: {one.weights.install}")
        for line in lines:
            print(textwrap.fill(line, 118, initial_indent=" " * 4, subsequent_indent=" " * 6))
    return EXIT_NOT_DONE if any(one.state == load.WRONG for one in states) else EXIT_DONE
