"""The benchmark's report: what is refused, the ordering, and the page, against an HTML parser and a browser."""

from __future__ import annotations

import base64
import copy
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.shards.manifest import SPLITS
from eval import dub_protocol, kept, ordering, page, report, summary, svg, tables
from eval.plan import Stretch, Task
from eval.records import ClipScore
from mytalk import media
from mytalk.face.landmarks import SAMPLES_PER_FRAME

NASTY = '<b>&"x'
PEOPLE = ("one", "two", NASTY)
DIGEST = "0" * 64
FRAMES = 30


def scores() -> list[ClipScore]:
    """Two clips of each person; the second of the last is a miss."""
    random = np.random.default_rng(0)
    level = {"ground_truth": 0.9, "mytalk": 0.7, "shuffled_audio": 0.2, "frozen_mouth": 0.1}
    made = []
    for person in PEOPLE:
        for number in range(2):
            values = {
                name: {metric: base + 0.02 * random.random() for metric in dub_protocol.MEASURED}
                for name, base in level.items()
            }
            curve = {name: (5 + random.random(FRAMES)).tolist() for name in ("truth", "mytalk", "shuffled_audio")}
            made.append(ClipScore(f"{person}-{number}", person, values, curve if number == 0 else {}))
    made[-1] = ClipScore(made[-1].key, NASTY, reason="face_lost", message=f"a face in 3 % of {NASTY}")
    return made


def built(refused: dict[str, str] | None = None) -> dict:
    """A sound report of these scores."""
    belongs = {
        "protocol": {
            "name": "dubbed video, same audio",
            "split": "unseen",
            "seed": 0,
            "models": {"motion": NASTY},
            "clips_per_person": None,
            "clips": 6,
            "source_is_same_clip": 0,
            "shuffled_is_same_person": 0,
            "methods": dub_protocol.METHODS,
            "metrics": {name: vars(metric) for name, metric in dub_protocol.MEASURED.items()},
        },
        "digests": dict.fromkeys(("manifest", "shards", "motion_config", "motion_weights"), DIGEST),
    }
    tasks = [Task(s.key, s.person, Stretch(0, 0, 9), None, False) for s in scores()]
    return summary.build(belongs, tasks, {s.key: s for s in scores()}, {"date": "2026-11-22"}, refused)


# ---- what is refused ----


def wrong(change: str) -> dict:
    """A sound report, made to contradict itself."""
    made = copy.deepcopy(built({"sync_offset_frames": "at chance"}))
    report.check(made)
    if change == "typed ordering":
        made["ordering"]["holds"] = not made["ordering"]["holds"]
    elif change == "no ordering":
        del made["ordering"]
    elif change == "ordering of nothing":
        made = built(dict.fromkeys(dub_protocol.SYNC, "at chance"))
        made["ordering"] = built()["ordering"]
    elif change == "no gate":
        del made["gate"]
    elif change == "refused and there":
        made["refused"]["lmd_px"] = "at chance"
    elif change == "neither refused nor there":
        del made["refused"]
    elif change == "refused without reason":
        made["refused"]["sync_offset_frames"] = ""
    elif change == "refused unknown":
        made["refused"]["typed_in"] = "at chance"
    elif change == "missing in one row":
        del made["methods"]["frozen_mouth"]["lmd_px"]
    elif change == "no digest of a model":
        del made["digests"]["motion_weights"]
    elif change == "digest of no model":
        made["digests"]["motion_extractor_weights"] = DIGEST
    elif change == "no digest of an extractor":
        made["protocol"]["models"]["motion_extractor"] = "conditions it"
    elif change == "no digest of shards":
        del made["digests"]["shards"]
    return made


CHANGES = ["typed ordering", "no ordering", "ordering of nothing", "no gate", "refused and there"]
CHANGES += ["neither refused nor there", "refused without reason", "refused unknown", "missing in one row"]
CHANGES += ["no digest of a model", "no digest of shards", "digest of no model", "no digest of an extractor"]


