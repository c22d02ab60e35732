"""The benchmark's page, against an HTML parser and a browser."""

from __future__ import annotations

import base64
import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.shards.table.schema import SPLITS
from eval import score_file
from eval.metrics import PEOPLE_METRICS, VIDEO_METRICS
from eval.report import cases, check, heading, page
from eval.report import pictured as pictures
from eval.rows import saved
from mytalk import media
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers import plain_report
from tests.helpers.faces import opened as opened_mouths
from tests.helpers.pages import Parsed, chromium, opened
from tests.helpers.small_report import DIGEST, FRAMES, NASTY, built, scores

STRIPS = (saved.SOURCE, pictures.TRUTH, pictures.RESULT, "shuffled_audio")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory) -> Path:
    """A folder with the videos of the pictured clips, in which one cannot be found."""
    out = tmp_path_factory.mktemp("out")
    random = np.random.default_rng(0)
    speech_S = 0.1 * random.standard_normal(FRAMES * SAMPLES_PER_FRAME)
    for score in [s for s in scores() if s.openings_px][1:]:
        made = out / "made"
        made.mkdir()
        for name in STRIPS:
            level = random.integers(0, 256, (FRAMES, 1, 1, 3), dtype=np.uint8)
            media.write_video(made / f"{name}.mp4", np.tile(level, (1, 256, 256, 1)), 25, speech_S)
        saved.write_lips(made, dict.fromkeys(STRIPS, opened_mouths(random.uniform(0, 20, FRAMES))))
        saved.save(made, out, score.key)
        shutil.rmtree(made)
    return out


@pytest.fixture(scope="module")
def written(pictured) -> str:
    made = built({"sync_offset_frames": NASTY})
    page.write(pictured, made, scores())
    return (pictured / page.NAME).read_text()


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(written) -> None:
    parsed = Parsed(written)
    assert all(reference.startswith("data:") for reference in parsed.references)
    assert not re.search(r"https?:|@import|url\(", written)
    assert not parsed.seen & {"link", "iframe", "object", "form"}
    assert len(parsed.references) == 2 * (len(STRIPS) + 2), "two people: filmstrips, a poster and a clip each"
    assert len(written) < 8_000_000


@pytest.mark.parametrize(
    ("change", "says", "not_says"),
    [
        ({}, ["which training leaves out", "shown another clip of the person, never"], ["nobody else", "beginning"]),
        ({"split": "val"}, ["by whom training is watched"], ["leaves out"]),
        ({"split": "train"}, ["whom the models were trained on"], ["leaves out"]),
        ({"source_is_same_clip": 2}, ["2 of 6 times the beginning of the clip itself, which is not scored"], []),
        ({"source_is_same_clip": 6}, ["is shown the beginning of the clip itself"], ["another clip of the person"]),
        ({"shuffled_is_same_person": 6}, ["another clip of the same person, since the split has nobody else"], []),
    ],
)
def test_the_page_says_whose_clips_and_speech_the_settings_gave(change, says, not_says) -> None:
    made = built()
    made["protocol"].update(change)
    head = page.html(made, scores(), []).split("</header>")[0]
    assert all(words in head for words in says)
    assert not any(words in head for words in not_says)
    assert set(heading.WHO) == set(SPLITS)


def test_every_number_of_the_table_is_the_reports(written) -> None:
    made, parsed = built({"sync_offset_frames": NASTY}), Parsed(written)
    start = next(i for i, row in enumerate(parsed.cells) if row and row[0] == "metric")
    names = parsed.cells[start][1:]
    assert names == ["mytalk", "shuffled_audio", "silent_audio", "frozen_mouth", "ridge", "ground_truth"]
    under_headings = itertools.takewhile(lambda row: row[0] not in ("row", "key", "person"), parsed.cells[start + 1 :])
    shown = {row[0].split()[0]: row[1:] for row in under_headings if len(row) > 1}
    assert set(shown) == {*VIDEO_METRICS, *PEOPLE_METRICS} - set(made["refused"])
    for metric, cells in shown.items():
        for name, cell in zip(names, cells):
            if metric not in made["methods"][name]:
                assert name not in ("shuffled_audio", "silent_audio"), "it is measured in all rows or in these"
                assert cell.strip() == "\N{EN DASH}"
                continue
            mean, low, high = (float(text) for text in re.findall(r"\d+\.\d+", cell))
            entry = made["methods"][name][metric]
            assert [mean, low, high] == pytest.approx([entry["mean"], *entry["ci95"]], abs=5.1e-4)


