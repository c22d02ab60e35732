"""Settings explain themselves: help, docs/settings.md and the checker read the same fields."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

from data_pipeline.examples import RECIPES
from mytalk import settings
from tests.helpers.checkout import ROOT
from train import settings_page
from train.__main__ import COMMANDS

SCHEMAS = {recipe: settings_page.schema_of(COMMANDS[recipe][0]) for recipe in RECIPES}
KEYS = {
    recipe: [key for keys in settings.groups(schema).values() for key in keys] for recipe, schema in SCHEMAS.items()
}


def test_the_page_of_settings_is_fresh():
    fresh = settings_page.page()
    assert (ROOT / "docs" / "settings.md").read_text() == fresh, "stale: write it with `make settings`"


@pytest.mark.parametrize("recipe", SCHEMAS)
def test_every_key_has_a_meaning(recipe):
    assert [key.name for key in KEYS[recipe] if not key.meaning] == []


@pytest.mark.parametrize("recipe", SCHEMAS)
def test_the_help_of_a_recipe_lists_every_key(recipe):
    text = importlib.import_module(COMMANDS[recipe][0]).arguments().format_help()
    for key in KEYS[recipe]:
        assert f"  {key.name}={key.default}  ({key.type}" in text


@pytest.mark.parametrize("recipe", SCHEMAS)
def test_every_default_lies_within_its_bounds(recipe):
    SCHEMAS[recipe]()


@pytest.mark.parametrize("recipe", SCHEMAS)
def test_a_value_past_any_lower_bound_is_refused_by_its_key(recipe):
    """Every number with a bound, also in the parts of a config, which name the key as it is typed."""
    for key in KEYS[recipe]:
        *parts, name = key.name.split(".")
        schema = SCHEMAS[recipe]
        for part in parts:
            schema = next(f.default_factory for f in dataclasses.fields(schema) if f.name == part)
        known = settings.setting_of(schema, name)
        bound = known.at_least if known.at_least is not None else known.above
        if bound is None or key.type.startswith("dict"):
            continue
        default = getattr(schema(), name)
        value = type(default)([bound - 1] * len(default)) if isinstance(default, (list, tuple)) else bound - 1
        with pytest.raises(ValueError, match=f"^{key.name} must (be|lie) "):
            schema(**{name: value})
