"""Filters over the columns of a manifest: `sync_confidence >= 3 and corpus in ("hdtf", "mead")`.

A filter is written as Python writes conditions, and never evaluated as Python: its syntax tree is translated, over a
short list of what may stand there, into comparisons of Arrow columns. What is not on the list is refused.

Missing values are SQL's: a comparison with one is unknown, `and`, `or` and `not` follow Kleene's logic, and what is
unknown does not keep. `is None` and `is not None` are never unknown. NaN is a value, and compares as IEEE 754 says.
"""

from __future__ import annotations

import ast
import difflib
import functools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mytalk.command import UserError

LONGEST, DEEPEST = 1000, 40  # characters of a filter; conditions inside conditions
LARGEST = 2**53  # numbers stay below it: there a float64 is every integer's equal, and no comparison is rounded
EXAMPLE = 'sync_confidence >= 3 and corpus in ("hdtf", "mead") and not yaw_deg > 30'

Column: TypeAlias = "pa.Array | pa.ChunkedArray"
Constant = int | float | str | bool
COMPARISONS = {
    ast.Eq: ("==", pc.equal),
    ast.NotEq: ("!=", pc.not_equal),
    ast.Lt: ("<", pc.less),
    ast.LtE: ("<=", pc.less_equal),
    ast.Gt: (">", pc.greater),
    ast.GtE: (">=", pc.greater_equal),
}
WORDS = {ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"}
LOGIC = {ast.And: pc.and_kleene, ast.Or: pc.or_kleene}
TRUTHS = {"true": True, "false": False}
NUMBER, TEXT, TRUTH, MISSING = "numbers", "text", "true or false", "nothing but missing values"


@dataclass(frozen=True)
class Where:
    """A filter: its text in one line, the columns it reads (sorted), and the terms that its top-level `and` joins."""

    text: str
    columns: tuple[str, ...]
    terms: tuple[str, ...]


@dataclass(frozen=True)
class _Name:
    """A column."""

    name: str


@dataclass(frozen=True)
class _Test:
    """A comparison of two sides, at least one of them a column; or of a column with a tuple of constants, or None."""

    operator: type[ast.cmpop]
    left: _Name | Constant
    right: _Name | Constant | tuple[Constant, ...] | None
    text: str


@dataclass(frozen=True)
class _Logic:
    """Conditions joined by `and` or `or`."""

    operator: type[ast.boolop]
    parts: tuple[_Condition, ...]


@dataclass(frozen=True)
class _Not:
    part: _Condition


_Condition = _Test | _Logic | _Not


def parse(text: str) -> Where:
    """Read a filter; an empty one keeps everything. Raises UserError, naming the part that cannot stand there."""
    line = text.replace("\r", " ").replace("\n", " ").strip()
    terms = _terms(line)
    names: set[str] = set()
    for _, condition in terms:
        _collect(condition, names)
    return Where(line, tuple(sorted(names)), tuple(term for term, _ in terms))


def refuse_unknown(where: Where, known: Iterable[str]) -> None:
    """UserError, with the nearest name, where a filter reads a column that is not among those known."""
    known = sorted(known)
    for name in where.columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
            raise UserError(f"the filter '{_shown(where.text)}' reads an unknown column '{_shown(name)}'; {hint}")


def keep(where: Where, columns: Mapping[str, Column], count: int) -> tuple[np.ndarray, dict[str, int]]:
    """Which of `count` rows a filter keeps, (count,) bool, and how many rows each of its terms alone would drop.

    `columns` holds at least the filter's own columns of these rows, plain or dictionary-encoded. Every row is judged by
    itself: batches of rows may be filtered one after another. Raises UserError for an unknown column, and for a
    column compared with what it does not hold.
    """
    refuse_unknown(where, columns)
    plain = {name: _plain(name, columns[name]) for name in where.columns}
    assert all(len(column) == count for _, column in plain.values()), "columns and count are of the same rows"
    kept, dropped = np.ones(count, bool), {}
    for term, condition in _terms(where.text):
        mask = np.asarray(pc.fill_null(_truth(condition, plain), False).to_numpy(zero_copy_only=False), bool)
        dropped[term] = count - int(mask.sum())
        kept &= mask
    return kept, dropped


# From text to conditions


@functools.lru_cache(maxsize=64)
def _terms(line: str) -> tuple[tuple[str, _Condition], ...]:
    """Each term of the top-level `and`: its text and its condition. Raises UserError."""
    if not line:
        return ()
    if len(line) > LONGEST:
        raise _refusal(f"it has {len(line)} characters, and {LONGEST} is the most")
    node = _syntax(line)
    nodes = node.values if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And) else [node]
    return tuple((_source(line, part), _condition(line, part, 0)) for part in nodes)