def test_the_best_dubbed_row_is_marked_and_never_the_ground_truth(written) -> None:
    rows_ = re.findall(r'<tr><th scope="row">.*?</tr>', written.split("</table>")[0], re.S)
    assert len(rows_) > 30
    for row in rows_:
        cells = re.findall(r"<td.*?</td>", row)
        dubbed = ("mytalk", "shuffled_audio", "silent", "frozen", "ridge")
        marked = [name for name, cell in zip(dubbed, cells) if "<strong>" in cell]
        assert "floor" in cells[5]
        if "leak" in row:
            assert marked == ["silent"], "of two rows"
        elif "success_rate" in row:
            assert marked == ["mytalk", "shuffled_audio", "silent", "frozen"], "all but the one that lost a face"
        else:  # of the levels 0.7, 0.2, 0.15, 0.1 and 0.5, and 0.9 of the clip itself
            assert marked == (["frozen"] if "lower is better" in row or "0 is right" in row else ["mytalk"])


def test_rows_that_are_all_alike_have_no_best_one() -> None:
    methods = {name: {"a": {"mean": 1.0}} for name in ("ground_truth", "mytalk", "frozen_mouth")}
    assert page.best(methods, "a", "higher") == set()
    methods["mytalk"]["a"]["mean"] = 2.0
    assert page.best(methods, "a", "higher") == {"mytalk"}
    assert page.best(methods, "a", "lower") == {"frozen_mouth"}


@pytest.mark.parametrize(
    ("better", "winner"), [("higher", "far"), ("lower", "under"), ("one", "near"), ("zero", "under"), ("real", "far")]
)
def test_the_best_row_of_each_direction(better, winner) -> None:
    means = {"ground_truth": 3.0, "under": 0.4, "near": 1.3, "far": 2.5}
    methods = {name: {"a": {"mean": mean}} for name, mean in means.items()}
    assert page.best(methods, "a", better) == {winner}
    del methods["ground_truth"]
    assert page.best(methods, "a", better) == (set() if better == "real" else {winner})


def test_text_from_outside_is_escaped(written) -> None:
    assert NASTY not in written
    parsed = Parsed(written)
    assert any(NASTY in cell for row in parsed.cells for cell in row), "the miss names its person"
    assert written.count("&lt;b&gt;&amp;&#34;x") > 4


def test_refused_and_missed_are_on_the_page(written) -> None:
    assert "sync_offset_frames: &lt;b&gt;" in written
    assert "1 face_lost" in written
    assert DIGEST in written
    assert "Gate: pass" in written


def test_the_clip_plays_truth_beside_result_with_the_speech(written, tmp_path) -> None:
    data = re.findall(r"data:video/mp4;base64,([^\"]+)", written)
    assert len(data) == 2
    (tmp_path / "clip.mp4").write_bytes(base64.b64decode(data[0]))
    found = media.probe(tmp_path / "clip.mp4")
    assert (found.width, found.height, found.audio_hz) == (256 + pictures.GAP_PX + 256, 256, 16_000)
    assert found.duration_s == pytest.approx(FRAMES / 25)
    assert "synthetic" in media.read_tags(tmp_path / "clip.mp4")["comment"]


def test_lips_are_drawn_where_they_were_detected_in_the_strips_frames(pictured, written) -> None:
    first = pictures.pictured_clips(pictured, scores())[0]
    assert set(first.overlays) == set(first.strips)
    lips_TM2 = saved.read_lips(pictured / saved.VIDEOS / saved.name_of(first.score.key))["mytalk"]
    contours = re.findall(r'points="([^"]*)"', first.overlays["mytalk"])
    assert len(contours) == 2 * len(first.moments), "outer and inner lip of each tile"
    place = 3
    x, y = map(float, contours[2 * place].split()[0].split(","))
    wanted = lips_TM2[first.moments[place], 0] - 32 + np.array([200 * place, 0])
    assert (x, y) == pytest.approx(tuple(wanted), abs=0.06)
    assert written.count('class="overlay"') == 2 * len(STRIPS)


