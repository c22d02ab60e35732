"""Filters: sqlite's answer on any rows, Arrow columns of every making, and nothing run that was not meant."""

from __future__ import annotations

import math
import sqlite3

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipeline.sample import filter
from mytalk.command import UserError

NUMBERS = st.one_of(st.integers(-4, 4), st.sampled_from([-2.5, -0.0, 0.5, 1.0, 3.25]))
TEXTS = st.sampled_from(["hdtf", "mead", "nc", "", "Ünï 'q'", 'say "hi"'])
TYPES = {"a": pa.int32(), "b": pa.float64(), "c": pa.int64(), "s": pa.string(), "t": pa.string(), "y": pa.bool_()}
OF_KIND = {"number": ("a", "b", "c"), "text": ("s", "t"), "truth": ("y",)}
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(-4, 4),
            "b": st.none() | NUMBERS.map(float),
            "c": st.none() | st.integers(-4, 4) | st.sampled_from([2**53 + 1, -(2**60) - 1]),
            "s": st.none() | TEXTS,
            "t": st.none() | TEXTS,
            "y": st.none() | st.booleans(),
        }
    ),
    max_size=12,
)


def ours(value) -> str:
    """A constant as a filter has it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def sql(value) -> str:
    """A constant as SQL has it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(int(value)) if isinstance(value, bool) else repr(value)


@st.composite
def comparisons(draw) -> tuple[str, str]:
    """A comparison, as a filter has it and as SQL has it."""
    kind = draw(st.sampled_from(sorted(OF_KIND)))
    names, constants = (
        st.sampled_from(OF_KIND[kind]),
        {"number": NUMBERS, "text": TEXTS, "truth": st.booleans()}[kind],
    )
    name, form = draw(names), draw(st.sampled_from(["is", "in", "chain", "compare"]))
    if form == "is":
        word = draw(st.sampled_from(["is", "is not"]))
        return f"{name} {word} None", f"({name} {word} NULL)"
    if form == "in":
        word, values = draw(st.sampled_from(["in", "not in"])), draw(st.lists(constants, min_size=1, max_size=4))
        ends = draw(st.sampled_from(["()", "[]"]))
        listed = ", ".join(map(ours, values)) + ("," if ends == "()" else "")
        return f"{name} {word} {ends[0]}{listed}{ends[1]}", f"({name} {word} ({', '.join(map(sql, values))}))"
    links = draw(st.integers(2, 3)) if form == "chain" else 1
    sides = [(name, name)]
    for _ in range(links):
        other = draw(names.map(lambda n: (n, n)) | constants.map(lambda v: (ours(v), sql(v))))
        if other[0] not in TYPES and sides[-1][0] not in TYPES:
            other = (name, name)
        sides.append(other)
    if draw(st.booleans()):
        sides.reverse()
    signs = ["==", "!="] if kind == "truth" else ["==", "!=", "<", "<=", ">", ">="]
    between = [draw(st.sampled_from(signs)) for _ in range(links)]
    text = sides[0][0] + "".join(f" {sign} {side[0]}" for sign, side in zip(between, sides[1:]))
    pairs = [f"({left[1]} {sign} {right[1]})" for left, sign, right in zip(sides, between, sides[1:])]
    return text, "(" + " AND ".join(pairs) + ")"


conditions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda one: (f"(not {one[0]})", f"(NOT {one[1]})")),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)).map(
            lambda both: tuple("(" + f" {both[0]} ".join(part[i] for part in both[1]) + ")" for i in (0, 1))
        ),
    ),
    max_leaves=6,
)


def by_sqlite(condition: str, rows: list[dict]) -> np.ndarray:
    """Which rows SQL keeps."""
    base = sqlite3.connect(":memory:")
    base.execute("create table clips (n, a, b, c, s, t, y)")
    base.executemany(
        "insert into clips values (?, ?, ?, ?, ?, ?, ?)",
        [(n, *(row[name] for name in TYPES)) for n, row in enumerate(rows)],
    )
    kept = {n for (n,) in base.execute(f"select n from clips where {condition}")}
    base.close()
    return np.array([n in kept for n in range(len(rows))], bool)


def columns_of(rows: list[dict], how: str = "plain") -> dict[str, pa.Array | pa.ChunkedArray]:
    """The rows as Arrow columns: plain, with text (and numbers) as dictionaries, or in chunks of both."""
    made = {}
    for name, kind in TYPES.items():
        array = pa.array([row[name] for row in rows], kind)
        coded = array if kind == pa.bool_() else array.dictionary_encode()
        half = len(rows) // 2
        chunks = [array[:half].dictionary_encode(), array[half:].dictionary_encode()]
        in_chunks = pa.chunked_array([array[:half], array[half:]] if kind == pa.bool_() else chunks)
        made[name] = {"plain": array, "coded": coded, "chunks": in_chunks}[how]
    return made


