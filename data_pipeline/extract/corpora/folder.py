"""The layout `folder`: any tree of videos. A folder for each person (VIDEOS/PERSON/*.mp4), or one file for each.

A pattern names the person in any other tree, and facts beside: `{person}/{language}/**` or `clips/{person}_*`. A word
in braces takes all characters of one folder's or file's name, `*` as well, without giving them a name; `**` takes any
number of folders. The suffix is left out. Videos that do not match are not used, and counted as `unlisted`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_pipeline.extract.corpora.layouts import Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

TOKEN = re.compile(r"\{([a-z][a-z0-9_]*)\}|(\*\*/?)|(\*)")
PERSON = "person"


def videos(
    tree: Tree, level: str | None = None, pattern: str | None = None, audio: str | None = None
) -> Iterator[Video]:
    """Every video that matches; `level` is what `person` needs without a pattern.

    `audio` says where the sound of a video lies, if that is another file: a path in which {path} stands for the video's
    without its suffix, {stem} for its name, and a word of the pattern for what it took. Raises UserError as `person`
    does, and for a pattern that no video matches.
    """
    expression = None if pattern is None else _expression(pattern)
    matched = False
    for path in tree.paths:
        words: dict[str, str] = {}
        if expression is not None:
            found = expression.fullmatch(_without_suffix(path))
            if found is None:
                continue
            words = found.groupdict()
        matched = True
        facts: dict[str, Fact] = {name: value for name, value in words.items() if name != PERSON}
        named = words.get(PERSON) or person(path, level)
        yield Video(path, named, facts=facts, audio=_sound(path, audio, words))
    if tree.paths and not matched:
        raise UserError(f"no video in {tree} matches '{pattern}'; the first one is '{tree.paths[0]}'")


def person(path: str, level: str | None) -> str:
    """The person in a video: the name of the folder that holds it, or its own stem at the top.

    Where videos lie deeper than one folder, the person may be the `first` folder (VoxCeleb2, MEAD) or the `parent`: a
    wrong guess would put one person into two splits, so `level` must say which. Raises UserError without it.
    """
    parts = path.split("/")
    if len(parts) == 1:
        return PurePosixPath(path).stem
    if len(parts) > 2 and level is None:
        raise UserError(
            f"'{path}' lies deeper than one folder; add --identity first or --identity parent to say which "
            "folder names the person, or --pattern"
        )
    return parts[0] if level == "first" else parts[-2]


def _expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern. Raises UserError where it does not name the person once."""
    parts, at, seen = [], 0, []
    for token in TOKEN.finditer(pattern):
        parts.append(re.escape(pattern[at : token.start()]))
        name, deep, _ = token.groups()
        seen.append(name)
        parts.append(f"(?P<{name}>[^/]+)" if name else "(?:.*/)?" if deep == "**/" else ".*" if deep else "[^/]*")
        at = token.end()
    rest = pattern[at:]
    named = [name for name in seen if name]
    if named.count(PERSON) != 1 or len(set(named)) != len(named) or set(rest) & set("{}"):
        raise UserError(f"--pattern '{pattern}' must hold {{person}} once, such as '{{person}}/{{language}}/**'")
    return re.compile("".join([*parts, re.escape(rest)]), re.DOTALL)


def _sound(path: str, audio: str | None, words: dict[str, str]) -> str:
    """The path of a video's sound, "" where it lies in the video itself."""
    if audio is None:
        return ""
    without = _without_suffix(path)
    words = {**words, "path": without, "stem": without.rpartition("/")[2]}

    def word(token: re.Match[str]) -> str:
        if token[1] not in words:
            raise UserError(f"--audio '{audio}': {token[0]} is none of {{{'}, {'.join(sorted(words))}}}")
        return words[token[1]]

    return re.sub(r"\{([a-z0-9_]+)\}", word, audio)


def _without_suffix(path: str) -> str:
    before, dot, suffix = path.rpartition(".")
    return before if dot and before and not before.endswith("/") and "/" not in suffix else path
