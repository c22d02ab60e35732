"""The documents: links lead somewhere, nothing is left to be filled in, every command is taken by its own parser."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mytalk import config
from tests.helpers.checkout import ROOT
from train.settings_page import schema_of

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


FOLDERS = ("mytalk", "data_pipeline", "train", "eval", "launch", "benchmarks")
SHORTENED = ("...", "…", "ARGS", "error:")  # what a page does not write out


def written_out(page: Path) -> Iterator[list[str]]:
    """The words of every command of ours in a page's blocks, from the module's name on."""
    for block in re.findall(r"^ *```[a-z]*\n(.*?)^ *```", page.read_text(), re.M | re.S):
        variables = re.findall(r'^(\w+)="([^"]*)"$', block, re.M)
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            for name, value in variables:
                line = line.replace(f"${name}", value)
            if (found := re.match(rf"\s*(?:\$ )?python -m ((?:{'|'.join(FOLDERS)})\b.*)", line)) is not None:
                words = shlex.split(found[1], comments=True)
                if words[0] != "train.recipes.opening" and not any(word in SHORTENED for word in words):
                    yield list(itertools.takewhile(lambda word: word not in ("|", "&"), words))


def parse(words: list[str]) -> None:
    """Have a command's own parser take its words, the settings of a training too, and what a launcher starts."""
    package, *rest = words
    if package.startswith("benchmarks"):
        name = package if (ROOT / f"{package.replace('.', '/')}.py").exists() else f"{package}.__main__"
    else:
        name, *rest = importlib.import_module(f"{package}.__main__").COMMANDS[rest[0]][0], *rest[1:]
    args = importlib.import_module(name).arguments().parse_args(rest)
    if name.startswith("train.recipes."):
        config.load(schema_of(name), args.config, args.settings)
    if package == "launch" and "--" in rest:
        parse(rest[rest.index("--") + 1 :])


@pytest.mark.parametrize("page", [page for page in PAGES if any(written_out(page))], ids=lambda page: page.name)
def test_commands_in_the_documents_are_taken(page: Path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in written_out(page):
        try:
            parse(words)
        except SystemExit:
            pytest.fail(f"{page.name}: python -m {shlex.join(words)}")


def test_make_targets_in_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text()):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"
