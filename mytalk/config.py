"""Typed configuration: dataclasses filled from YAML and `key=value`, unknown keys refused with the nearest."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mytalk.command import UserError

T = TypeVar("T")


def load(schema: type[T], file: str | Path | None, overrides: Sequence[str] = ()) -> T:
    """The `schema` dataclass with its defaults, then the YAML `file`, then `key=value` overrides.

    In an override the value of a text is taken as it is typed, quotes round it off; of anything else it is YAML.
    `${key}` stands for another key's value in both.
    Raises UserError, in one line, for a missing file, unknown key (the nearest one is named), wrong type,
    or a combination that the dataclass refuses with ValueError in `__post_init__`.
    """
    config = OmegaConf.structured(schema)
    if file is not None:
        config = _merge(schema, config, read_yaml(file), str(file))
    for item in overrides:
        if "=" not in item or item.startswith("-"):
            raise UserError(f"'{item}' is not an override; write key=value, for example steps=100")
        key, _, text = item.partition("=")
        nested: Any = _unquoted(text) if _keys(schema).get(key) is str else _yaml(text, item)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        config = _merge(schema, config, nested, f"'{item}'")
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except (ValueError, OmegaConfBaseException) as error:
        raise UserError(f"config: {_first_line(error)}") from None


def read_yaml(file: str | Path) -> Any:
    """What a YAML file holds, as plain dicts and lists. Raises UserError where it is missing or none."""
    try:
        return OmegaConf.to_container(OmegaConf.load(file))
    except FileNotFoundError:
        raise UserError(f"no config file {file}; those that ship are in configs/") from None
    except OSError:
        raise
    except Exception as error:  # the YAML reader's own errors share no base class
        raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain nested dicts, for YAML, JSON and digests."""
    return dataclasses.asdict(config)


def difference(config: Any, defaults: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with (default, value)."""
    ours, theirs = flat(to_dict(config)), flat(to_dict(defaults))
    return {key: (theirs.get(key), value) for key, value in ours.items() if theirs.get(key) != value}


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys."""
    out: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            out.update(flat(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out


def _unquoted(text: str) -> str:
    """Text without the quotes round it, where they match and none is inside."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text.count(text[0]) == 2
    return text[1:-1] if quoted else text


def _yaml(text: str, item: str) -> Any:
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except Exception as error:  # the YAML reader's own errors share no base class
        raise UserError(f"'{item}': the value is not YAML: {' '.join(str(error).split())}") from None
    assert isinstance(value, dict)
    return value["value"]


def _merge(schema: type, config: Any, given: Any, source: str) -> Any:
    if given is None:
        return config
    if not isinstance(given, dict):
        raise UserError(f"{source}: a config is keys and values, not {type(given).__name__}")
    known = _keys(schema)
    for key, value in _given_keys(given, known).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(known))}"
            raise UserError(f"{source}: unknown key '{key}'; {hint}")
        if known[key] is False and not isinstance(value, dict):
            inside = ", ".join(name for name in sorted(known) if name.startswith(f"{key}."))
            raise UserError(f"{source}: '{key}' holds keys of its own: {inside}")
    try:
        return OmegaConf.merge(config, given)
    except OmegaConfBaseException as error:
        raise UserError(f"{source}: {_first_line(error)}") from None


def _keys(schema: type, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a dataclass and of those inside it: the type of a leaf, False for what holds keys of its own."""
    keys: dict[str, Any] = {}
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        inner = hint = hints[field.name]
        if typing.get_origin(inner) in (typing.Union, types.UnionType):
            inner = next((a for a in typing.get_args(inner) if a is not type(None)), inner)
        if dataclasses.is_dataclass(inner):
            keys[prefix + field.name] = False
            keys.update(_keys(inner, f"{prefix}{field.name}."))  # type: ignore[arg-type]
        else:
            keys[prefix + field.name] = hint
    return keys


def _given_keys(given: dict, known: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """What is given, by dotted key; parts and what they hold."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{prefix}{key}"
        found[name] = value
        if isinstance(value, dict) and known.get(name) is False:
            found.update(_given_keys(value, known, f"{name}."))
    return found


def _first_line(error: Exception) -> str:
    key = getattr(error, "full_key", None)
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{key}: {text}" if key else text
