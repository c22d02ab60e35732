"""The documents: every link leads somewhere, nothing is left to be filled in, every named command exists."""

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_nothing_is_left_open(page: Path):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"
    assert not re.findall(r"^[A-Z]+_[A-Z_]+$|\b(?:TODO|FIXME|XXX)\b", text, re.M)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    fences = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for heading in re.findall(r"^#+ +(.+?) *$", fences, re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(next(name for n in itertools.count() if (name := f"{anchor}-{n}" if n else anchor) not in found))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_of_links_are_headings(page: Path):
    for name, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
        target = page.parent / name if name else page
        if target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_exist(page: Path):
    for folder, name in re.findall(r"python -m (data_pipeline|train|eval|launch) ([a-z]+)", page.read_text()):
        commands = importlib.import_module(f"{folder}.__main__").COMMANDS
        assert name in commands, f"{page.name}: python -m {folder} {name}"


def test_make_targets_in_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text()):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"
