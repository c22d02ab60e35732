"""`report.html`: the benchmark as one page that needs no other file, no network and no script.

Built from the report and what is kept beside it; every number is the report's own, rounded. All text from outside
is escaped.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from eval import gate, kept, ordering, svg, tables
from eval.kept import Shown
from eval.records import ClipScore
from eval.report import coverage_in_words
from mytalk import atomic

NAME = "report.html"
CLIPS_BYTES = 4_500_000  # of all playable clips before base64: the page stays under 8 MB
STRIP_NAMES = {"source": "source", "ground_truth": "truth", "mytalk": "mytalk", "shuffled_audio": "shuffled_audio"}
WHO = {
    "unseen": "People of the split unseen, which training leaves out,",
    "val": "People of the split val, on whom no weight is trained but by whom training is watched,",
    "train": "People of the split train, whom the models were trained on, so that this says nothing about others,",
}


def write(out: Path, report: dict[str, Any], scores: list[ClipScore]) -> None:
    """Write the page of a report into its folder, atomically. Raises UserError, OSError."""
    atomic.write_bytes(out / NAME, html(report, scores, kept.shown(out, scores)).encode())


def html(report: dict[str, Any], scores: list[ClipScore], shown: list[Shown]) -> str:
    """The whole page."""
    sections = [
        _heading(report),
        _verdicts(report),
        _section("Scores", tables.table(report)),
        _section("Intervals", tables.legend(report["methods"]) + tables.panels(report, scores)),
        _section("What it looks like", _people(shown)) if shown else "",
        _section("Coverage", tables.coverage(report["coverage"])),
        _section(
            "How the numbers were made", tables.definitions(report) + tables.protocol(report) + tables.digests(report)
        ),
    ]
    title = f"MyTalk benchmark: {_of_people(report)}"
    style = Path(__file__).with_name("page.css").read_text()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main>\n</body>\n</html>\n"
    )


# The head of the page -------------------------------------------------------------------------------------


def _of_people(report: dict[str, Any]) -> str:
    covered, split = report["coverage"], report["protocol"]["split"]
    return f"{covered['people']['scored']} people of split {split}, {covered['clips']['scored']} clips"


def _heading(report: dict[str, Any]) -> str:
    protocol, environment = report["protocol"], report.get("environment", {})
    made = ", ".join(filter(None, [environment.get("date"), f"seed {protocol['seed']}"]))
    return (
        "<header>\n<h1>MyTalk benchmark</h1>\n"
        f'<p class="facts">{escape(_of_people(report))} \N{MIDDLE DOT} {escape(protocol["name"])} '
        f"\N{MIDDLE DOT} {escape(made)}</p>\n"
        f"<p>{WHO[protocol['split']]} are dubbed in their own videos. Each clip is dubbed with its own speech "
        f"(<em>mytalk</em>), with {_other_speech(protocol)} (<em>shuffled_audio</em>), and with a mouth that stands "
        f"still (<em>frozen_mouth</em>); the model is shown {_source(protocol)}, never the mouth it is scored on. All "
        "rows, and the clip itself (<em>ground_truth</em>), are written by one "
        "encoder and read back; their landmarks are detected anew in what was read. The dubbed videos are "
        "synthetic.</p>\n</header>"
    )


def _other_speech(protocol: dict[str, Any]) -> str:
    if protocol["shuffled_is_same_person"]:
        return "the speech of another clip of the same person, since the split has nobody else"
    return (
        "the speech of another clip (somebody else\N{RIGHT SINGLE QUOTATION MARK}s, unless all others sound the same)"
    )


def _source(protocol: dict[str, Any]) -> str:
    same, clips = protocol["source_is_same_clip"], protocol["clips"]
    if not same:
        return "another clip of the person"
    beginning = "the beginning of the clip itself, which is not scored"
    return beginning if same == clips else f"another clip of the person ({same} of {clips} times {beginning})"


def _verdicts(report: dict[str, Any]) -> str:
    methods, passed = report["methods"], report["gate"]["passed"]
    items = [_verdict("Gate: pass" if passed else "Gate: FAIL", "pass" if passed else "fail", gate.in_words(methods))]
    if "ordering" in report:
        held = report["ordering"]["holds"]
        items.append(_verdict("Sync ordering", "pass" if held else "neutral", ordering.in_words(methods)))
    reasons: dict[str, list[str]] = {}
    for metric, reason in report.get("refused", {}).items():
        reasons.setdefault(reason, []).append(metric)
    items += [_verdict("Refused", "neutral", f"{', '.join(names)}: {why}") for why, names in reasons.items()]
    items.append(_verdict("Coverage", "neutral", coverage_in_words(report["coverage"])))
    return f'<ul class="verdicts">\n{"".join(items)}</ul>'


def _verdict(tag: str, colour: str, words: str) -> str:
    text = words.removeprefix("gate: PASS: ").removeprefix("gate: FAIL: ").removeprefix("ordering: ")
    return f'<li><span class="tag {colour}">{escape(tag)}</span><p>{escape(text)}</p></li>\n'


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


# Pictures -------------------------------------------------------------------------------------------------


def _people(shown: list[Shown]) -> str:
    room, blocks = CLIPS_BYTES, []
    for one in shown:
        fits = len(one.clip) <= room
        room -= len(one.clip) if fits else 0
        blocks.append(_person(one, fits))
    return (
        "<p>Filmstrips show the same moments in every row but the first: in turn a frame in which the true mouth is "
        "wide open and one in which it is closed. <em>source</em> is the stretch from which the model knows "
        "the person.</p>\n" + "\n".join(blocks)
    )


def _person(one: Shown, playable: bool) -> str:
    key, person = escape(one.score.key), escape(one.score.person)
    strips = "".join(
        f'<div class="strip of-{escape(name)}"><span class="key">{STRIP_NAMES[name]}</span>'
        f'<img alt="{person}, {STRIP_NAMES[name]}: {len(one.moments)} frames" src="{_data("image/jpeg", data)}">'
        "</div>\n"
        for name, data in one.strips.items()
    )
    found = ", ".join(
        f"{name} {one.score.methods[name]['opening_correlation']:.2f}" for name in ("mytalk", "shuffled_audio")
    )
    curves = svg.curves(f"Mouth opening of {one.score.person} over time", one.score.openings_px, one.moments)
    legend = "".join(
        f'<li class="of-{escape(name)}"><span>{escape(name)}</span></li>' for name in one.score.openings_px
    )
    drawn = (
        f"<figure>{curves}<figcaption>Mouth opening, px at 256, over seconds; dotted: the frames above. Correlation "
        f'with the truth: {escape(found)}.<ul class="legend">{legend}</ul></figcaption></figure>'
    )
    return (
        f'<article class="person-block">\n<h3>{person}</h3>\n<p class="facts">clip {key}</p>\n{strips}'
        f'<div class="side">{drawn}{_player(one) if playable else ""}</div>\n</article>'
    )


def _player(one: Shown) -> str:
    label = escape(f"{one.score.person}: truth at the left, mytalk at the right, with the speech")
    return (
        f'<figure><video controls preload="metadata" aria-label="{label}" poster="{_data("image/jpeg", one.poster)}" '
        f'src="{_data("video/mp4", one.clip)}"></video>'
        '<figcaption class="halves"><span>truth</span><span>mytalk (synthetic)</span></figcaption></figure>'
    )


def _data(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
