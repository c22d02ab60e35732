"""A thread that makes items before they are asked for."""

from __future__ import annotations

import threading

import pytest

from mytalk.ahead import ahead, together


def test_items_come_in_order_and_at_most_so_many_are_made_ahead():
    made: list[int] = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    for used, number in enumerate(ahead(items(), 3)):
        assert number == used
        assert len(made) <= used + 1 + 3
    assert made == list(range(20))


def test_an_item_is_made_while_another_is_used():
    asked_for_second = threading.Event()

    def items():
        yield 1
        asked_for_second.set()
        yield 2

    results = ahead(items(), 1)
    assert next(results) == 1
    assert asked_for_second.wait(10), "nobody has asked for it yet"
    assert list(results) == [2]


def test_what_goes_wrong_is_raised_in_its_place():
    def items():
        yield 1
        raise OSError("the disk is gone")

    results = ahead(items(), 4)
    assert next(results) == 1
    with pytest.raises(OSError, match="disk"):
        next(results)


def test_closed_it_leaves_no_thread():
    before = threading.active_count()
    results = ahead(iter(range(1000)), 2)
    next(results)
    assert threading.active_count() == before + 1
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads):
    assert list(together(lambda number: 2 * number, range(10), threads)) == list(range(0, 20, 2))

    def refuse(number):
        if number == 4:
            raise OSError("the disk is gone")
        return number

    results = together(refuse, range(10), threads)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="disk"):
        next(results)


def test_so_many_items_are_worked_on_at_a_time():
    both = threading.Barrier(2)
    assert sorted(together(lambda number: both.wait(10), range(4), 2)) == [0, 0, 1, 1]
