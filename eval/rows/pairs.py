"""Which prediction is scored against which real video: by name, or by a CSV. Every file ends in one pair.

By name: a prediction belongs to the real video with the same path below its folder, whatever the suffixes. A file
without its counterpart, or with two, is a pair that cannot be scored: it is counted, with its reason.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipeline.extract.listing.names import to_text
from data_pipeline.extract.listing.walk import SUFFIXES
from eval.tasks import PICTURED_PEOPLE
from mytalk.command import UserError
from mytalk.digest import sha256_of

MISSING, EXTRA, NO_FILE = "missing_prediction", "extra_prediction", "missing_file"
TWO_REAL, TWO_PREDICTIONS = "two_real_videos", "two_predictions"
METHOD = "method_"  # before a method's name among the digests
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PROTOCOLS = (SAME_AUDIO, CROSS_AUDIO) = ("same-audio", "cross-audio")  # what a prediction says: the same, or else
COLUMNS = {"pred", "real", "person", "speech"}
BY_NAME = "a prediction belongs to the real video of the same path below its folder, whatever their suffixes"
PERSON = "the CSV's, else the real video's folder below REAL; a file in no folder is a person of its own"


@dataclass(frozen=True)
class Pair:
    """A prediction, its real video, and the speech that it says (None: that of a soundtrack).

    `problem`: (reason, message) where it cannot be scored. `pictured`: its videos are kept for the page.
    """

    key: str
    person: str
    pred: Path | None = None
    real: Path | None = None
    speech: Path | None = None
    problem: tuple[str, str] | None = None
    pictured: bool = False


def by_name(pred: Path, real: Path) -> list[Pair]:
    """The pairs of two folders. Raises UserError where a folder has no video or no two names agree."""
    predictions, real_videos = _named(pred, "--pred"), _named(real, "--real")
    if not predictions.keys() & real_videos.keys():
        one, other = min(predictions), min(real_videos)
        raise UserError(
            f"no video of {to_text(pred)} has the name of one of {to_text(real)} ('{one}' against '{other}'); name "
            "them alike, or give the pairs with --pairs FILE.csv"
        )
    return _pictured(
        _pair(key, predictions.get(key, []), real_videos.get(key, []))
        for key in sorted(predictions.keys() | real_videos.keys())
    )


def by_csv(file: Path, pred: Path, real: Path) -> list[Pair]:
    """The pairs of a CSV with the columns pred, real and, where wanted, person and speech.

    Paths are relative to `pred`, to `real`, and of speech to the CSV's folder. Raises UserError for a line that is not
    of that form.
    """
    pairs, line_of = [], dict[str, int]()
    for line, row in _lines(file):
        key, real_name = _stem(row["pred"]), row["real"]
        if key in line_of:
            raise UserError(f"{file}, line {line}: {row['pred']} is also in line {line_of[key]}; name each once")
        line_of[key] = line
        paths = {"pred": pred / row["pred"], "real": real / real_name}
        if row.get("speech"):
            paths["speech"] = file.parent / row["speech"]
        person = row.get("person") or _person(_stem(real_name))
        absent = [name for name, path in paths.items() if not path.is_file()]
        pair = Pair(key, person, paths["pred"], paths["real"], paths.get("speech"))
        if absent == ["pred"]:
            pair = replace(pair, problem=(MISSING, f"no file {row['pred']} below {to_text(pred)}"))
        elif absent:
            pair = replace(pair, problem=(NO_FILE, f"no file {to_text(paths[absent[-1]])}"))
        pairs.append(pair)
    problems = [pair.problem for pair in pairs if pair.problem is not None]
    if len(problems) == len(pairs):
        raise UserError(f"{file}: no line names files that exist; the first: {problems[0][1]}")
    return _pictured(sorted(pairs, key=lambda pair: pair.key))


def speeches(file: Path, names: Collection[str]) -> dict[str, Path]:
    """The speech of each clip of these names, by a CSV as `eval clips --protocol cross-audio` writes it.

    Raises UserError where a clip has no line in it, or a line no file of speech.
    """
    of = {_stem(row["pred"]): file.parent / row["speech"] for _, row in _lines(file) if row.get("speech")}
    for name in names:
        if name not in of or not of[name].is_file():
            what = f"no file {to_text(of[name])}" if name in of else f"no line with a speech for {name}.mp4"
            raise UserError(f"{file}: {what}; eval clips --protocol cross-audio writes such a list")
    return {name: of[name] for name in names}


def speech_digest(speech_of: Mapping[str, Path]) -> str:
    """SHA-256 of which clip says what."""
    return _whole((name, sha256_of(path)) for name, path in sorted(speech_of.items()))


def method_name(name: str, taken: Collection[str]) -> str:
    """A method's name as it was typed. Raises UserError for one that is no name, or is taken."""
    if not NAME.fullmatch(name) or name in taken:
        raise UserError(
            f"'{name}' names no method: a name is of letters, digits, '-', '_' and '.', and none of {', '.join(taken)}"
        )
    return name


