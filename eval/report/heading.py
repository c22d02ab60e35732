"""The head of a page: what was scored, the result in one sentence, and the verdicts."""

from __future__ import annotations

from typing import Any

from eval.metrics.metric import DIRECTIONS
from eval.report import text, verdicts
from eval.score_file import FLOOR, OURS
from mytalk.intervals import shown

FIRST = ("opening_correlation", "sync_confidence", "detected_share")  # what the sentence is of: the first measured
WHO = {
    "unseen": "People of the split unseen, which training leaves out,",
    "val": "People of the split val, on whom no weight is trained but by whom training is watched,",
    "held_out": "People of the split held_out, whose corpora training leaves out,",
    "train": "People of the split train, whom the models were trained on, so that this says nothing about others,",
}


def main_row(report: dict[str, Any]) -> str:
    """The row that a report is about: ours, or the first that is not the real video."""
    rows = [name for name in report["methods"] if name != FLOOR]
    return OURS if OURS in rows or not rows else rows[0]


def heading(report: dict[str, Any]) -> dict[str, str]:
    """Title, facts and sentences of the page's head."""
    protocol, covered = report["protocol"], report["coverage"]
    date = report.get("environment", {}).get("date")
    split = f" of split {protocol['split']}" if "split" in protocol else ""
    seed = f"seed {protocol['seed']}" if "seed" in protocol else None
    words = {
        "title": "MyTalk benchmark" if "split" in protocol else f"Videos of {main_row(report)}",
        "people_and_clips": f"{covered['people']['scored']} people{split}, "
        f"{covered['clips']['scored']} clips{text.of_corpora(protocol)}",
        "made": ", ".join(filter(None, [date, seed])),
        "summary": summary(report),
        "cross_audio": protocol["name"] if "split" in protocol and protocol["name"].endswith("cross audio") else "",
    }
    if "split" not in protocol:
        return words
    sources = {"who": WHO[protocol["split"]], "other_speech": _other_speech(protocol), "source": _source(protocol)}
    return words | sources


def summary(report: dict[str, Any]) -> str:
    """The result in one sentence: the main row and the real video, by the first metric there is, and the coverage."""
    methods, main = report["methods"], main_row(report)
    metric = next((name for name in FIRST if name in methods[main]), next(iter(methods[main])))
    direction = DIRECTIONS[report["protocol"]["metrics"][metric]["better"]]
    rows = [f"{main} has {shown(methods[main][metric])} in {metric} ({direction})"]
    if metric in methods.get(FLOOR, {}):
        rows.append(f"the real video through the same codec {shown(methods[FLOOR][metric])}")
    rows += [f"{name} {shown(methods[name][metric])}" for name in verdicts.BASELINES if metric in methods.get(name, {})]
    clips, people = report["coverage"]["clips"], report["coverage"]["people"]
    return (
        f"{', '.join(rows)}; {clips['scored']} of {clips['total']} clips of {people['scored']} of {people['total']} "
        "people could be scored."
    )


def verdict_items(report: dict[str, Any]) -> list[dict[str, str]]:
    """A tag, its colour and a sentence for each verdict, for what is omitted, and for the coverage."""
    methods, items = report["methods"], []
    if "gate" in report:
        passed = report["gate"]["passed"]
        gate = verdicts.gate_in_words(methods).removeprefix(f"gate: {'PASS' if passed else 'FAIL'}: ")
        items.append(("Gate: pass", "pass", gate) if passed else ("Gate: FAIL", "fail", gate))
    if "ordering" in report:
        colour = "pass" if report["ordering"]["holds"] else "neutral"
        items.append(("Sync ordering", colour, verdicts.ordering_in_words(methods).removeprefix("ordering: ")))
    for row in verdicts.AGAINST:
        if f"against_{row}" in report:
            words = verdicts.against_in_words(row, report[f"against_{row}"])
            items.append((f"Against {row.replace('_', ' ')}", "neutral", words))
    items += [("All clips", "neutral", line) for line in text.sets(report)]
    items += [("Refused", "neutral", f"{', '.join(names)}: {why}") for why, names in text.refused(report).items()]
    items.append(("Coverage", "neutral", text.coverage(report["coverage"])))
    return [{"tag": tag, "colour": colour, "text": words} for tag, colour, words in items]


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
