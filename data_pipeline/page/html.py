"""Self-contained HTML pages: a skeleton with its style sheet, pictures as data, all text escaped.

A page is a jinja2 template that extends `skeleton.html.j2` (blocks title, style, main, script).
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


def render(template: Path, **values: Any) -> str:
    """The page of a template with these values, all of them escaped but Markup."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template.name).render(**values)


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as the address of a picture or a video inside the page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