@pytest.mark.parametrize("change", CHANGES)
def test_invariant_7_a_report_that_contradicts_itself_is_not_written(change, tmp_path) -> None:
    with pytest.raises(report.UntraceableReport):
        report.write(tmp_path / "broken", wrong(change))
    assert not (tmp_path / "broken").exists()


def test_refused_metrics_are_named_once_a_reason_and_are_in_no_row() -> None:
    made = built({"sync_confidence": "deaf", "sync_distance": "deaf", "identity_cosine": "not named"})
    report.check(made)
    said = report.in_words(made)
    assert said.count("refused: sync_confidence, sync_distance: deaf") == 1
    assert said.count("refused: identity_cosine: not named") == 1
    assert "sync_distance (lower" not in said


# ---- the ordering ----


def rows(**ends: list[float] | None) -> dict:
    """Rows with these intervals of sync confidence."""
    return {
        name: {ordering.METRIC: {"mean": sum(ci95) / 2 if ci95 else 0.5, "ci95": ci95}} for name, ci95 in ends.items()
    }


@pytest.mark.parametrize(
    ("ends", "pairs", "holds", "words"),
    [
        (([5, 6], [3, 4], [1, 2]), ("above", "above"), True, "as expected, every interval apart"),
        (([5, 6], [3, 5.5], [1, 2]), ("overlaps", "above"), False, "means as expected, but not every interval"),
        (([3, 4], [5, 6], [1, 2]), ("below", "above"), False, "not as expected: mytalk > ground_truth >"),
        ((None, None, None), ("no_interval", "no_interval"), False, "no interval"),
    ],
    ids=["holds", "overlapping", "exaggerating", "one person"],
)
def test_the_ordering_is_told_whichever_way_it_falls(ends, pairs, holds, words) -> None:
    methods = rows(**dict(zip(ordering.EXPECTED, ends)))
    made = ordering.judge(methods)
    assert made is not None
    assert tuple(made["pairs"].values()) == pairs
    assert made["holds"] is holds
    assert words in ordering.in_words(methods)


# ---- the page ----

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


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
        assert tag in VOID, tag
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1][-1] += data


@pytest.fixture(scope="module")
def pictured(tmp_path_factory) -> Path:
    """A folder with the videos of the pictured clips, in which one cannot be found."""
    out = tmp_path_factory.mktemp("out")
    random = np.random.default_rng(0)
    speech_S = 0.1 * random.standard_normal(FRAMES * SAMPLES_PER_FRAME)
    for score in [s for s in scores() if s.openings_px][1:]:
        made = out / "made"
        made.mkdir()
        for name in kept.STRIPS:
            level = random.integers(0, 256, (FRAMES, 1, 1, 3), dtype=np.uint8)
            media.write_video(made / f"{name}.mp4", np.tile(level, (1, 256, 256, 1)), 25, speech_S)
        kept.keep(made, out, score.key)
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
    assert not parsed.seen & {"script", "link", "iframe", "object", "form"}
    assert len(parsed.references) == 2 * (len(kept.STRIPS) + 2), "two people: filmstrips, a poster and a clip each"
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
    heading = page.html(made, scores(), []).split("</header>")[0]
    assert all(words in heading for words in says)
    assert not any(words in heading for words in not_says)
    assert set(page.WHO) == set(SPLITS)


def test_every_number_of_the_table_is_the_reports(written) -> None:
    made, parsed = built({"sync_offset_frames": NASTY}), Parsed(written)
    start = next(i for i, row in enumerate(parsed.cells) if row and row[0] == "metric")
    names = parsed.cells[start][1:]
    assert names == ["mytalk", "shuffled_audio", "frozen_mouth", "ground_truth"]
    shown = {row[0].split()[0]: row[1:] for row in parsed.cells[start + 1 : start + 1 + len(dub_protocol.MEASURED) - 1]}
    assert set(shown) == set(dub_protocol.MEASURED) - {"sync_offset_frames"}
    for metric, cells in shown.items():
        for name, cell in zip(names, cells):
            mean, low, high = (float(text) for text in re.findall(r"\d+\.\d+", cell))
            entry = made["methods"][name][metric]
            assert [mean, low, high] == pytest.approx([entry["mean"], *entry["ci95"]], abs=5.1e-4)


