"""The files of a corpus as its layout sees them: names as text, and the labels among them.

One interface for a folder and, through the same calls, for what lies behind a URL.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from data_pipeline.extract.listing import names
from data_pipeline.extract.listing.walk import Found
from data_pipeline.storage.inputs import is_remote
from data_pipeline.storage.store import Store
from mytalk.command import UserError


class Tree:
    """A corpus's files. `paths`: its videos, relative to `root` with /, sorted, as text (names.py)."""

    def __init__(self, root: str | Path, found: Found):
        self.root, self.found = root, found
        self.paths = list(found.bytes_of)

    def __str__(self) -> str:
        return str(self.root)

    @cached_property
    def _others(self) -> list[str]:
        return sorted(self.found.skipped)

    def has(self, path: str) -> bool:
        """Whether there is a file of that path, a video or another."""
        if self.found.unlisted:
            return Store(self.root).exists(path)
        return path in self.found.bytes_of or path in self.found.skipped

    def named(self, pattern: str) -> list[str]:
        """Files that are no videos whose name, without folders, matches the pattern (`*_time.txt`), sorted."""
        return [path for path in self._others if fnmatch.fnmatchcase(PurePosixPath(path).name, pattern)]

    def text(self, path: str) -> str:
        """A file of labels. Raises UserError where it cannot be read."""
        try:
            return self._bytes(path).decode("utf-8", "replace")
        except OSError as error:
            raise UserError(f"{self.root}/{path} cannot be read ({error.strerror or error}); bring it there") from None

    def rows(self, path: str, fields: list[str] | None = None) -> Iterator[dict[str, str]]:
        """The rows of a CSV file, by the names in its first line, or by `fields` where it has no such line."""
        text = self.text(path)
        reader = csv.DictReader(io.StringIO(text, newline=""), fields, restkey="", restval="", skipinitialspace=True)
        for row in reader:
            yield {name.strip(): (value or "").strip() for name, value in row.items() if name}

    def json(self, path: str) -> Any:
        """A file of JSON. Raises UserError where it is none."""
        try:
            return json.loads(self.text(path))
        except ValueError:
            raise UserError(f"{self.root}/{path} is not JSON; fetch it again") from None

    def _bytes(self, path: str) -> bytes:
        return Store(self.root).whole(path if is_remote(self.root) else names.to_path(path))
