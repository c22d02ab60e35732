"""What drawings in pages share: the SVG element, and the label of a tick. Colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def drawing(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    """An SVG of these parts; `label` is read aloud."""
    opened = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return opened + "".join(parts) + "</svg>"


def tick_label(x: float, y: float, anchor: str, text: str) -> str:
    """The label of a tick; `anchor` is start, middle or end."""
    minus = text.replace("-", "\N{MINUS SIGN}")
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{minus}</text>'