def test_the_best_dubbed_row_is_marked_and_never_the_ground_truth(written) -> None:
    rows_ = re.findall(r'<tr><th scope="row">.*?</tr>', written.split("</table>")[0], re.S)
    assert len(rows_) == len(dub_protocol.MEASURED) - 1
    for row in rows_:
        cells = re.findall(r"<td.*?</td>", row)
        marked = ["<strong>" in cell for cell in cells]
        assert sum(marked) == 1
        assert marked.index(True) == (2 if "lower is better" in row else 0)
        assert "floor" in cells[3]


def test_rows_that_are_all_alike_have_no_best_one() -> None:
    methods = {name: {"a": {"mean": 1.0}} for name in ("ground_truth", "mytalk", "frozen_mouth")}
    assert tables.best(methods, "a", "higher") == set()
    methods["mytalk"]["a"]["mean"] = 2.0
    assert tables.best(methods, "a", "higher") == {"mytalk"}
    assert tables.best(methods, "a", "lower") == {"frozen_mouth"}


def test_text_from_outside_is_escaped(written) -> None:
    assert NASTY not in written
    parsed = Parsed(written)
    assert any(NASTY in cell for row in parsed.cells for cell in row), "the miss names its person"
    assert written.count("&lt;b&gt;&amp;&quot;x") > 4


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
    assert (found.width, found.height, found.audio_hz) == (256 + kept.GAP_PX + 256, 256, 16_000)
    assert found.duration_s == pytest.approx(FRAMES / 25)
    assert "synthetic" in media.read_tags(tmp_path / "clip.mp4")["comment"]


def test_clips_that_do_not_fit_are_left_out_of_the_page(pictured, monkeypatch) -> None:
    shown = kept.shown(pictured, scores())
    monkeypatch.setattr(page, "CLIPS_BYTES", len(shown[0].clip))
    assert page.html(built(), scores(), shown).count("<video") == 1
    assert "<video" not in page.html(built(), scores(), [])


def test_the_moments_are_in_turn_the_widest_and_the_narrowest() -> None:
    opening_T = np.tile([3.0, 9.0, 1.0, 5.0, 4.0], 8)
    assert kept.moments(opening_T) == [5 * i + (1, 2)[i % 2] for i in range(8)]
    assert len(kept.moments(np.arange(3.0))) == 3


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-0.083, 0.379), (14.57, 37.5), (1.0, 1.0), (0.0, 0.0), (0.968, 0.9681)]
)
def test_an_axis_covers_its_values_with_few_even_ticks(low, high) -> None:
    step, ticks = svg.nice(low, high, 4)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 7
    assert np.allclose(np.diff(ticks), step)
    assert len({svg.number(tick, step) for tick in ticks}) == len(ticks), "no two ticks read alike"


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_a_browser_opens_the_page_without_a_complaint_and_can_play_its_clips(written, tmp_path) -> None:
    said = "document.body.dataset.seconds = [...document.querySelectorAll('video')].map(v => v.duration).join()"
    script = f"<script>addEventListener('load', () => setTimeout(() => {{ {said} }}, 500))</script>"
    (tmp_path / "page.html").write_text(written.replace("</body>", f"{script}</body>"))
    browser = chromium()
    assert browser is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path}/u"]
    done = subprocess.run(
        [browser, *flags, "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in done.stderr
    seconds = re.search(r'data-seconds="([^"]*)"', done.stdout)
    assert seconds is not None
    assert [float(text) for text in seconds[1].split(",")] == pytest.approx([FRAMES / 25] * 2, abs=0.1)
