"""Settings that explain themselves: a field has its meaning, unit and bounds; one checker, help and a page read them.

@dataclass
class OptimizerConfig(Settings):
    part = "optimizer"
    lr: float = setting(1e-4, "AdamW's learning rate", above=0)
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

HELP_WIDTH = 116


@dataclass(frozen=True)
class Setting:
    """What is known of a key beyond its type and default. Bounds of a list are those of each of its values."""

    meaning: str
    unit: str = ""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple = ()

    def allows(self, value: Any) -> bool:
        """Whether a value lies within the bounds; NaN lies within none."""
        if self.choices:
            return value in self.choices
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def bounds(self) -> str:
        """In words: `above 0`, `1 or more`, `in [0, 1)`, `fp32, bf16 or fp16`; empty where anything goes."""
        if self.choices:
            *first, last = map(str, self.choices)
            return f"{', '.join(first)} or {last}"
        low = self.at_least if self.above is None else self.above
        high = self.at_most if self.below is None else self.below
        if low is not None and high is not None:
            left, right = "[" if self.above is None else "(", "]" if self.below is None else ")"
            return f"in {left}{shown(low)}, {shown(high)}{right}"
        if low is not None:
            return f"{shown(low)} or more" if self.above is None else f"above {shown(low)}"
        if high is not None:
            return f"{shown(high)} or less" if self.below is None else f"below {shown(high)}"
        return ""


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: tuple = (),
) -> Any:
    """A dataclass field with what a user should know of it."""
    metadata = {"setting": Setting(meaning, unit, at_least, above, at_most, below, choices)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Settings:
    """Base of the config dataclasses: every value is checked against its bounds at construction."""

    part: ClassVar[str] = ""  # the key under which these settings lie in a config, named in messages

    def __post_init__(self) -> None:
        check(self)


def check(config: Settings) -> None:
    """Raises ValueError, in one line, for a value out of its bounds."""
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        known = setting_of(type(config), field.name)
        if known is None:
            continue
        value = getattr(config, field.name)
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        if not all(map(known.allows, values)):
            key = f"{config.part}.{field.name}" if config.part else field.name
            bounds, given = known.bounds(), f"'{value}'" if isinstance(value, str) else shown(value)
            must = f"must lie {bounds}, not be" if bounds.startswith("in ") else f"must be {bounds}, not"
            raise ValueError(f"{key} {must} {given}")


def setting_of(schema: type, name: str) -> Setting | None:
    """What is known of a field; a class that only changes a default inherits it."""
    for owner in schema.__mro__:
        field = vars(owner).get("__dataclass_fields__", {}).get(name)
        if field is not None and "setting" in field.metadata:
            return field.metadata["setting"]
    return None


@dataclass(frozen=True)
class Key:
    """A key of a config, as help and documentation show it."""

    name: str  # dotted
    type: str
    default: str
    bounds: str
    unit: str
    meaning: str

    def limits(self) -> str:
        """Type, unit and bounds in a few words."""
        return ", ".join(filter(None, (self.type, self.unit, self.bounds)))


def groups(schema: type) -> dict[type, list[Key]]:
    """All keys of a config by the class that introduces them: shared ones, the config's own, those of its parts."""
    found: dict[type, list[Key]] = {}
    for owner, key in _keys(schema, ""):
        found.setdefault(owner, []).append(key)
    return found


def _keys(schema: type, prefix: str) -> Iterator[tuple[type, Key]]:
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{prefix}{field.name}.")  # type: ignore[arg-type]
            continue
        known = setting_of(schema, field.name) or Setting("")
        owner = next(base for base in reversed(schema.__mro__) if field.name in vars(base).get("__annotations__", {}))
        default = field.default_factory() if callable(field.default_factory) else field.default
        kind = hint.__name__ if type(hint) is type else str(hint).replace("typing.", "")
        key = Key(prefix + field.name, kind, shown(default), known.bounds(), known.unit, known.meaning)
        yield owner, key


def help_text(schema: type) -> str:
    """Every key of a config, a paragraph each, for `--help`."""
    lines = []
    for owner, keys in groups(schema).items():
        lines += [title(owner), ""]
        for key in keys:
            text = f"{key.name}={key.default}  ({key.limits()})  {key.meaning}"
            lines += textwrap.wrap(
                text, HELP_WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
            )
        lines.append("")
    return "\n".join(lines)


def table(keys: list[Key]) -> str:
    """Keys as a Markdown table."""
    rows = ["| key | default | type, unit, bounds | meaning |", "|---|---|---|---|"]
    rows += [f"| `{key.name}` | `{key.default}` | {key.limits()} | {key.meaning} |" for key in keys]
    return "\n".join(row.replace("<", "&lt;") for row in rows)


def title(owner: type) -> str:
    """The first line of a config class's docstring, above its keys."""
    return (owner.__doc__ or owner.__name__).partition("\n")[0]


def shown(value: Any) -> str:
    """A value as it is typed in a config."""
    if isinstance(value, float) and value >= 2**20 and math.log2(value).is_integer():
        return f"2^{int(math.log2(value))}"
    if isinstance(value, tuple):
        value = list(value)
    return value if isinstance(value, str) and value else json.dumps(value)