def test_lips_that_are_damaged_are_one_line_and_a_folder_without_them_has_no_overlay(pictured, tmp_path) -> None:
    shutil.copytree(pictured / saved.VIDEOS, tmp_path / saved.VIDEOS)
    for path in (tmp_path / saved.VIDEOS).glob(f"*/{saved.LIPS}"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="is damaged"):
        pictures.pictured_clips(tmp_path, scores())
    for path in (tmp_path / saved.VIDEOS).glob(f"*/{saved.LIPS}"):
        path.unlink()
    assert all(clip.overlays == {} for clip in pictures.pictured_clips(tmp_path, scores()))


def test_clips_that_do_not_fit_are_left_out_of_the_page(pictured, monkeypatch) -> None:
    shown = pictures.pictured_clips(pictured, scores())
    monkeypatch.setattr(page, "CLIPS_BYTES", len(shown[0].mp4))
    assert page.html(built(), scores(), shown).count("<video") == 1
    assert "<video" not in page.html(built(), scores(), [])


def test_the_result_stands_first_in_one_sentence(written) -> None:
    made = built()
    sentence = heading.summary(made)
    row, floor = (made["methods"][name]["opening_correlation"]["mean"] for name in ("mytalk", "ground_truth"))
    assert f"mytalk has {row:.3f} [" in sentence
    assert f"the real video through the same codec {floor:.3f} [" in sentence
    assert sentence.endswith("5 of 6 clips of 3 of 3 people could be scored.")
    assert written.index(sentence[:20]) < written.index("<h2>")
    del made["methods"]["mytalk"]["opening_correlation"]
    assert "in sync_confidence (higher is better)" in heading.summary(made)


def test_single_people_and_clips_stand_with_the_worst_first(written) -> None:
    found = cases.cases(built(), scores())
    assert found is not None
    assert (found.row, found.by, found.all_clips) == ("mytalk", "opening_correlation", 5)
    place = [name for name, _ in found.columns].index(found.by)
    for lines in (found.people, found.clips):
        values = [line.values[place] for line in lines]
        assert values == sorted(values)  # type: ignore[type-var]
    clips = {score.key: score.methods["mytalk"]["opening_correlation"] for score in scores() if not score.reason}
    assert found.clips[0].name == min(clips, key=lambda key: clips[key])
    one = next(line for line in found.people if line.name == "one")
    assert one.values[place] == pytest.approx((clips["one-0"] + clips["one-1"]) / 2)
    assert found.offsets is not None
    assert str(found.offsets).count('class="bar of-mytalk"') == 1, "all offsets are rounded to 1"
    assert f">{len(clips)}<" in str(found.offsets)
    assert "<caption>People" in written


def test_a_page_of_given_videos_says_what_they_are_and_gives_each_method_a_colour(tmp_path) -> None:
    folder = plain_report.write(tmp_path, plain_report.people(3, lmd_px=1.0, opening_correlation=0.8), "their.method")
    report = check.read(folder)
    assert report is not None
    shown = page.html(report, score_file.read(folder / score_file.WHOLE)[1], [])
    Parsed(shown)
    assert "<h1>Videos of their.method</h1>" in shown
    assert '[class~="of-their.method"] { --row: light-dark(' in shown
    assert "Gate" not in shown
    assert "training leaves out" not in shown


@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_a_browser_opens_the_page_plays_its_clips_and_sorts_and_nothing_is_wider_than_a_phone(
    written, tmp_path
) -> None:
    script = """<script>addEventListener("load", () => setTimeout(() => {
      const data = document.body.dataset, table = document.querySelector("table.sortable"), seen = [];
      data.seconds = [...document.querySelectorAll("video")].map((video) => video.duration).join();
      const order = () => [...table.tBodies[0].rows].map((row) => row.cells[2].dataset.value).join();
      for (const click of [2, 2]) {
        table.tHead.rows[0].cells[click].click();
        seen.push(order());
      }
      data.orders = seen.join(";");
      data.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    }, 500))</script>"""
    done = opened(written.replace("</body>", f"{script}</body>"), tmp_path, "--window-size=500,900")
    assert "CONSOLE" not in done.stderr
    seconds, orders, over = (
        re.search(rf'data-{name}="([^"]*)"', done.stdout) for name in ("seconds", "orders", "over")
    )
    assert seconds is not None
    assert [float(text) for text in seconds[1].split(",")] == pytest.approx([FRAMES / 25] * 2, abs=0.1)
    assert orders is not None
    down, up = ([float(text) for text in order.split(",")] for order in orders[1].split(";"))
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert over is not None
    assert over[1] == "0"
