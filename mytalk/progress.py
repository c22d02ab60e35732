"""Progress of long work: rate and time left, one moving line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Counts finished units and prints `name 12/80 15% 3.1 clips/s ETA 0:22`.

    `done` is what an earlier run already finished: it counts towards the total, not towards the rate.
    On a terminal the line is rewritten at most 5 times a second; in a log one line comes every
    `log_every_s` seconds. `finish` prints the closing line.
    """

    def __init__(
        self,
        name: str,
        total: int,
        unit: str,
        done: int = 0,
        log_every_s: float = 10.0,
        stream: TextIO | None = None,
    ):
        self.name, self.total, self.unit = name, total, unit
        self.before = self.done = done
        self.stream = sys.stderr if stream is None else stream
        self.on_terminal = self.stream.isatty()
        self.every_s = 0.2 if self.on_terminal else log_every_s
        self.started = self.printed = time.monotonic()

    def step(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units as finished."""
        self.done += n
        if time.monotonic() - self.printed >= self.every_s:
            self._print(note, last=False)

    def finish(self, note: str = "") -> None:
        """Print the closing line."""
        self._print(note, last=True)

    def say(self, text: str) -> None:
        """Print a line above the moving one."""
        self.stream.write(f"\r\x1b[K{text}\n" if self.on_terminal else f"{text}\n")
        self.stream.flush()

    def rate(self) -> float:
        """Units per second since this process began."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)

    def _print(self, note: str, last: bool) -> None:
        self.printed = time.monotonic()
        rate = self.rate()
        if last:
            left = f"in {clock(self.printed - self.started)}"
        elif rate > 0:
            left = f"ETA {clock((self.total - self.done) / rate)}"
        else:
            left = "ETA -:--"
        share = 100 * self.done // max(self.total, 1)
        line = f"{self.name} {self.done}/{self.total} {share}% {rate:.3g} {self.unit}/s {left}"
        line = f"{line} {note}".rstrip()
        if self.on_terminal:
            self.stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """Seconds as `h:mm:ss` or `m:ss`."""
    whole = round(max(seconds, 0))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
