"""HTML pages against a parser, and in a browser without a window."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "input", "line", "circle", "polyline", "polygon"}


class Parsed(HTMLParser):
    """Tags that are closed in order, references, and every table's cells."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.seen: set[str] = set()
        self.cells: list[list[str]] = []
        self.ids = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "poster", "data", "action")]
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag == "th":
            assert dict(attrs)["scope"] in ("row", "col")
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in {*VOID, "rect"}, tag  # a rect may hold a title
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1][-1] += data


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def opened(page: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page in the browser: its document afterwards is in `stdout`, console messages (CONSOLE) in `stderr`."""
    browser = chromium()
    assert browser is not None
    (folder / "page.html").write_text(page)
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder}/u"]
    return subprocess.run(
        [browser, *always, *flags, "--virtual-time-budget=5000", "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
