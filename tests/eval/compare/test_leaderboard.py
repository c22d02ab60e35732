"""`python -m eval leaderboard`: what may stand in one table, and the page in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eval.__main__ import COMMANDS
from mytalk import command as commands
from tests.helpers.pages import Parsed, chromium, opened
from tests.helpers.plain_report import people, write
from tests.helpers.small_report import NASTY


def leaderboard(*words: str | Path) -> int:
    return commands.main("python -m eval", "", COMMANDS, ["leaderboard", *map(str, words)])


VALUES = {"lmd_px": 1.0, "opening_correlation": 0.8}


@pytest.fixture
def page(tmp_path) -> str:
    """Two methods of one protocol, one of other data, and one of another name."""
    folders = [
        write(tmp_path / "a", people(3, **VALUES), "ours"),
        write(tmp_path / "b", people(3, lmd_px=10.5, opening_correlation=0.6), "theirs"),
        write(tmp_path / "c", people(2, **VALUES), "other", {"real_videos": "1" * 64}),
        write(tmp_path / "d", people(1, **VALUES), "named", name=NASTY),
    ]
    assert leaderboard(*folders, folders[0], "--out", tmp_path / "board.html") == 0
    return (tmp_path / "board.html").read_text()


def test_methods_stand_together_only_where_protocol_data_and_judges_agree(page) -> None:
    parsed = Parsed(page)
    assert not parsed.references
    assert not re.search(r"https?:|@import|url\(", page)
    tables = re.findall(r'<table class="sortable">.*?</table>', page, re.S)
    assert len(tables) == 3
    rows = [
        [re.search(r'scope="row".*?>(.*?)<', row)[1] for row in re.findall(r"<tr>.*?</tr>", t, re.S)[1:]]
        for t in tables
    ]  # type: ignore[index]
    assert rows == [["ground_truth", "ours", "theirs"], ["ground_truth", "other"], ["ground_truth", "named"]]
    assert "10.5" in tables[0]
    assert "6/6" in tables[0]
    assert "no interval" in tables[2]
    assert NASTY not in page


@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_a_browser_sorts_a_table_by_numbers_and_nothing_is_wider_than_a_phone(page, tmp_path) -> None:
    script = """<script>addEventListener("load", () => {
      const table = document.querySelector("table.sortable"), seen = [];
      for (const click of [2, 2, 3]) {
        table.tHead.rows[0].cells[click].click();
        seen.push([...table.tBodies[0].rows].map((row) => row.cells[0].firstChild.textContent).join());
      }
      document.body.dataset.orders = seen.join(";");
      document.body.dataset.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    })</script>"""
    done = opened(page.replace("</body>", f"{script}</body>"), tmp_path, "--window-size=500,900")
    assert "CONSOLE" not in done.stderr
    orders = re.search(r'data-orders="([^"]*)"', done.stdout)
    assert orders is not None
    down, up = "theirs,ours,ground_truth", "ground_truth,ours,theirs"
    assert orders[1].split(";") == [down, up, up], "10.5 above 1.0, then the smallest first, then by correlation"
    assert 'data-over="0"' in done.stdout


def test_what_a_user_can_get_wrong_is_one_line(tmp_path, capsys) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "report.json").write_text('{"format": 1, "methods"')
    sound = write(tmp_path / "a", people(1, **VALUES))
    for words, says in (
        ([tmp_path / "none", "--out", tmp_path / "x.html"], "no report.json in"),
        ([tmp_path / "torn", "--out", tmp_path / "x.html"], "is not a report of this format"),
        ([sound, "--out", tmp_path], "is a folder; name the page"),
    ):
        assert leaderboard(*words) == 1
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
        assert not (tmp_path / "x.html").exists()
