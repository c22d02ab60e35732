"""`python -m eval compare` on reports of typed scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval import score_file
from eval.__main__ import COMMANDS
from eval.compare import paired
from mytalk import command as commands
from tests.helpers.plain_report import people, write


def compare(*words: str | Path) -> int:
    return commands.main("python -m eval", "", COMMANDS, ["compare", *map(str, words)])


BETTER = {"lmd_px": 1.0, "opening_correlation": 0.8, "amplitude_ratio": 1.02, "flicker": 2.2}
WORSE = {"lmd_px": 1.5, "opening_correlation": 0.6, "amplitude_ratio": 0.7, "flicker": 1.2}


@pytest.fixture
def two(tmp_path) -> list[Path]:
    """Five people; on every metric the first method is better, whatever its direction."""
    return [write(tmp_path / "a", people(5, **BETTER), "ours"), write(tmp_path / "b", people(5, **WORSE), "theirs")]


def test_a_method_that_is_better_of_everybody_has_two_of_all_signs_and_holm_corrects(two, tmp_path, capsys) -> None:
    assert compare(*two, "--out", tmp_path / "compared.json") == 0
    pair = json.loads((tmp_path / "compared.json").read_text())["pairs"][0]
    assert (pair["people"], pair["clips"]) == (5, 10)
    for metric, entry in pair["metrics"].items():
        assert entry["p"] == 2 / 32, metric
        assert entry["p_holm"] == 4 * 2 / 32, "four metrics, all alike"
        assert entry["better"] == "not apart", "five people cannot say it of four metrics"
        low, high = entry["ci95"]
        assert low <= entry["difference"] <= high
    assert pair["metrics"]["lmd_px"]["difference"] == pytest.approx(-0.5)
    assert pair["metrics"]["opening_correlation"]["difference"] == pytest.approx(0.2)
    assert pair["metrics"]["amplitude_ratio"]["difference"] < 0, "nearer to 1"
    assert pair["metrics"]["amplitude_ratio"]["of"] == "distances from what is right"
    assert pair["metrics"]["lmd_px"]["means"] == pytest.approx([1.0215, 1.5215])
    said = capsys.readouterr().out
    assert "ours against theirs: 5 people, 10 clips\n" in said
    assert "amplitude_ratio (distance)" in said
    assert paired.RULE in said


def test_with_enough_people_the_better_one_is_named_whatever_the_direction(tmp_path) -> None:
    folders = [write(tmp_path / "a", people(9, **BETTER), "ours"), write(tmp_path / "b", people(9, **WORSE), "theirs")]
    for order, out in ((folders, "one.json"), (folders[::-1], "other.json")):
        assert compare(*order, "--out", tmp_path / out) == 0
        pair = json.loads((tmp_path / out).read_text())["pairs"][0]
        assert {entry["better"] for entry in pair["metrics"].values()} == {"ours"}


def test_only_shared_clips_count_and_metrics_of_one_alone_are_named(tmp_path, capsys) -> None:
    ours, theirs = people(4, **BETTER), people(4, lmd_px=1.5)
    theirs["p0"][0], theirs["p1"] = {}, [{}, {}]
    folders = [write(tmp_path / "a", ours, "ours"), write(tmp_path / "b", theirs, "theirs")]
    assert compare(*folders) == 1
    assert "protocol.metrics.opening_correlation" in capsys.readouterr().err
    assert compare(*folders, "--force-protocol", "--out", tmp_path / "x.json") == 0
    pair = json.loads((tmp_path / "x.json").read_text())["pairs"][0]
    assert (pair["people"], pair["clips"], pair["clips_of_one"]) == (3, 5, {"ours": 3, "theirs": 0})
    assert set(pair["metrics"]) == {"lmd_px"}
    assert pair["left_out"]["flicker"] == "not measured of theirs"
    assert pair["metrics"]["lmd_px"]["p"] == 2 / 8


def test_reports_of_other_data_judges_or_rules_are_refused_by_name_until_forced(two, tmp_path, capsys) -> None:
    other = write(tmp_path / "c", people(5, **WORSE), "third", {"pairs": "1" * 64}, fps=30)
    assert compare(two[0], other) == 1
    error = capsys.readouterr().err
    assert "ours and third in digests.pairs, protocol.fps; score them alike" in error
    assert error.count("\n") == 1
    assert compare(*two, other, "--force-protocol", "--out", tmp_path / "x.json") == 0
    said = capsys.readouterr().out
    assert said.startswith("DIFFERENT: ours and third: digests.pairs, protocol.fps\nDIFFERENT: theirs and third: ")
    compared = json.loads((tmp_path / "x.json").read_text())
    assert [pair["methods"] for pair in compared["pairs"]] == [
        ["ours", "theirs"],
        ["ours", "third"],
        ["theirs", "third"],
    ]


def test_two_methods_of_one_name_are_told_apart_by_their_folders(two, tmp_path, capsys) -> None:
    again = write(tmp_path / "c", people(5, **WORSE), "ours")
    assert compare(two[0], again) == 0
    assert "a/ours against c/ours" in capsys.readouterr().out
    assert compare(f"{two[0]}=ours", f"{two[0]}=ground_truth") == 0
    assert "ours against ground_truth" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", ["one", "twice", "no report", "no method", "no clips", "other clips", "nan", "none shared"]
)
def test_what_a_user_can_get_wrong_is_one_line(wrong, two, tmp_path, capsys) -> None:
    words, says = list(map(str, two)), ""
    clips = two[1] / score_file.WHOLE
    if wrong == "one":
        words, says = words[:1], "name two folders or more"
    elif wrong == "twice":
        words, says = [words[0], f"{words[0]}=ours"], "is named twice"
    elif wrong == "no report":
        words[1], says = str(tmp_path), "no report.json in"
    elif wrong == "no method":
        words[1], says = f"{words[1]}=nobody", "has no method 'nobody'; it holds ground_truth, theirs"
    elif wrong == "no clips":
        clips.unlink()
        says = "no clips.jsonl in"
    elif wrong == "other clips":
        clips.write_bytes((two[0] / score_file.WHOLE).read_bytes())
        says = "is of another scoring than report.json"
    elif wrong == "nan":
        clips.write_text(clips.read_text().replace("1.5", "NaN", 1))
        says = "is damaged or of another version"
    elif wrong == "none shared":
        words[1], says = str(write(tmp_path / "q", {"q": people(1, **WORSE)["p0"]}, "q")), "share no scored clip"
        words.append("--force-protocol")
    assert compare(*words) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
