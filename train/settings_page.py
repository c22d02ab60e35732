"""`python -m train.settings_page`: print docs/settings.md, every key of every recipe (`make settings` writes it)."""

from __future__ import annotations

import importlib

from data_pipeline.examples import RECIPES
from mytalk import settings
from train.__main__ import COMMANDS
from train.config import LoopConfig

INTRODUCTION = """# Settings

Every key of `python -m train RECIPE --config FILE key=value ...`. A YAML file in [configs/](../configs) and
`key=value` words set them; unknown keys and values out of bounds are refused. `make settings` writes this page from the
dataclasses that check the values; `python -m train RECIPE --help` prints the same.
"""


def schema_of(module: str) -> type[LoopConfig]:
    """The config class that a recipe's module defines."""
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and issubclass(value, LoopConfig) and value.__module__ == module:
            return value
    raise AssertionError(f"{module} defines no LoopConfig of its own")


def page() -> str:
    """The page in Markdown: the keys of every recipe first, then those that each recipe adds."""
    parts = [INTRODUCTION, "## Every recipe\n"]
    shared = settings.groups(LoopConfig)
    for owner, keys in shared.items():
        parts.append(f"{settings.title(owner)}\n\n{settings.table(keys)}\n")
    for recipe, purpose in RECIPES.items():
        schema = schema_of(COMMANDS[recipe][0])
        parts.append(f"## {recipe}\n\nTrains {purpose}. `run` is `{schema().run}` unless it is set.\n")
        for owner, keys in settings.groups(schema).items():
            if owner not in shared:
                parts.append(f"{settings.title(owner)}\n\n{settings.table(keys)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
