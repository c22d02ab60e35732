"""Damaged clips that were replaced by others, and how many a corpus may have before the run stops."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from data_pipeline.sample.batches import BadExample
from mytalk import atomic
from mytalk.command import UserError, one_line

FILE = "bad_examples.jsonl"


class BadExampleLog:
    """RUN/bad_examples.jsonl: a line for every slot whose clip could not be read, with key, corpus and reason.

    All ranks hold the same; rank 0 writes. Clips of earlier starts count, unless the data changed (`anew`). Lines of
    slots from `slots_done` on belong to steps that will be taken again.
    """

    def __init__(
        self, run: Path, clips: Mapping[str, int], share: float, slots_done: int, writes: bool, anew: bool = False
    ):
        self.path, self.clips, self.share, self.writes = run / FILE, dict(clips), share, writes
        self.waiting = ""  # lines that could not be written yet
        self.keys: dict[str, dict[str, str]] = {}  # corpus -> damaged key -> why
        kept = [row for row in _lines(self.path) if row["slot"] < slots_done]
        for row in () if anew else kept:
            self.keys.setdefault(row["corpus"], {})[row["key"]] = row["message"]
        if writes and self.path.exists():
            atomic.write_bytes(self.path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def add(self, found: Sequence[BadExample]) -> None:
        """Enter the damaged clips of one step, of all ranks. Raises UserError if a corpus has more than its share."""
        found = sorted(found, key=lambda bad: (bad.slot, bad.key))
        if self.writes:
            self.waiting += "".join(json.dumps(asdict(bad)) + "\n" for bad in found)
            try:
                atomic.append(self.path, self.waiting.encode())
                self.waiting = ""
            except OSError as error:  # a full disk ends no run
                print(f"warning: {self.path} lacks some lines: {one_line(error)}", file=sys.stderr, flush=True)
        for bad in found:
            self.keys.setdefault(bad.corpus, {})[bad.key] = bad.message
        for corpus, damaged in self.keys.items():
            clips = next(iter(self.clips.values())) if len(self.clips) == 1 else self.clips.get(corpus, 0)
            if len(damaged) > max(1, int(self.share * clips)):
                key, why = next(iter(damaged.items()))
                raise UserError(
                    f"{len(damaged)} of {clips} clips of corpus '{corpus}' are damaged, more than "
                    f"bad_share={self.share} (first: {key}: {why}; all in {self.path}); mend the shards and remove "
                    "their lines there, leave the clips out with where=... and accept_changes=true, or raise bad_share"
                )


def _lines(path: Path) -> list[dict]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a kill
            continue
    return rows
