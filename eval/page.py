"""`report.html`: the benchmark as one page that needs no other file, no network and no script.

Built from the report and what is kept beside it; every number is the report's own, rounded. All text from outside
is escaped.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from eval import gate, kept, ordering, svg
from eval.kept import Shown
from eval.records import ClipScore
from eval.report import coverage_in_words
from mytalk import atomic
from mytalk.intervals import person_means

NAME = "report.html"
FLOOR = "ground_truth"
CLIPS_BYTES = 4_500_000  # of all playable clips before base64: the page stays under 8 MB
ROLE = {
    "ground_truth": "the clip itself: the floor of codec and detector",
    "mytalk": "dubbed with its own speech",
    "shuffled_audio": "dubbed with another clip\N{RIGHT SINGLE QUOTATION MARK}s speech",
    "frozen_mouth": "its mean mouth, painted",
}
STRIP_NAMES = {"source": "source", "ground_truth": "truth", "mytalk": "mytalk", "shuffled_audio": "shuffled_audio"}
WHO = {
    "unseen": "People of the split unseen, which training leaves out,",
    "val": "People of the split val, on whom no weight is trained but by whom training is watched,",
    "train": "People of the split train, whom the models were trained on, so that this says nothing about others,",
}
ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


def write(out: Path, report: dict[str, Any], scores: list[ClipScore]) -> None:
    """Write the page of a report into its folder, atomically. Raises UserError, OSError."""
    atomic.write_bytes(out / NAME, html(report, scores, kept.shown(out, scores)).encode())


def html(report: dict[str, Any], scores: list[ClipScore], shown: list[Shown]) -> str:
    """The whole page."""
    sections = [
        _heading(report),
        _verdicts(report),
        _section("Scores", _table(report)),
        _section("Intervals", _legend(report["methods"]) + _panels(report, scores)),
        _section("What it looks like", _people(shown)) if shown else "",
        _section("Coverage", _coverage(report["coverage"])),
        _section("How the numbers were made", _definitions(report) + _protocol(report) + _digests(report)),
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


# Numbers --------------------------------------------------------------------------------------------------


def digits(entries: list[dict[str, Any]]) -> int:
    """Decimals with which a metric is printed: the larger its numbers, the fewer."""
    largest = max(abs(entry["mean"]) for entry in entries)
    return 3 if largest < 2 else 2 if largest < 20 else 1


def best(methods: dict[str, Any], metric: str, better: str) -> set[str]:
    """The dubbed rows whose mean is best, none where all are alike; the ground truth competes with nobody."""
    means = {name: scores[metric]["mean"] for name, scores in methods.items() if name != FLOOR}
    top = max(means.values()) if better == "higher" else min(means.values())
    won = {name for name, mean in means.items() if mean == top}
    return won if len(won) < len(means) else set()


def _measured(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The metrics of the protocol that were not refused."""
    refused = report.get("refused", {})
    return {name: stated for name, stated in report["protocol"]["metrics"].items() if name not in refused}


def _columns(methods: dict[str, Any]) -> list[str]:
    return [*(name for name in methods if name != FLOOR), *([FLOOR] if FLOOR in methods else [])]


def _table(report: dict[str, Any]) -> str:
    methods = report["methods"]
    names = _columns(methods)
    head = "".join(
        f'<th scope="col" class="row of-{escape(name)}{" floor" if name == FLOOR else ""}">{escape(name)}</th>'
        for name in names
    )
    body = []
    for metric, stated in _measured(report).items():
        places = digits([methods[name][metric] for name in names])
        won = best(methods, metric, stated["better"])
        cells = "".join(_cell(methods[name][metric], places, name in won, name == FLOOR) for name in names)
        arrow = f'{ARROWS[stated["better"]]}<span class="hidden"> {stated["better"]} is better</span>'
        unit = f'<span class="unit">{escape(stated["unit"])}</span>'
        body.append(f'<tr><th scope="row">{escape(metric)} {arrow}{unit}</th>{cells}</tr>\n')
    return (
        '<div class="scroll"><table class="scores">\n<caption>Mean over people with its 95 % interval. Bold: the best '
        "dubbed row. Shaded: the clip itself, what codec and detector alone cost.</caption>\n"
        f'<thead><tr><th scope="col">metric</th>{head}</tr></thead>\n<tbody>\n{"".join(body)}</tbody>\n</table></div>'
    )


