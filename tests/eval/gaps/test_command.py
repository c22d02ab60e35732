"""`python -m eval gaps` on reports of `eval motion`."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from eval.__main__ import COMMANDS
from eval.gaps import command as gaps
from eval.gaps import page
from mytalk import command, intervals
from tests.helpers import talkers
from tests.helpers.pages import Parsed, chromium, opened


def typed(*words: object) -> int:
    return command.main("python -m eval", "", COMMANDS, [str(word) for word in words])


@pytest.fixture(scope="module")
def reports(model, tmp_path_factory) -> dict[str, object]:
    """Reports of seen and unseen people of two corpora, by the same model."""
    folder = tmp_path_factory.mktemp("gaps")
    talkers.write(folder / "shards", {"train": 2, "unseen": 4}, corpora=("one", "two"), frames=40)
    for split in ("train", "unseen"):
        words = ("motion", "--shards", folder / "shards", "--model", model, "--steps", "2", "--source-frames", "10")
        assert typed(*words, "--split", split, "--out", folder / split) == 0
    return {split: folder / split for split in ("train", "unseen")}


def test_what_one_report_leaves_out_is_in_no_gap(reports, tmp_path) -> None:
    """Whichever comes first: of people on whom a judge is not proven its numbers are unknown."""
    there = shutil.copytree(reports["unseen"], tmp_path / "unknown")
    report = json.loads((there / "report.json").read_text())
    report.setdefault("refused", {})["width_correlation"] = "unknown"
    for scores in report["methods"].values():
        del scores["width_correlation"]
    (there / "report.json").write_text(json.dumps(report))
    for number, both in enumerate(((reports["train"], there), (there, reports["train"]))):
        assert typed("gaps", *both, "--out", tmp_path / str(number)) == 0
        made = json.loads((tmp_path / str(number) / gaps.NAME).read_text())
        assert "width_correlation" not in made["table"]
        assert "opening_error_px" in made["table"]


def test_gaps_of_two_reports(reports, tmp_path, capsys) -> None:
    assert typed("gaps", reports["train"], reports["unseen"], "--out", tmp_path) == 0
    made = json.loads((tmp_path / gaps.NAME).read_text())
    assert made["people"] == {"seen people": 2, "unseen people": 4}
    found = made["table"]["lmd_px"]
    means = {name: entry["mean"] for name, entry in found["groups"].items()}
    assert found["gaps"]["unseen people"]["mean"] == pytest.approx(means["unseen people"] - means["seen people"])
    assert "unseen people (4 people)" in (tmp_path / gaps.MARKDOWN).read_text()
    assert made["reference"] == "seen people"
    shown = (tmp_path / page.NAME).read_text()
    parsed = Parsed(shown)
    assert not parsed.references
    assert not re.search(r"https?:|@import|url\(", shown)
    panels = shown.count("<figure>")
    assert panels == len(made["table"])
    assert shown.count('class="at"') == panels, "no gap, in the panel of each metric's gaps"
    assert shown.count('class="of-group-0"') == panels, "the reference has no gap"
    assert shown.count('class="of-group-1"') == 2 * panels
    assert shown.count('class="person"') == panels * (2 + 4)
    gap = found["gaps"]["unseen people"]
    assert f"unseen people {intervals.shown(gap)}" in shown
    named = ("gaps", reports["train"], reports["unseen"], "--out", tmp_path / "named", "--reference")
    assert typed(*named, "unseen people") == 0
    turned = json.loads((tmp_path / "named" / gaps.NAME).read_text())["table"]["lmd_px"]["gaps"]["seen people"]
    assert turned["mean"] == pytest.approx(-found["gaps"]["unseen people"]["mean"])
    capsys.readouterr()
    assert typed(*named, "strangers") == 1
    assert "no group 'strangers'; there are: seen people, unseen people" in capsys.readouterr().err
    assert typed("gaps", reports["unseen"], "--out", tmp_path / "alone", "--row", "ridge") in (0, 1)
    assert typed("gaps", reports["train"], tmp_path / "nowhere", "--out", tmp_path / "x") == 1
    assert "no report.json in" in capsys.readouterr().err


@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_a_browser_shows_the_page_and_nothing_is_wider_than_a_phone(reports, tmp_path) -> None:
    assert typed("gaps", reports["train"], reports["unseen"], "--out", tmp_path) == 0
    script = """<script>addEventListener("load", () => {
      document.body.dataset.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    })</script>"""
    shown = (tmp_path / page.NAME).read_text().replace("</body>", f"{script}</body>")
    done = opened(shown, tmp_path, "--window-size=500,900")
    assert "CONSOLE" not in done.stderr
    assert 'data-over="0"' in done.stdout
