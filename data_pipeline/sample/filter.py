"""A filter keeps rows of a manifest: a condition over its columns, written as Python writes conditions.

    sync_confidence >= 3 and corpus in ("hdtf", "mead") and not yaw_deg > 30

Python's parser reads the text and pyarrow compares; Python never evaluates it, and what `_Evaluator` does not know is
refused.

Missing values follow SQL: a comparison with one is unknown, `and`, `or` and `not` follow Kleene's logic, and a row
whose condition is unknown is dropped. `is None` and `is not None` are never unknown. NaN is a value, which compares as
IEEE 754 says.
"""

from __future__ import annotations

import ast
import difflib
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mytalk.command import UserError

LONGEST, DEEPEST = 1000, 40  # characters of a filter; conditions inside conditions
LARGEST = 2**53  # constants stay below it, where float64 holds every integer: no comparison with one is rounded
EXAMPLE = 'sync_confidence >= 3 and corpus in ("hdtf", "mead") and not yaw_deg > 30'

Column: TypeAlias = "pa.Array | pa.ChunkedArray"
Operand: TypeAlias = "pa.Array | pa.ChunkedArray | pa.Scalar"  # a column, or a constant
COMPARISONS: dict[type[ast.cmpop], Callable[..., Column]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
TRUTHS = {"true": True, "false": False}
MISSING, TRUTH, TEXT, NUMBER = "nothing but missing values", "true or false", "text", "numbers"
KINDS = {pa.null(): MISSING, pa.bool_(): TRUTH, pa.large_string(): TEXT, pa.int64(): NUMBER, pa.float64(): NUMBER}


@dataclass(frozen=True)
class Where:
    """A filter: its text in one line, the columns it reads (sorted), and the terms that its top-level `and` joins."""

    text: str
    columns: tuple[str, ...]
    terms: tuple[str, ...]


def parse(text: str) -> Where:
    """Read a filter; an empty one keeps everything. Raises UserError, naming the part that is not allowed."""
    line = text.replace("\r", " ").replace("\n", " ").strip()
    terms = _terms(line)
    names = {node.id for _, term in terms for node in ast.walk(term) if isinstance(node, ast.Name)}
    columns = tuple(sorted(names - TRUTHS.keys()))
    on_no_rows = _Evaluator(line, dict.fromkeys(columns, pa.nulls(0)), 0)  # refuses what is not allowed
    for _, term in terms:
        on_no_rows.condition(term)
    return Where(line, columns, tuple(text for text, _ in terms))


def refuse_unknown(where: Where, known: Iterable[str]) -> None:
    """Raises UserError, with the nearest name, where a filter reads a column that is not among those known."""
    known = sorted(known)
    for name in where.columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
            raise UserError(f"the filter '{_short(where.text)}' reads an unknown column '{_short(name)}'; {hint}")


def keep(where: Where, columns: Mapping[str, Column], count: int) -> tuple[np.ndarray, dict[str, int]]:
    """Which of `count` rows a filter keeps, (count,) bool, and how many rows each of its terms alone would drop.

    `columns` holds at least the filter's own columns of these rows, plain or dictionary-encoded. A row is kept or
    dropped by its own values alone, so batches of rows may be filtered one after another. Raises UserError for an
    unknown column, and for a column compared with a value of another kind.
    """
    refuse_unknown(where, columns)
    plain = {name: _plain(name, columns[name]) for name in where.columns}
    assert all(len(column) == count for column in plain.values()), "columns and count are of the same rows"
    kept, dropped = np.ones(count, bool), {}
    evaluator = _Evaluator(where.text, plain, count)
    for text, term in _terms(where.text):
        mask = pc.fill_null(evaluator.condition(term), False).to_numpy(zero_copy_only=False).astype(bool)
        dropped[text] = count - int(mask.sum())
        kept &= mask
    return kept, dropped


def _terms(line: str) -> list[tuple[str, ast.expr]]:
    """What the top-level `and` joins: the text of each term, and its syntax tree. Raises UserError."""
    if not line:
        return []
    if len(line) > LONGEST:
        raise _invalid(f"it has {len(line)} characters, more than {LONGEST}")
    tree = _syntax(line)
    terms = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    return [(_source(line, term), term) for term in terms]


def _syntax(line: str) -> ast.expr:
    """The syntax tree of one line. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as "\d", which a future Python will refuse
            tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        at = max((error.offset or 1) - 1, 0)
        raise _invalid(f"{error.msg} at '{_short(line[at:] or line)}'") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _invalid(f"'{_short(line)}' cannot be read ({type(error).__name__})") from None
    rest = line.encode()[tree.end_col_offset :].decode()
    if "#" in rest:
        raise _invalid(f"remove the comment '{_short(rest[rest.index('#') :])}'")
    return tree


class _Evaluator:
    """Evaluates the syntax tree of a filter on rows. Each method raises UserError, naming the part at fault."""

    def __init__(self, line: str, columns: Mapping[str, Column], count: int):
        self.line, self.columns, self.count = line, columns, count

    def condition(self, node: ast.expr, depth: int = 0) -> Column:
        """For each row true, false, or null for unknown."""
        if depth > DEEPEST:
            raise _invalid(f"'{self.short(node)}' is more than {DEEPEST} conditions deep")
        if isinstance(node, ast.BoolOp):
            join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            return functools.reduce(join, (self.condition(part, depth + 1) for part in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return pc.invert(self.condition(node.operand, depth + 1))
        if isinstance(node, ast.Compare):  # a < b < c is a < b and b < c
            sides = [node.left, *node.comparators]
            return functools.reduce(pc.and_kleene, map(self.comparison, sides, node.ops, sides[1:]))
        expected = f"{self.short(node)} == true" if isinstance(node, ast.Name) else "face_px >= 96"
        raise _invalid(f"expected a condition such as {expected}, got '{self.short(node)}'")

    def comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Column:
        text, first = self.short(left, right), self.operand(left)
        if isinstance(operator, (ast.Is, ast.IsNot)):
            if isinstance(first, pa.Scalar) or not (isinstance(right, ast.Constant) and right.value is None):
                raise _invalid(f"in '{text}', `is` must compare a column with None (yaw_deg is None)")
            return pc.is_null(first) if isinstance(operator, ast.Is) else pc.is_valid(first)
        if isinstance(operator, (ast.In, ast.NotIn)):
            if isinstance(first, pa.Scalar) or not isinstance(right, (ast.Tuple, ast.List)) or not right.elts:
                raise _invalid(f'in \'{text}\', `in` must follow a column, with a list (corpus in ("hdtf", "mead"))')
            equal = (self.compared(text, pc.equal, first, constant) for constant in self.constants(right))
            found = functools.reduce(pc.or_kleene, equal)
            return found if isinstance(operator, ast.In) else pc.invert(found)
        second = self.operand(right)
        if isinstance(first, pa.Scalar) and isinstance(second, pa.Scalar):
            raise _invalid(f"'{text}' compares no column")
        return self.compared(text, COMPARISONS[type(operator)], first, second)

    def compared(self, text: str, compare: Callable[..., Column], *sides: Operand) -> Column:
        kinds = [KINDS[side.type] for side in sides]
        if MISSING in kinds:
            return pa.nulls(self.count, pa.bool_())
        if kinds[0] != kinds[1]:
            raise UserError(f"the filter's '{text}' compares {kinds[0]} with {kinds[1]}")
        if kinds[0] == TRUTH and compare not in (pc.equal, pc.not_equal):
            raise UserError(f"the filter's '{text}': true and false have no order; use == or !=")
        if sides[0].type != sides[1].type:  # Arrow's own cast to float64 refuses integers above 2**53
            return compare(*(pc.cast(side, pa.float64(), safe=False) for side in sides))
        return compare(*sides)

    def constants(self, node: ast.Tuple | ast.List) -> list[pa.Scalar]:
        """The constants of a list, all of one kind."""
        values = [self.operand(element) for element in node.elts]
        for value, element in zip(values, node.elts):
            if not isinstance(value, pa.Scalar):
                raise _invalid(f"'{self.short(element)}' in a list is not a constant: a number or \"text\"")
        if len({KINDS[value.type] for value in values}) > 1:
            raise _invalid(f"'{self.short(node)}' mixes numbers, text or truth values")
        return values

    def operand(self, node: ast.expr) -> Operand:
        """A side of a comparison: a column or a constant."""
        if isinstance(node, ast.Name):
            return pa.scalar(TRUTHS[node.id]) if node.id in TRUTHS else self.columns[node.id]
        try:
            value = ast.literal_eval(node)
            if isinstance(value, str):
                return pa.scalar(value, pa.large_string())
        except (ValueError, TypeError):  # no literal, or text that is not Unicode
            value = ...
        if value is None:
            raise _invalid("None is compared by `is None` or `is not None` (yaw_deg is not None)")
        if not isinstance(value, (bool, int, float)):
            raise _invalid(f"'{self.short(node)}' is neither a column nor a constant")
        if not -LARGEST < value < LARGEST:
            raise _invalid(f"the number '{self.short(node)}' is too large")
        return pa.scalar(value)

    def short(self, first: ast.expr, last: ast.expr | None = None) -> str:
        return _short(_source(self.line, first, last))


def _plain(name: str, column: Column) -> Column:
    """A column without its dictionary, as a type of `KINDS`. Raises UserError for a type that cannot be compared."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column))
    if pa.types.is_boolean(kind):
        return column.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(kind).cast(pa.float64(), safe=False)
    raise UserError(f"column '{name}' is of type {kind}; a filter compares numbers, text, true and false")


def _source(line: str, first: ast.expr, last: ast.expr | None = None) -> str:
    """The text of a node, or of all from one node to another."""
    return line.encode()[first.col_offset : (last or first).end_col_offset].decode()  # offsets count bytes


def _short(text: str) -> str:
    """Text for a message: in one line, of 60 characters at most."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= 60 else f"{clean[:57]}..."


def _invalid(problem: str) -> UserError:
    return UserError(f"invalid filter: {problem}; write one such as: {EXAMPLE}")