@given(st.lists(conditions, min_size=1, max_size=3), ROWS, st.sampled_from(["plain", "coded", "chunks"]))
@settings(max_examples=150 if settings.default.derandomize else 500, deadline=None)
@example([("not b > 1", "NOT b > 1")], [dict.fromkeys(TYPES)], "plain")
@example([("b in (0.0, 1)", "b in (0.0, 1)")], [dict.fromkeys(TYPES) | {"b": -0.0}], "plain")
def test_rows_are_kept_as_by_sqlite(terms, rows, how):
    """Whole filters and each term alone, with missing values; and the rows of a part as they are in the whole."""
    text = " and ".join(mine for mine, _ in terms)
    if len(text) > filter.LONGEST:
        return
    made = filter.parse(text)
    kept, dropped = filter.keep(made, columns_of(rows, how), len(rows))
    assert kept.dtype == bool
    assert kept.tolist() == by_sqlite(" AND ".join(f"({theirs})" for _, theirs in terms), rows).tolist()
    if len(terms) > 1:
        bare = [mine[1:-1] if mine.startswith("(") else mine for mine, _ in terms]
        assert list(made.terms) == bare
        assert dropped == {
            term: int((~by_sqlite(theirs, rows)).sum()) for term, (_, theirs) in zip(bare, terms, strict=True)
        }
    parts = [filter.keep(made, columns_of([row], how), 1)[0] for row in rows]
    assert np.concatenate([*parts, np.zeros(0, bool)]).tolist() == kept.tolist()


def test_text_columns_and_terms():
    made = filter.parse(' sync >= 3 and\n corpus in ("hdtf", "mead") and (not yaw > 30 or corpus is None) ')
    assert made == filter.Where(
        'sync >= 3 and  corpus in ("hdtf", "mead") and (not yaw > 30 or corpus is None)',
        ("corpus", "sync", "yaw"),
        ("sync >= 3", 'corpus in ("hdtf", "mead")', "not yaw > 30 or corpus is None"),
    )
    assert filter.parse(made.text) == made
    either = filter.parse("a > 1 or b > 2 and c > 3")
    assert either.terms == ("a > 1 or b > 2 and c > 3",)
    chain = filter.parse("3 <= a < 200")
    assert chain.terms == ("3 <= a < 200",)


@pytest.mark.parametrize("empty", ["", "   ", "\n"])
def test_an_empty_filter_keeps_everything(empty):
    made = filter.parse(empty)
    assert made == filter.Where("", (), ())
    kept, dropped = filter.keep(made, {}, 3)
    assert (kept.tolist(), dropped) == ([True] * 3, {})


def test_nan_compares_as_ieee_says():
    """With numpy as the reference: false to everything but !=, and a value, not a missing one."""
    values = np.array([math.nan, 1.0, math.inf])
    columns = {"b": pa.array(values), "a": pa.array([1, 1, 1])}
    for text, wanted in {
        "b >= 1": values >= 1,
        "b != 1": values != 1,
        "not b >= 1": ~(values >= 1),
        "b == b": values == values,
        "b in (1, 2)": np.isin(values, [1, 2]),
        "b not in (1, 2)": ~np.isin(values, [1, 2]),
        "b is None": np.zeros(3, bool),
        "b <= a": values <= 1,
    }.items():
        assert filter.keep(filter.parse(text), columns, 3)[0].tolist() == wanted.tolist(), text


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2, None], pa.uint64()),
        pa.array([1, 2, None], pa.int8()),
        pa.array([1, 2, None], pa.float32()),
        pa.array([1, 2, None], pa.decimal128(5, 2)),
        pa.array([1, 2, None], pa.int64()).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), pa.array([1.0, 2.0, None])),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_of_any_type(column):
    for text, wanted in {"x > 1": 1, "x in (1, 2.0)": 2, "x != 1.5": 2, "x is None": 1, "x == x": 2}.items():
        assert filter.keep(filter.parse(text), {"x": column}, 3)[0].sum() == wanted, text


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_text_of_any_type(kind):
    columns = {"x": pa.array(["a", "b", None], kind), "z": pa.array(["a", "a", "a"]).dictionary_encode()}
    for text, wanted in {'x == "a"': [1, 0, 0], 'x in ("b", "c")': [0, 1, 0], "x != z": [0, 1, 0]}.items():
        assert filter.keep(filter.parse(text), columns, 3)[0].tolist() == wanted, text


def test_a_column_of_nothing_but_missing_values_is_unknown():
    columns = {"x": pa.nulls(2), "a": pa.array([1, 2])}
    wanted = {"x > 1": 0, 'x != "a"': 0, "not x in (1, 2)": 0, "a < x": 0, "x is None": 2, "x == x": 0, "x == true": 0}
    for text, count in wanted.items():
        assert filter.keep(filter.parse(text), columns, 2)[0].sum() == count, text


