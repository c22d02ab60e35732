"""Where the time of a scoring goes."""

from __future__ import annotations

import pytest

from eval.rows import stages
from eval.rows.stages import stage


class Network:
    """Half of the time is inside of it, in a part of its own."""

    def __init__(self, tick) -> None:
        self.tick = tick

    def whole(self) -> str:
        self.tick(1)
        return self.part()

    def part(self) -> str:
        self.tick(2)
        return "done"


def test_stages_and_networks_add_up_and_are_charged_once(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(stages.time, "process_time", lambda: now[0])

    def tick(seconds: float) -> None:
        now[0] += seconds

    network = Network(tick)
    with stage("nobody asks"):
        tick(5)
    with stages.clocked() as clock:
        clock.watch(network, "whole", "part")
        with stage("outer"):
            tick(10)
            with stage("inner"):
                assert network.whole() == "done"
                tick(4)
        with pytest.raises(ZeroDivisionError), stage("broken"):
            tick(1 / (tick(1) or 0))
        network.part()
    assert clock.table() == {"outer": (10, 0), "inner": (7, 3), "broken": (1, 0), stages.REST: (2, 2)}
    assert clock.in_words().splitlines()[-1] == "share of the networks themselves: 0.25"
    with stage("nobody asks"):
        tick(5)
    assert "nobody asks" not in clock.table()
