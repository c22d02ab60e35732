"""Hostfiles in DeepSpeed's format: a line `NAME slots=N` for each host, in the order of their ranks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from mytalk.command import UserError

LINE = re.compile(r"(\S+)\s+slots=(\d+)")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@%-]*")  # never an option of ssh


@dataclass(frozen=True)
class Host:
    """A machine as ssh knows it, and how many processes it takes."""

    name: str
    slots: int


def read(file: Path) -> list[Host]:
    """The hosts of a file; UserError, with the line, for what is none. `#` begins a comment."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a hostfile ({type(error).__name__}); name another") from None
    hosts: list[Host] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match, where = LINE.fullmatch(text), f"{file}, line {number}"
        if match is None or not NAME.fullmatch(match[1]):
            raise UserError(f"{where}: a host is written NAME slots=N, not {text!r}")
        if int(match[2]) < 1:
            raise UserError(f"{where}: {match[1]} has no slots; give it some, or remove the line")
        if match[1] in [host.name for host in hosts]:
            raise UserError(f"{where}: {match[1]} comes a second time; write one line for all of its slots")
        hosts.append(Host(match[1], int(match[2])))
    if not hosts:
        raise UserError(f"{file} names no host; write lines such as: node1 slots=8")
    return hosts


def shared(hosts: list[Host], processes: int) -> list[Host]:
    """The first hosts that hold so many processes, the last of them perhaps with fewer than it could take."""
    chosen: list[Host] = []
    for host in hosts:
        left = processes - sum(one.slots for one in chosen)
        if left > 0:
            chosen.append(replace(host, slots=min(host.slots, left)))
    assert sum(host.slots for host in chosen) == processes, "the caller asks for no more than there are"
    return chosen
