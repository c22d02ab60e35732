"""Configs: defaults, then the file, then overrides; what cannot be is refused in one line."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mytalk import config
from mytalk.command import UserError
from tests.helpers.checkout import ROOT
from train.config import LoopConfig


@dataclass
class Inner:
    """A part of a configuration."""

    width: int = 8
    rates: tuple[float, float] = (0.1, 0.2)


@dataclass
class Part:
    """A part with a text."""

    path: str = ""


@dataclass
class Outer:
    """A configuration."""

    steps: int = 10
    name: str = "a"
    inner: Inner = field(default_factory=Inner)
    raw: dict[str, Any] = field(default_factory=dict)
    maybe: Inner | None = None
    part: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, not {self.steps}")


def refusal(file=None, overrides=()) -> str:
    """The one line with which a config is refused."""
    with pytest.raises(UserError) as refused:
        config.load(Outer, file, overrides)
    said = str(refused.value)
    assert "\n" not in said
    return said


def test_defaults_then_file_then_overrides(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("steps: 20\nname: file\ninner: {width: 16}\nraw: {any: {key: 1}}\n")
    made = config.load(Outer, file, ["name=typed", "inner.rates=[1, 2.5]", "inner.width=32", "raw.more=[x]"])
    expected = Outer(20, "typed", Inner(32, (1.0, 2.5)), {"any": {"key": 1}, "more": ["x"]})
    assert made == expected
    assert config.load(Outer, None) == Outer()
    file.write_text("")
    assert config.load(Outer, file).steps == 10, "an empty file changes nothing"
    assert config.load(Outer, None, ["name=a=b"]).name == "a=b"
    assert config.load(Outer, None, ["name='7'"]).name == "7"
    assert config.load(Outer, None, ["steps=4", "name=of ${steps}"]).name == "of 4"


def names_itself(text: str) -> bool:
    """No reference to another key, no mark of OmegaConf's own for "missing", no quotes to take off."""
    return "${" not in text and text != "???" and text[:1] not in ("'", '"')


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=12) | st.text("ab /\\#:[]{}'\"*&!|>%@`$-~,=?.0 \n\t", max_size=12))
@example("runs/demo #2/x")
@example("runs/a: b/x")
@example("[a]/x")
@example("*x")
@example("007")
@example("null")
@example("a 'quoted' word")
def test_a_text_is_taken_as_it_is_typed(text):
    """A path may look like YAML."""
    assume(names_itself(text))
    assert config.load(Outer, None, [f"name={text}"]).name == text
    assert config.load(Outer, None, [f"part.path={text}"]).part.path == text
    for quote in "'\"":
        if quote not in text:
            assert config.load(Outer, None, [f"name={quote}{text}{quote}"]).name == text


def test_what_is_no_text_is_still_yaml():
    made = config.load(Outer, None, ["raw.a=[1, x]", "raw.b=7", "raw.c='7'"])
    assert made.raw == {"a": [1, "x"], "b": 7, "c": "7"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stpes=3", "'stpes=3': unknown key 'stpes'; did you mean 'steps'?"),
        ("inner.widht=3", "unknown key 'inner.widht'; did you mean 'inner.width'?"),
        ("maybe.widht=3", "did you mean 'maybe.width'?"),
        ("zzzzzz=3", "there are: inner, inner.rates, inner.width, maybe"),
        ("part=x", "'part' holds keys of its own: part.path"),
        ("steps=ten", "steps"),
        ("inner.width=wide", "inner.width"),
        ("inner=3", "'inner=3': 'inner' holds keys of its own: inner.rates, inner.width"),
        ("steps=0", "steps must be 1 or more, not 0"),
        ("steps", "write key=value"),
        ("--steps=3", "write key=value"),
        ("steps=[1", "not YAML"),
        ("raw.x=*x", "not YAML"),
        ("name=${nowhere}", "nowhere"),
        ("=3", "unknown key"),
    ],
)
def test_overrides_that_cannot_be_are_refused_in_one_line(override, said):
    assert said in refusal(overrides=[override])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stpes: 3", "unknown key 'stpes'; did you mean 'steps'?"),
        ("inner: {widht: 3}", "did you mean 'inner.width'?"),
        ("steps: [", "is not YAML"),
        ("steps: ten", "steps"),
        ("- steps", "a config is keys and values, not list"),
        ("just words", "config.yaml"),
        ("steps: -4", "steps must be 1 or more"),
        ("7: 8", "unknown key '7'"),
        ("inner: 3", "'inner' holds keys of its own: inner.rates, inner.width"),
        ("inner:", "'inner' holds keys of its own"),
        ("\x00", "is not YAML"),
    ],
)
def test_files_that_cannot_be_are_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert said in refusal(file)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    assert "no config file" in refusal(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x80")
    assert "is not YAML" in refusal(tmp_path / "bytes.yaml")


def test_difference_names_dotted_keys():
    changed = Outer(steps=3, inner=Inner(width=9))
    assert config.difference(changed, Outer()) == {"steps": (10, 3), "inner.width": (8, 9)}
    assert config.difference(Outer(), Outer()) == {}


def recipes() -> dict[str, type[LoopConfig]]:
    """The config class of every command of `python -m train` that runs the loop."""
    found = {}
    for name, (module, _) in importlib.import_module("train.__main__").COMMANDS.items():
        for value in vars(importlib.import_module(module)).values():
            own = isinstance(value, type) and issubclass(value, LoopConfig) and value.__module__ == module
            if own:
                found[name] = value
    return found


def test_every_config_that_ships_loads():
    """Every YAML under configs/ is one; those named after a recipe load as that recipe's."""
    schemas = recipes()
    assert "motion" in schemas
    loaded = []
    for file in sorted((ROOT / "configs").rglob("*.y*ml")):
        assert isinstance(yaml.safe_load(file.read_text()), dict), file
        recipe = re.split(r"[-_]", file.stem)[0]
        if recipe in schemas:
            made = config.load(schemas[recipe], file)
            assert made.global_batch >= 1
            assert made != schemas[recipe](), f"{file} says something"
            loaded.append(file.relative_to(ROOT).as_posix())
    assert "configs/demo/motion.yaml" in loaded
    assert config.load(schemas["motion"], ROOT / "tests" / "helpers" / "tiny_motion.yaml").steps == 12