def _syntax(line: str) -> ast.expr:
    """The syntax tree of one line. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python will refuse one day
            node = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        at = max((error.offset or 1) - 1, 0)
        raise _refusal(f"{error.msg} at '{_shown(line[at:] or line)}'") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _refusal(f"'{_shown(line)}' cannot be read ({type(error).__name__})") from None
    after = line.encode()[node.end_col_offset :].decode()
    if "#" in after:
        raise _refusal(f"a comment would hide '{_shown(after[after.index('#') :])}'")
    return node


def _condition(line: str, node: ast.expr, depth: int) -> _Condition:
    """A condition of what may stand in a filter. Raises UserError."""
    if depth > DEEPEST:
        raise _refusal(f"'{_shown(_source(line, node))}' stands more than {DEEPEST} conditions deep")
    if isinstance(node, ast.BoolOp):
        return _Logic(type(node.op), tuple(_condition(line, part, depth + 1) for part in node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _Not(_condition(line, node.operand, depth + 1))
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        tests = tuple(_test(line, *three) for three in zip(sides, node.ops, sides[1:]))
        return tests[0] if len(tests) == 1 else _Logic(ast.And, tests)
    wanted = "a condition such as face_px >= 96"
    if isinstance(node, ast.Name):
        wanted = f"a condition such as {_source(line, node)} == true"
    raise _refusal(f"'{_shown(_source(line, node))}' stands where {wanted} must")


def _test(line: str, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> _Test:
    """One comparison; of a chain, one link. Raises UserError."""
    kind = type(operator)
    symbol = COMPARISONS[kind][0] if kind in COMPARISONS else WORDS[kind]
    text, one = f"{_source(line, left)} {symbol} {_source(line, right)}", _side(line, left)
    if kind in (ast.Is, ast.IsNot):
        if not isinstance(one, _Name) or not (isinstance(right, ast.Constant) and right.value is None):
            raise _refusal(f"'{_shown(text)}': after `is` stands None alone, after a column (yaw_deg is None)")
        return _Test(kind, one, None, text)
    if kind in (ast.In, ast.NotIn):
        if not isinstance(one, _Name) or not isinstance(right, (ast.Tuple, ast.List)) or not right.elts:
            raise _refusal(f'\'{_shown(text)}\': `in` stands between a column and a list (corpus in ("hdtf", "mead"))')
        values = []
        for element in right.elts:
            value = _side(line, element)
            if isinstance(value, _Name):
                raise _refusal(f"'{_shown(_source(line, element))}' in a list is neither a number nor \"text\"")
            values.append(value)
        if len({_kind_of(value) for value in values}) > 1:
            raise _refusal(f"'{_shown(_source(line, right))}' mixes numbers, text or truth values")
        return _Test(kind, one, tuple(values), text)
    other = _side(line, right)
    if not isinstance(one, _Name) and not isinstance(other, _Name):
        raise _refusal(f"'{_shown(text)}' compares no column")
    return _Test(kind, one, other, text)


def _side(line: str, node: ast.expr) -> _Name | Constant:
    """A column, or a constant. Raises UserError."""
    if isinstance(node, ast.Name):
        return TRUTHS[node.id] if node.id in TRUTHS else _Name(node.id)
    text = _shown(_source(line, node))
    signed = isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd))
    value = node.operand if isinstance(node, ast.UnaryOp) and signed else node
    if not isinstance(value, ast.Constant) or (signed and isinstance(value.value, bool)):
        raise _refusal(f"'{text}' is neither a column nor a constant")
    held = value.value
    if held is None:
        raise _refusal("None is compared with `is None` or `is not None` (yaw_deg is not None)")
    if isinstance(held, (int, float)):
        if not -LARGEST < held < LARGEST:
            raise _refusal(f"the number '{text}' is too large")
        return -held if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else held
    if not isinstance(held, str) or signed:
        raise _refusal(f"'{text}' is neither a number nor text")
    try:
        held.encode()
    except UnicodeEncodeError:
        raise _refusal(f"the text '{text}' is not Unicode") from None
    return held


def _collect(condition: _Condition, names: set[str]) -> None:
    if isinstance(condition, _Logic):
        for part in condition.parts:
            _collect(part, names)
    elif isinstance(condition, _Not):
        _collect(condition.part, names)
    else:
        names.update(side.name for side in (condition.left, condition.right) if isinstance(side, _Name))


def _source(line: str, node: ast.expr) -> str:
    return line.encode()[node.col_offset : node.end_col_offset].decode()


def _shown(text: str) -> str:
    """Text for a message: short, and without what would break the line."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= 60 else f"{clean[:57]}..."


