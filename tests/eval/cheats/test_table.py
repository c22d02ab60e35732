"""The honesty table: verdicts of differences and ladders, worked out by hand."""

from __future__ import annotations

import pytest

from eval.cheats import plan, table, text
from eval.metrics import VIDEO_METRICS
from eval.metrics.metric import Metric
from eval.score_file import ClipScore


def measure(better: str) -> Metric:
    return Metric(lambda row: 0.0, "by hand", "px", better)


def scores(**values: list[float]) -> list[ClipScore]:
    """Row -> its value of `m` on the only clip of each person."""
    people = zip(*values.values(), strict=True)
    return [
        ClipScore(f"k{number}", f"p{number}", methods={row: {"m": value} for row, value in zip(values, of_person)})
        for number, of_person in enumerate(people)
    ]


@pytest.mark.parametrize(
    ("better", "row", "verdict"),
    [
        ("lower", [2.0, 2.1, 2.2], table.WORSE),
        ("higher", [2.0, 2.1, 2.2], table.BETTER),
        ("lower", [0.0, 1.1, 2.2], table.SAME),
        ("one", [2.0, 2.1, 2.2], table.WORSE),
        ("zero", [0.1, 0.0, 0.2], table.BETTER),
        ("real", [0.1, 0.0, 0.2], table.WORSE),
    ],
)
def test_a_row_is_worse_where_the_interval_over_people_says_so(better, row, verdict) -> None:
    made = table.cell(scores(real=[1.0, 1.1, 0.9], row=row), "m", measure(better), "row", "real")
    assert made["verdict"] == verdict
    assert made["difference"]["n"] == 3


def test_a_leak_is_the_better_row_and_one_person_says_nothing() -> None:
    pair = scores(still=[0.0, 0.1, -0.1], copied=[0.9, 1.0, 0.95])
    assert table.cell(pair, "m", measure("higher"), "copied", "still", leak=True)["verdict"] == table.WORSE
    assert table.cell(pair, "m", measure("higher"), "copied", "still")["verdict"] == table.BETTER
    assert table.cell(pair[:1], "m", measure("higher"), "copied", "still")["verdict"] == table.UNKNOWN
    assert table.cell([], "m", measure("higher"), "copied", "still") == {"difference": None, "verdict": table.UNKNOWN}


@pytest.mark.parametrize(
    ("better", "rungs", "verdict"),
    [
        ("lower", ([1, 2, 3], [2, 3, 4], [4, 5, 6]), table.IN_ORDER),
        ("higher", ([1, 2, 3], [2, 3, 4], [4, 5, 6]), table.REWARDED),
        ("lower", ([1, 2, 3], [7, 8, 9], [4, 5, 6]), table.OUT_OF_ORDER),
        ("lower", ([1, 2, 3], [2, 2, 2], [3, 2, 1]), table.INSENSITIVE),
        ("real", ([4, 5, 6], [3, 4, 5], [1, 2, 2.5]), table.IN_ORDER),
    ],
)
def test_a_measure_responds_in_order_or_is_named(better, rungs, verdict) -> None:
    named = dict(zip(("a", "b", "c"), ([float(v) for v in rung] for rung in rungs)))
    made = table.rung_by_rung(scores(**named), "m", measure(better), ("a", "b", "c"))
    assert made["verdict"] == verdict
    assert made["means"] == [pytest.approx(sum(rung) / 3) for rung in rungs]


def test_the_plan_names_rows_that_exist_and_measures_with_a_judge_or_their_absence() -> None:
    rows = plan.rows()
    assert set(plan.EXPECTED) | {expected.than for expected in plan.EXPECTED.values()} <= set(plan.rows(ladders=False))
    assert {rung for rungs in plan.LADDERS.values() for rung in rungs} <= set(rows)
    assert next(iter(rows)) == plan.REAL
    assert all(any(name in VIDEO_METRICS for name in expected.measures) for expected in plan.EXPECTED.values())


def test_the_table_names_missing_judges_and_lost_rows() -> None:
    made = table.build(
        [
            ClipScore(f"k{n}", f"p{n}", methods={row: {"opening_correlation": v + 0.01 * n} for row, v in of.items()})
            for n, of in enumerate([{plan.REAL: 0.9, "late_4": 0.3, plan.STILL: 0.1}] * 3)
        ],
        plan.rows(ladders=False),
        {
            "opening_correlation": VIDEO_METRICS["opening_correlation"],
            "identity_cosine": VIDEO_METRICS["identity_cosine"],
        },
        {"identity_cosine": "no model was named (--identity)"},
    )
    assert made["cheats"]["late_4"]["caught"] is True
    assert made["cheats"]["swapped_person"]["caught"] is None
    assert made["cheats"]["swapped_person"]["missing"]["identity_cosine"] == "no model was named (--identity)"
    assert made["lost"]["swapped_person"] == 3
    whole = {
        "table": made,
        "coverage": {"people": {"scored": 3, "total": 3}, "clips": {"scored": 3, "total": 3}, "misses": []},
    }
    said = text.in_words(whole)
    assert "late_4: caught" in said
    assert "swapped_person: NO JUDGE" in said
    told = text.markdown(whole | {"refused": {"identity_cosine": "no model was named (--identity)"}}).splitlines()
    assert any(
        line.startswith("| `late_4` | `opening_correlation` | 0.600") and line.endswith("| x |") for line in told
    )
    assert "| `swapped_person` no judge | `csim@dlib`, `identity_cosine` |  | ? |" in told
    assert told[-1] == "Without a judge: `identity_cosine` (no model was named (--identity))."


def test_every_measure_has_a_short_cell_for_each_cheat_and_ladder() -> None:
    rungs = plan.LADDERS["picture late, 1 to 5 frames"]
    values = {plan.REAL: 0.9, **{rung: 0.8 - 0.1 * place for place, rung in enumerate(rungs)}, "vp9_20": 0.95}
    clips = [
        ClipScore(f"k{n}", f"p{n}", methods={row: {"a": v + 0.01 * n, "b": n} for row, v in values.items()})
        for n in range(3)
    ]
    made = table.build(clips, values, {name: measure("higher") for name in "ab"}, {})
    coverage = {"people": {"scored": 3, "total": 3}, "clips": {"scored": 3, "total": 3}, "misses": []}
    told = text.markdown({"table": made, "coverage": coverage}).splitlines()
    assert {"| measure | late 4 | vp9 20 |", "| `a` | x | LIKES |", "| `b` | - | - |"} <= set(told)
    assert {f"| ladder | {'picture late, 1 to 5 frames'} |", "| `a` | in order |", "| `b` | - |"} <= set(told)


def test_a_leak_is_marked_where_it_is_told_against_a_still_mouth() -> None:
    values = {plan.REAL: 0.99, f"{plan.STILL}_silent": 0.1, "copied_mouth_silent": 0.99}
    clips = [
        ClipScore(f"k{n}", f"p{n}", methods={row: {"opening_correlation": v + 0.001 * n} for row, v in values.items()})
        for n in range(3)
    ]
    made = table.build(clips, values, {"opening_correlation": measure("higher")}, {})
    coverage = {"people": {"scored": 3, "total": 3}, "clips": {"scored": 3, "total": 3}, "misses": []}
    assert "| `opening_correlation` | x |" in text.markdown({"table": made, "coverage": coverage}).splitlines()
