"""The settings of a training run from which `plan` makes the windows of its examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.sample.windows import WindowConfig
from mytalk.command import UserError


@dataclass(frozen=True)
class RunSettings:
    """The keys of a training's config file, and the window sizes given on the command line, which win."""

    file: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)  # fields of WindowConfig, those that are given

    @classmethod
    def load(cls, file: str | Path | None, sizes: Mapping[str, int]) -> RunSettings:
        """Settings of a YAML file (None: no file). Raises UserError where it is not YAML of keys, OSError."""
        if file is None:
            return cls(sizes=sizes)
        from omegaconf import OmegaConf

        try:
            keys = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        except OSError:
            raise
        except Exception as error:  # the YAML reader's own errors share no base class
            raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(keys, dict):
            raise UserError(f"{file} holds no settings")
        return cls(str(file), {str(name): value for name, value in keys.items()}, sizes)

    def get(self, key: str, default: Any) -> Any:
        """The value of a key. Raises UserError for a value that is not of the default's type."""
        value = self.keys.get(key, default)
        kinds = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, kinds):
            form = "a number" if isinstance(default, (int, float)) else "as train does"
            raise UserError(f"{self.file}: {key} is {value!r}; write {form}")
        return value


def window_config(**sizes: Any) -> WindowConfig:
    """A window of these sizes. Raises UserError for impossible ones."""
    try:
        return WindowConfig(**sizes)
    except (TypeError, ValueError) as error:
        raise UserError(str(error).replace("WindowConfig.__init__()", "window:")) from None
