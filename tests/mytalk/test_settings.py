"""One checker of bounds, and how it words them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import pytest

from mytalk.settings import Settings, groups, help_text, setting, table


@dataclass
class Shared(Settings):
    """Keys of all."""

    name: str = setting("a", "what it is called")
    rate: float = setting(0.5, "how fast", unit="Hz", above=0)


@dataclass
class Part(Settings):
    """Keys of a part."""

    part = "model"

    width: int = setting(8, "how wide", at_least=1, below=100)
    rates: tuple[float, float] = setting((0.1, 0.2), "of both", at_least=0, at_most=1)
    mode: str = setting("a", "how", choices=("a", "b", "c"))
    sizes: list[int] = setting([1, 2], "of levels", at_most=2.0**24)


@dataclass
class Own(Shared):
    """Keys of one."""

    name: str = "b"
    count: int = setting(3, "how many", at_most=5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shared(rate=0), "rate must be above 0, not 0"),
        (lambda: Shared(rate=math.nan), "rate must be above 0, not NaN"),
        (lambda: Part(width=0), "model.width must lie in [1, 100), not be 0"),
        (lambda: Part(width=100), "model.width must lie in [1, 100), not be 100"),
        (lambda: Part(rates=(0.5, 1.5)), "model.rates must lie in [0, 1], not be [0.5, 1.5]"),
        (lambda: Part(mode="d"), "model.mode must be a, b or c, not 'd'"),
        (lambda: Part(sizes=[2**25]), "model.sizes must be 2^24 or less, not [33554432]"),
        (lambda: Own(rate=-1.0), "rate must be above 0, not -1.0"),
        (lambda: Own(count=6), "count must be 5 or less, not 6"),
    ],
)
def test_a_value_out_of_bounds_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_values_at_closed_bounds_are_taken():
    assert Part(width=1, rates=(0.0, 1.0), mode="c", sizes=[2**24]).width == 1


def test_no_two_configs_share_a_mutable_default():
    Part().sizes.append(7)
    assert Part().sizes == [1, 2]


def test_a_key_belongs_to_the_class_that_introduces_it_and_keeps_its_meaning():
    """A class that only changes a default inherits the meaning; the default shown is its own."""
    shared, own = groups(Own).values()
    assert [key.name for key in shared] == ["name", "rate"]
    assert (shared[0].default, shared[0].meaning) == ("b", "what it is called")
    assert [key.name for key in own] == ["count"]


def test_help_and_table_show_type_unit_bounds_default_and_meaning():
    assert "Keys of all.\n\n" in help_text(Own)
    assert "  rate=0.5  (float, Hz, above 0)  how fast\n" in help_text(Own)
    assert "| `rate` | `0.5` | float, Hz, above 0 | how fast |" in table(next(iter(groups(Own).values())))