def _refusal(what: str) -> UserError:
    return UserError(f"this is no filter: {what}; write one as: {EXAMPLE}")


# From conditions to rows


def _truth(condition: _Condition, columns: Mapping[str, tuple[str, Column]]) -> Column:
    """What each row makes of a condition: true, false, or null for unknown."""
    if isinstance(condition, _Logic):
        return functools.reduce(LOGIC[condition.operator], (_truth(part, columns) for part in condition.parts))
    if isinstance(condition, _Not):
        return pc.invert(_truth(condition.part, columns))
    return _tested(condition, columns)


def _tested(test: _Test, columns: Mapping[str, tuple[str, Column]]) -> Column:
    """`_truth` of one comparison. Raises UserError where its sides cannot be compared."""
    name = test.left if isinstance(test.left, _Name) else test.right
    assert isinstance(name, _Name), "a test has a column"
    kind, column = columns[name.name]
    if test.operator in (ast.Is, ast.IsNot):
        return pc.is_null(column) if test.operator is ast.Is else pc.is_valid(column)
    others = [columns[s.name][0] if isinstance(s, _Name) else _kind_of(s) for s in (test.left, test.right)]
    for other in others:
        if other != kind and MISSING not in (other, kind):
            raise UserError(
                f"the filter's '{_shown(test.text)}' compares column '{name.name}', which holds {kind}, with {other}"
            )
    if MISSING in others:
        return pa.nulls(len(column), pa.bool_())
    if test.operator in WORDS:
        assert isinstance(test.right, tuple), "a list, as it is neither `is` nor `is not`"
        found = _among(column, test.right)
        return found if test.operator is ast.In else pc.invert(found)
    if kind == TRUTH and test.operator not in (ast.Eq, ast.NotEq):
        raise UserError(f"the filter's '{_shown(test.text)}': true and false have no order; use == or !=")
    left, right = (columns[s.name][1] if isinstance(s, _Name) else s for s in (test.left, test.right))
    return COMPARISONS[test.operator][1](*_alike(left, right))


def _plain(name: str, column: Column) -> tuple[str, Column]:
    """(kind, column) with dictionaries decoded; integers as int64, other numbers as float64, text as large_string.

    Raises UserError for a type that cannot be compared.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        return MISSING, column
    if pa.types.is_boolean(kind):
        return TRUTH, column.cast(pa.bool_())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return TEXT, column.cast(pa.large_string())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return NUMBER, column.cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NUMBER, column.cast(kind).cast(pa.float64(), safe=False)
    raise UserError(f"column '{name}' is of type {kind}, and a filter compares numbers, text, true and false alone")


def _kind_of(value: Any) -> str:
    """What a constant, or a tuple of them, is."""
    value = value[0] if isinstance(value, tuple) else value
    return TRUTH if isinstance(value, bool) else TEXT if isinstance(value, str) else NUMBER


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Both sides of a comparison, a column at least one of them, as Arrow values of one type."""
    left, right = (_scalar(side) if isinstance(side, (int, float, str)) else side for side in (left, right))
    if pa.types.is_floating(left.type) != pa.types.is_floating(right.type):
        left, right = _float(left), _float(right)
    return left, right


def _scalar(value: Constant) -> pa.Scalar:
    return pa.scalar(value, pa.large_string()) if isinstance(value, str) else pa.scalar(value)


def _float(side: Any) -> Any:
    return side.cast(pa.float64()) if isinstance(side, pa.Scalar) else side.cast(pa.float64(), safe=False)


def _among(column: Column, values: tuple[Constant, ...]) -> Column:
    """Whether each row holds one of the values, all of its kind; null where it holds nothing (Arrow says false)."""
    if pa.types.is_floating(column.type) or any(isinstance(value, float) for value in values):
        column = pc.add(_float(column), 0.0)  # Arrow looks up bits, and a zero has two signs
        values = tuple(float(value) + 0.0 for value in values)
    found = pc.is_in(column, value_set=pa.array(values, column.type))
    return pc.if_else(pc.is_valid(column), found, pa.scalar(None, pa.bool_()))
