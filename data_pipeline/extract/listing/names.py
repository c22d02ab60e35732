"""File names are bytes: as text that JSON, Parquet and a terminal take, and back.

A name that is UTF-8 stays as it is. A byte that is not becomes `\\xHH`, a backslash `\\\\`: the text is reversible.
"""

from __future__ import annotations

import os
import re

ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def to_text(name: str | os.PathLike) -> str:
    """A name or path, as the system gives it, as valid Unicode."""
    return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def to_path(text: str) -> str:
    """The inverse of `to_text`: what the system opens."""

    def byte(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if match[1] else b"\\"

    return os.fsdecode(ESCAPE.sub(byte, text.encode()))
