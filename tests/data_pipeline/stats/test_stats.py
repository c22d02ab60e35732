"""`stats` counts what a drawn extraction holds, on the terminal and on its page, in a browser too."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.index import command as index
from data_pipeline.page.html import data_uri
from data_pipeline.shards import ledger, manifest_update, throughput
from data_pipeline.shards.layout import rejected_path
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import merging, schema
from data_pipeline.shards.throughput import Throughput
from data_pipeline.stats import clips, extraction, page, text
from data_pipeline.stats.findings import findings
from data_pipeline.stats.survey import survey
from data_pipeline.storage.store import Store
from mytalk.command import UserError
from tests.helpers import drawn_index, surveyed
from tests.helpers.pages import Parsed, chromium, opened


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return surveyed.write(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def written(drawn) -> str:
    return page.html(survey(str(drawn)))


def said(folder) -> str:
    return "\n".join(text.lines(survey(str(folder))))


def test_the_command_prints_a_table_and_writes_the_page(command, drawn, tmp_path):
    out = tmp_path / "deep" / "stats.html"
    done = command("-m", "data_pipeline", "stats", str(drawn), "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert re.search(r"drawn +14\.0 s +4 +7 +7\n", done.stdout)
    assert re.search(r"kept +7 +14\.0 s +80\.5%\n", done.stdout)
    assert re.search(r"small_face +2 +3\.0 s +17\.2% +38\.25 +48\n", done.stdout)
    assert "2 of 9 sources gave no clip: small_face 1, unreadable 1" in done.stdout
    assert "1 of 4 people have a single clip: drawn/p3;" in done.stdout
    assert out.read_text().startswith("<!doctype html>")


def test_an_index_is_told_with_the_ledgers_of_its_folders(drawn, tmp_path):
    """What was rejected, its pictures and limits, and how fast it went, as each folder says."""
    one, merged = shutil.copytree(drawn, tmp_path / "one"), tmp_path / "merged"
    throughput.append(one, Throughput(100, 10.0, 20.0))
    assert index.run(index.arguments().parse_args([str(merged), str(one)])) == 0
    table = said(merged)
    assert re.search(r"small_face +2 +3\.0 s +17\.2% +38\.25 +48\n", table)
    assert "2 of 9 sources gave no clip: small_face 1, unreadable 1" in table
    assert "10.0 a second" in table
    article = page.html(survey(str(merged))).split("<h3>small_face")[1].split("</article>")[0]
    assert article.count("<img") == 3
    shutil.rmtree(one / "parts", ignore_errors=True)
    (one / "manifest.json").unlink()
    assert "no ledger of spans lies here" in said(merged)


@pytest.mark.parametrize(("folder", "out"), [("", "page.png"), ("nothing", "page.html")])
def test_what_cannot_be_done_is_said_in_one_line(command, drawn, tmp_path, folder, out):
    done = command("-m", "data_pipeline", "stats", str(drawn / folder), "-o", str(tmp_path / out))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "page.png" in done.stderr or "manifest.json is missing" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_damaged_ledger_is_named_with_its_line(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "torn")
    with open(folder / ledger.FILE, "a") as handle:
        handle.write('{"span_of": "x')
    lines = len((folder / ledger.FILE).read_text().splitlines())
    with pytest.raises(UserError, match=f"damaged in line {lines}"):
        survey(str(folder))


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(written):
    parsed = Parsed(written)
    assert all(reference.startswith("data:") for reference in parsed.references)
    assert not re.search(r"https?:|@import|url\(", written)
    assert not parsed.seen & {"link", "iframe", "object", "form"}
    assert written.count("<script") == 1


def test_names_from_outside_are_escaped(written):
    assert "<script>alert" not in written
    assert any(surveyed.HOSTILE in cell for row in Parsed(written).cells for cell in row)


def test_rejected_and_nearly_rejected_clips_are_shown_with_their_values(drawn, written):
    """The thumbnails as they were stored; of the kept clips only the one of 50 px is within a tenth of 48."""
    article = written[written.index("<h3>small_face") :].split("</article>")[0]
    assert "face_px below 48" in article
    assert "nearly rejected: 1<" in article
    shown = re.findall(r'<img alt="([^"]*)".*?<strong>([^<]*)', article)
    assert shown == [
        ("crowd.mp4, 0.0 s, track 1, 1.0 s long", "30"),
        ("crowd.mp4, 1.0 s, track 1, 2.0 s long", "46.5"),
        ("p0-0", "50"),
    ]
    thumbs = rejected_path(drawn, 0).read_bytes()
    start = thumbs.index(b"\xff\xd8")
    assert data_uri("image/jpeg", thumbs[start : thumbs.index(b"\xff\xd9", start) + 2]) in article


def test_limits_are_drawn_where_their_values_lie(written):
    """Between the bars of what they reject and of what they keep."""
    figure = next(part for part in written.split("<figure>") if "<figcaption>face_px" in part)
    limit = float(re.search(r'class="limit" x1="([\d.]+)"', figure)[1])  # type: ignore[index]
    bars = {
        name: [float(x) for x in re.findall(f'class="{name}" x="([\\d.]+)"', figure)] for name in ("kept", "rejected")
    }
    assert len(bars["kept"]) == 7
    assert max(bars["rejected"]) < limit <= min(bars["kept"]) + 8
    assert "small_face 48" in figure
    assert figure.count("0 kept, 1 rejected") == 2


def test_people_are_shown_the_longest_first_and_how_many_more_there_are(drawn, monkeypatch):
    monkeypatch.setattr(page, "MOST_PEOPLE", 3)
    sheet = page.html(survey(str(drawn))).split("<h2>People</h2>")[1].split("</section>")[0]
    assert re.findall(r"<strong>([^<]*)</strong>", sheet) == ["2 clips, 4.0 s"] * 3
    assert "1 more" in sheet
    assert sheet.count("<img") == 3


def test_an_older_ledger_has_counts_and_no_values(tmp_path):
    folder = surveyed.write(tmp_path / "older", video=False, older=True)
    found = survey(str(folder))
    assert re.search(r"small_face +2 +3\.0 s +17\.2%\n", said(folder))
    written = page.html(found)
    assert written.count("no picture<") == 4 + 1, "people, and the clip that is near the limit"
    assert "rejected: 2, no pictures" in written


def test_shards_without_a_ledger_tell_what_they_hold(talker_shards):
    assert "no ledger of spans" in said(talker_shards)
    written = page.html(survey(str(talker_shards)))
    Parsed(written)
    assert "No ledger of spans lies here" in written
    assert "Yield" not in written


def test_frames_that_were_left_behind_leave_no_pictures(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "left", ignore=shutil.ignore_patterns("frames-*", "rejected"))
    assert "<img" not in page.html(survey(str(folder)))


def test_an_extraction_without_a_clip_has_no_manifest_and_is_told_all_the_same(tmp_path):
    failed = {"source": "a.mp4", "state": ledger.REJECTED, "reason": "no_face", "spans": []}
    ledger.write(tmp_path, [{"shard": 0, "sources": [failed]}], {})
    found = survey(str(tmp_path))
    assert found.whole == clips.Totals(clips.ALL, 0, 0.0, 0, 0)
    assert "1 of 1 sources gave no clip: no_face 1" in said(tmp_path)
    Parsed(page.html(found))


def test_the_speed_of_an_extraction_is_that_of_all_its_runs(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "timed")
    throughput.append(folder, Throughput(300, 10.0, 20.0))
    throughput.append(folder, Throughput(100, 10.0, 20.0))
    words = "400 in 20 s: 20.0 a second, 10.0 a second and core"
    assert f"frames   {words}" in said(folder)
    assert words in page.html(survey(str(folder)))


def test_labels_of_speech_are_counted_by_the_rule_that_says_no(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "labelled")
    whole = Manifest.load(folder)
    speaks = pa.array([True, True, False, False, False, None, None])
    table = merging.set_column(whole.table, "speaks", speaks)
    why = pa.array(["", "", "music", "no_speech", "music", "", ""])
    manifest_update.save(
        folder,
        merging.set_column(table, "why_silent", why),
        {k: v for k, v in whole.header.items() if k != "table"},
    )
    found = survey(str(folder))
    assert found.labels == {"speaks": 2, "music": 2, "no_speech": 1, "unknown": 2}
    assert any("3 of 7 clips" in finding.text for finding in findings(found))


def test_clips_that_a_rule_of_speech_calls_silent_are_shown_beside_those_it_nearly_does(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "music")
    whole = Manifest.load(folder)
    table = merging.set_column(whole.table, "music", pa.array([0.0, 0.9, 0.48, 0.6, None, 0.1, 0.2]))
    manifest_update.save(folder, table, {k: v for k, v in whole.header.items() if k != "table"})
    listed = json.loads((folder / "sources.json").read_text())
    listed["settings"]["speech.max_music"] = 0.5
    (folder / "sources.json").write_text(json.dumps(listed))
    article = page.html(survey(str(folder))).split("<h3>music")[1].split("</article>")[0]
    assert "music above 0.5" in article
    assert "kept and labelled, beyond the limit: 2<" in article
    assert "nearly beyond it: 1<" in article
    assert re.findall(r"<strong>([^<]*)", article) == ["0.6", "0.9", "0.48"]


def test_clips_that_stand_apart_are_named(drawn, tmp_path):
    folder = shutil.copytree(drawn, tmp_path / "apart")
    whole = Manifest.load(folder)
    blur = pa.array([100.0, 101, 99, 100, 102, 98, 900])
    table = whole.table.set_column(whole.table.column_names.index("blur"), "blur", blur)
    manifest_update.save(folder, table, {k: v for k, v in whole.header.items() if k != "table"})
    unusual = [finding for finding in findings(survey(str(folder))) if finding.tag == "Unusual blur"]
    assert [finding.text for finding in unusual] == ["median 100, but p3-6 900"]


def test_totals_are_of_each_corpus_and_of_all(tmp_path):
    """Against a count of the drawn table by itself."""
    whole = Manifest.load(drawn_index.write(tmp_path, 30, 100))
    found = clips.totals(whole)
    assert [t.corpus for t in found][-1] == clips.ALL
    rows = whole.table.select(["corpus", "identity", "source", "frames"]).to_pylist()
    for total in found:
        mine = [row for row in rows if total.corpus in (row["corpus"], clips.ALL)]
        assert total.clips == len(mine)
        assert total.hours == pytest.approx(sum(row["frames"] for row in mine) / 25 / 3600)
        assert total.people == len({row["identity"] for row in mine})
        assert total.sources == len({(row["corpus"], row["source"]) for row in mine})


def test_a_large_ledger_leaves_a_bounded_page(drawn, tmp_path):
    """Ten thousand rejected spans with thumbnails and as many failures: a few are shown, all are counted."""
    folder = shutil.copytree(drawn, tmp_path / "large")
    lines = [json.loads(line) for line in (folder / ledger.FILE).read_text().splitlines()]
    span = next(line for line in lines if line.get("thumb"))
    failure = next(line for line in lines if line.get("reason") == "unreadable")
    with open(folder / ledger.FILE, "w") as handle:
        handle.write(json.dumps({"source": "crowd.mp4", "shard": 0, "state": ledger.EXTRACTED}) + "\n")
        for number in range(10_000):
            value = float(np.round(10 + number / 400, 2))
            handle.write(json.dumps({**span, "start": number, "stop": number + 25, "value": value}) + "\n")
            handle.write(json.dumps({**failure, "source": f"{number}.mp4"}) + "\n")
    found = extraction.read(Store(folder))
    assert found is not None
    assert found.failed == {"unreadable": 10_000}
    assert len(found.failures) == extraction.MOST_LISTED
    of_rule = found.yields["small_face"]
    assert (of_rule.spans, len(of_rule.shown)) == (10_000, extraction.MOST_SHOWN)
    values = [shown.value or 0.0 for _, shown in of_rule.shown]
    assert max(values) - min(values) > 8, "spread over all of them"
    assert len(page.html(survey(str(folder)))) < 200_000


@pytest.mark.skipif(chromium() is None, reason="needs chromium")
def test_a_browser_opens_the_page_and_sorts_a_table(written, tmp_path):
    """A first click puts the largest number on top, a second one the smallest; nothing is wider than a phone."""
    script = """<script>addEventListener("load", () => {
      const yields = document.querySelectorAll("table.sortable")[1];
      const order = () => [...yields.tBodies[0].rows].map((row) => row.cells[0].textContent).join();
      const seen = [];
      for (const column of [1, 2, 2, 0, 0]) {
        yields.tHead.rows[0].cells[column].firstChild.click();
        seen.push(order());
      }
      document.body.dataset.orders = seen.join(";");
      document.body.dataset.over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      document.body.dataset.loaded = [...document.images].every((image) => image.naturalWidth > 0 || !image.complete);
    })</script>"""
    done = opened(written.replace("</body>", f"{script}</body>"), tmp_path, "--window-size=500,900")
    assert "CONSOLE" not in done.stderr
    down, up = "kept,small_face,too_short", "too_short,small_face,kept"
    orders = re.search(r'data-orders="([^"]*)"', done.stdout)
    assert orders is not None
    assert orders[1].split(";") == [down, down, up, up, down]
    assert re.search(r'data-over="(-?\d+)"', done.stdout)[1] == "0"  # type: ignore[index]
    assert 'data-loaded="true"' in done.stdout


def test_the_manifest_knows_the_types_of_its_columns(drawn):
    types = Manifest.load(drawn).types
    assert list(types) == Manifest.load(drawn).names
    assert types["face_px"] == pa.float64()
    assert Manifest("x", {}, schema.SCHEMA.empty_table()).types["key"] == pa.string()


@pytest.mark.parametrize("source", ["", "motion-*.tar"])
def test_indexed_shards_tell_what_they_hold(command, drawn, tmp_path, source):
    """A folder of ours, whose ledger is known, and tars as others' are."""
    command("-m", "data_pipeline", "index", str(tmp_path), str(drawn / source), check=True)
    assert re.search(r"drawn +14\.0 s +4 +7 +7\n", said(tmp_path))
    assert ("no ledger of spans" in said(tmp_path)) == bool(source)
    Parsed(page.html(survey(str(tmp_path))))
