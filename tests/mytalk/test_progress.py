"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from mytalk import progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until the test moves it."""

    class Clock:
        now_s = 1000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now_s)
    return Clock


def test_progress_in_a_log_is_plain_lines_now_and_then(clock):
    out = io.StringIO()
    made = progress.Progress("extract", 80, "clips", log_every_s=10, stream=out)
    for _ in range(30):
        clock.now_s += 0.5
        made.step()
    made.finish("all well")
    lines = out.getvalue().splitlines()
    assert lines[0] == "extract 20/80 25% 2 clips/s ETA 0:30"
    assert lines[1] == "extract 30/80 37% 2 clips/s in 0:15 all well"
    assert len(lines) == 2
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()


def test_progress_on_a_terminal_is_one_line_with_an_eta(clock):
    out = Terminal()
    made = progress.Progress("train", 4000, "steps", done=1000, stream=out)
    clock.now_s += 0.1
    made.step(10)
    assert out.getvalue() == "", "at most five times a second"
    clock.now_s += 0.9
    made.step(90, "loss 0.5")
    made.finish()
    first, last = out.getvalue().split("\r\x1b[K")[1:]
    assert first == "train 1100/4000 27% 100 steps/s ETA 0:29 loss 0.5"
    assert last == "train 1100/4000 27% 100 steps/s in 0:01\n"


def test_progress_without_a_rate_or_a_total(clock):
    out = Terminal()
    made = progress.Progress("read", 0, "files", stream=out)
    clock.now_s += 1
    made.step(0)
    made.finish()
    assert "read 0/0 0% 0 files/s ETA -:--" in out.getvalue()
    assert [progress.clock(s) for s in (0, 59.4, 61, 3600, 90061, -3)] == [
        "0:00",
        "0:59",
        "1:01",
        "1:00:00",
        "25:01:01",
        "0:00",
    ]