def _cell(entry: dict[str, Any], places: int, won: bool, floor: bool) -> str:
    mean = _number(entry["mean"], places)
    shown = f"<strong>{mean}</strong>" if won else mean
    ci95 = entry["ci95"]
    ends = "no interval" if ci95 is None else f"[{_number(ci95[0], places)}, {_number(ci95[1], places)}]"
    return f'<td{" class=" + chr(34) + "floor" + chr(34) if floor else ""}>{shown} <span class="ci">{ends}</span></td>'


def _number(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "\N{MINUS SIGN}")


def _legend(methods: dict[str, Any]) -> str:
    items = "".join(
        f'<li class="of-{escape(name)}"><span>{escape(name)}: {escape(ROLE.get(name, ""))}</span></li>'
        for name in methods
    )
    note = '<p class="facts">Disc: mean over people. Bar: its 95 % interval. Circles: people.</p>'
    return f'<ul class="legend">{items}</ul>\n{note}'


def _panels(report: dict[str, Any], scores: list[ClipScore]) -> str:
    methods, figures = report["methods"], []
    scored = [score for score in scores if score.reason is None]
    for metric, stated in _measured(report).items():
        rows = []
        for name in methods:
            people = person_means((score.person, score.methods[name][metric]) for score in scored)
            rows.append((name, methods[name][metric], list(people.values())))
        spoken = "; ".join(f"{name} {entry['mean']:.3g}" for name, entry, _ in rows)
        arrow = f"{ARROWS[stated['better']]} {stated['better']} is better"
        figures.append(
            f'<figure><figcaption>{escape(metric)} <span class="unit">{escape(stated["unit"])}, {arrow}</span>'
            f"</figcaption>{svg.intervals(f'{metric}, means: {spoken}', rows)}</figure>\n"
        )
    return f'<div class="panels">\n{"".join(figures)}</div>'


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


# What the numbers rest on ---------------------------------------------------------------------------------


def _coverage(coverage: dict[str, Any]) -> str:
    words = f"<p>{escape(coverage_in_words(coverage))}. A clip that fails in one row is missing from all of them.</p>"
    if not coverage["misses"]:
        return words
    names = ("key", "person", "reason", "message")
    return words + _words_table(
        "Clips that were not scored", names, [[m[name] for name in names] for m in coverage["misses"]]
    )


def _definitions(report: dict[str, Any]) -> str:
    protocol = report["protocol"]
    rows = [[name, said] for name, said in protocol["methods"].items()]
    metrics = [[name, s["unit"], s["better"], s["definition"]] for name, s in protocol["metrics"].items()]
    return _details(
        "Definitions",
        _words_table("Rows", ("row", "definition"), rows)
        + _words_table("Metrics", ("metric", "unit", "better", "definition"), metrics),
    )


def _protocol(report: dict[str, Any]) -> str:
    protocol = {name: value for name, value in report["protocol"].items() if name not in ("methods", "metrics")}
    said = [(name, _in_words(value)) for name, value in {**protocol, **report.get("environment", {})}.items()]
    return _details("Protocol", _words_table("Everything else that decides the numbers", ("setting", "value"), said))


def _digests(report: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><code>{escape(digest)}</code></td></tr>\n'
        for name, digest in report["digests"].items()
    )
    head = '<thead><tr><th scope="col">of</th><th scope="col">SHA-256</th></tr></thead>'
    caption = "<caption>Data and models the numbers were made from</caption>"
    return _details(
        "Digests", f'<div class="scroll"><table class="words">{caption}{head}<tbody>\n{rows}</tbody></table></div>'
    )


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {said}" for name, said in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "all" if value is None else str(value)


def _words_table(caption: str, head: tuple[str, ...], rows: Any) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>'
        + "".join(f"<td>{escape(str(v))}</td>" for v in rest)
        + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table class="words"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{body}</details>\n"