HOSTILE = {
    "().__class__.__bases__[0] == a": "().__class__.__bases__[0]",
    "a.real > 1": "a.real",
    "__import__('os').system('true') == 0": "__import__('os')",
    "open('x') == a": "open('x')",
    "a > max(1, 2)": "max(1, 2)",
    "lambda: a > 1": "lambda: a > 1",
    "(a := 3) > 2": "a := 3",
    'f"{a}" == s': 'f"{a}"',
    "[a for a in s] == 1": "[a for a in s]",
    "a in (b for b in s)": "a in (b for b in s)",
    "a in {1, 2}": "a in {1, 2}",
    "a in (1, b)": "'b'",
    "a in ()": "a in ()",
    "1 in (1, 2)": "1 in (1, 2)",
    "a in (1, 'x')": "(1, 'x')",
    "a + 1 > 2": "a + 1",
    "a & 3 == 2": "a & 3",
    "a[0] > 1": "a[0]",
    "a if b > 1 else c": "a if b > 1 else c",
    "a > 1, b > 2": "a > 1, b > 2",
    "a == None": "is None",
    "a is 3": "a is 3",
    "a is null": "a is null",
    "a": "a == true",
    "true": "true",
    "1 < 2": "1 < 2",
    "3 < 5 < a": "3 < 5",
    "a > - -3": "- -3",
    "a > -true": "-true",
    "s > -'x'": "-'x'",
    "s > b'x'": "b'x'",
    "a > 3j": "3j",
    "a > ...": "...",
    "a = 3": "= 3",
    "a > 3; b": "; b",
    "a > 1 AND b > 2": "AND b > 2",
    "import os": "import os",
    "await a": "await a",
    "yield a": "yield a",
    "*a": "*a",
    "a > 1 # and b > 2": "# and b > 2",
    "a > 1 #\nand b > 2": "# and b > 2",
    "a >": "",
    "a > 'x": "'x",
    "a) or (b": "",
    "a\0 > 1": "",
    "s == '\\ud800'": "'\\ud800'",
    "s == '\udc80'": "",
    "a > " + "9" * 400: "9999",
    "a > -9007199254740992": "-9007199254740992",
    "a > 1e999": "1e999",
    "a == 1" + " or a == 1" * 100: "1000",
    "(" * 10_000 + "a > 1" + ")" * 10_000: "1000",
    "(" * 450 + "a > 1" + ")" * 450: "",
    "not " * 240 + "a > 1": "deep",
    "-" * 990 + "1 > a": "",
    "a" + "." + "a" * 900: "a.aaa",
    "a > '\u2028\x85\x1b[2J'()": "",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:30]))
def test_an_invalid_filter_is_refused_in_one_line_that_names_the_fault(text):
    with pytest.raises(UserError) as refused:
        filter.parse(text)
    message = str(refused.value)
    assert HOSTILE[text] in message
    assert filter.EXAMPLE in message
    assert message.isprintable()
    assert len(message) < 350


WORDS = st.sampled_from([*"as()<,.[:#-1", "and", "or", "not", "in", "is", "None", "==", "'x'"])


@given(st.text(max_size=60) | st.lists(WORDS).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_filter_or_refused_in_one_line(text):
    """And a filter that was read can be used, or says in one line why not."""
    said = ""
    try:
        made = filter.parse(text)
        kept, _ = filter.keep(made, {"a": pa.array([1, None]), "s": pa.array(["x", None])}, 2)
        assert kept.shape == (2,)
    except UserError as error:
        said = str(error)
    assert said.isprintable()


def test_the_example_is_a_filter():
    assert filter.parse(filter.EXAMPLE).columns == ("corpus", "sync_confidence", "yaw_deg")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("corpus > 3", "compares text with numbers"),
        ("3 < corpus", "compares numbers with text"),
        ('face_px == "x"', "compares numbers with text"),
        ('face_px in ("x",)', "compares numbers with text"),
        ("corpus == face_px", "compares text with numbers"),
        ("flag == 1", "compares true or false with numbers"),
        ("flag < true", "no order"),
        ("crop == 3", "column 'crop' is of type list<"),
        ("face_pz > 3", "unknown column 'face_pz'; did you mean face_px?"),
        ("zzz > 3", "unknown column 'zzz'; there are: corpus, crop, face_px, flag"),
    ],
)
def test_columns_that_cannot_be_compared_are_named(text, said):
    columns = {
        "corpus": pa.array(["a"]).dictionary_encode(),
        "face_px": pa.array([96.0]),
        "flag": pa.array([True]),
        "crop": pa.array([[1.0]]),
    }
    with pytest.raises(UserError, match=said.replace("?", r"\?")) as refused:
        filter.keep(filter.parse(text), columns, 1)
    assert text in str(refused.value) or "crop" in text
    assert str(refused.value).isprintable()