def methods_of(words: list[str], keys: Collection[str], taken: Collection[str]) -> dict[str, dict[str, Path]]:
    """The videos of other methods, typed NAME=DIR, by name: files by their names without suffix.

    `keys`: the names that the clips have. Raises UserError where a folder has none of them, or one twice.
    """
    methods: dict[str, dict[str, Path]] = {}
    for word in words:
        name, equals, typed = word.partition("=")
        if not equals:
            raise UserError(f"--method {word}: type NAME=DIR, the method's name and the folder of its videos")
        files = _named(Path(typed), f"--method {name}=DIR")
        if several := [stem for stem in files if len(files[stem]) > 1]:
            raise UserError(f"{typed} holds several videos '{several[0]}'; keep one")
        if not files.keys() & set(keys):
            raise UserError(f"{typed} holds no video named as a clip, as '{min(keys)}'; eval clips writes such names")
        methods[method_name(name, {*taken, *methods})] = {stem: paths[0] for stem, paths in files.items()}
    return methods


def method_digests(methods: Mapping[str, Mapping[str, Path]], keys: Collection[str]) -> dict[str, str]:
    """SHA-256 of every method's videos of these clips."""
    return {
        f"{METHOD}{name}": _whole((key, sha256_of(files[key])) for key in sorted(keys) if key in files)
        for name, files in methods.items()
    }


def _whole(rows: Iterable[tuple]) -> str:
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


def videos_below(folder: Path) -> list[Path]:
    """Videos below a folder by their suffix, sorted; links are followed, hidden files and folders are not looked at."""
    found, entered = [], set[str]()
    for here, inner, names in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(here))
        inner[:] = sorted(
            name
            for name in inner
            if not name.startswith(".") and os.path.realpath(os.path.join(here, name)) not in entered
        )
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                found.append(Path(here, name))
    return found


def digests(pairs: list[Pair]) -> dict[str, str]:
    """SHA-256 of all predictions, of all real videos, and of which belongs to which with which speech."""
    of: dict[Path, str] = {}
    for path in {p for pair in pairs for p in (pair.pred, pair.real, pair.speech) if p is not None and p.is_file()}:
        of[path] = sha256_of(path)

    def digest(path: Path | None) -> str | None:
        return None if path is None else of.get(path)

    return {
        "predictions": _whole((pair.key, digest(pair.pred)) for pair in pairs),
        "real_videos": _whole((pair.key, digest(pair.real)) for pair in pairs if pair.real is not None),
        "pairs": _whole((pair.key, pair.person, digest(pair.speech)) for pair in pairs if pair.real is not None),
    }


def _named(folder: Path, option: str) -> dict[str, list[Path]]:
    """Files by their name without suffix. Raises UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"no folder {to_text(folder)}; name the folder of videos with {option}")
    files: dict[str, list[Path]] = {}
    for path in videos_below(folder):
        files.setdefault(_stem(to_text(path.relative_to(folder))), []).append(path)
    if not files:
        raise UserError(f"no video below {to_text(folder)}; name the folder of videos with {option}")
    return files


def _pair(key: str, predictions: list[Path], real_videos: list[Path]) -> Pair:
    names = {len(predictions): predictions, len(real_videos): real_videos}
    problem = None
    if not real_videos:
        problem = (EXTRA, "no real video has its name")
    elif not predictions:
        problem = (MISSING, "no prediction has its name")
    elif len(real_videos) > 1 or len(predictions) > 1:
        several = ", ".join(to_text(path.name) for path in names[max(names)])
        problem = (
            TWO_REAL if len(real_videos) > 1 else TWO_PREDICTIONS,
            f"the name stands for several files: {several}",
        )
    pred, real = next(iter(predictions), None), next(iter(real_videos), None)
    return Pair(key, _person(key), pred, real, problem=problem)


def _pictured(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs, the first of some people marked to be pictured."""
    marked, people = [], set[str]()
    for pair in pairs:
        shown = pair.problem is None and pair.person not in people and len(people) < PICTURED_PEOPLE
        if shown:
            people.add(pair.person)
        marked.append(replace(pair, pictured=shown))
    return marked


def _stem(path: str) -> str:
    """A path as text without the suffix of a video."""
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in SUFFIXES else path


def _person(key: str) -> str:
    return os.path.dirname(key) or key


def _lines(file: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines of a CSV by number, checked."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, strict=True)
            head = [name or "" for name in reader.fieldnames or ()]
            if not {"pred", "real"} <= set(head) or set(head) - COLUMNS or len(head) != len(set(head)):
                raise UserError(
                    f"{file}: its first line must name the columns pred, real and, where wanted, person and speech, "
                    f"not {','.join(head) or 'nothing'}"
                )
            lines = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{file} is no CSV ({error}); write one with the columns pred and real") from None
    for line, row in lines:
        if None in row or None in row.values() or not row["pred"] or not row["real"] or "\0" in "".join(row.values()):
            raise UserError(f"{file}, line {line}: it must give a value for each of {', '.join(head)}")
    if not lines:
        raise UserError(f"{file} names no pair; write a line for each")
    return lines
