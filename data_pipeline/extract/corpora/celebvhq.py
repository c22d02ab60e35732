"""The layout `celebvhq`: CelebV-HQ, parts of YouTube videos, whole or as its tools cut them.

VIDEOS/celebvhq_info.json: `clips[key] = {ytb_id, duration: {start_sec, end_sec}, bbox: {top, bottom, left, right}}`,
the box in shares of the picture. The videos lie below VIDEOS as raw/YTB_ID.mp4 or processed/KEY.mp4; the latter is
taken where both are there. The person is YTB_ID: the list names nobody, and one YouTube video may show several. Fact:
`emotion` of clips that have one alone. Source: github.com/CelebV-HQ/CelebV-HQ.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from data_pipeline.extract.corpora.layouts import CENTRE, EMOTION, FaceBox, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "CelebV-HQ terms: research only"


def videos(tree: Tree) -> Iterator[Video]:
    """A video for each clip that was cut, and for each whole one. Raises UserError without the list."""
    lists = [path for path in tree.named("*celebvhq*.json") if "clips" in tree.json(path)]
    if not lists:
        raise UserError(f"no celebvhq_info.json with `clips` below {tree}; bring it there")
    path_of = {PurePosixPath(path).stem: path for path in tree.paths}
    whole: dict[str, list[dict[str, Any]]] = {}
    try:
        for labels in lists:
            for key, clip in tree.json(labels)["clips"].items():
                if key in path_of:
                    yield Video(path_of[key], clip["ytb_id"], facts=_facts([clip]), faces=(CENTRE,))
                else:
                    whole.setdefault(clip["ytb_id"], []).append(clip)
        for person, clips in whole.items():
            faces = tuple(_face(clip) for clip in clips)
            ranges_s = tuple((face.start, face.stop) for face in faces if face.stop is not None)
            yield Video(path_of.get(person, f"raw/{person}.mp4"), person, ranges_s, _facts(clips), faces=faces)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{lists[0]}: a clip lacks {error}; fetch the list again") from None


def _face(clip: dict[str, Any]) -> FaceBox:
    box = {name: float(clip["bbox"][name]) for name in ("top", "bottom", "left", "right")}
    width, height = box["right"] - box["left"], box["bottom"] - box["top"]
    times_s = float(clip["duration"]["start_sec"]), float(clip["duration"]["end_sec"])
    return FaceBox(box["left"] + width / 2, box["top"] + height / 2, width, height, "share", 0, *times_s)


def _facts(clips: list[dict[str, Any]]) -> dict[str, Fact]:
    """The emotion, where all of the clips have one and the same."""
    emotions = {_emotion(clip.get("attributes", {}).get("emotion", "")) for clip in clips}
    return {EMOTION: emotions.pop() if len(emotions) == 1 else ""}


def _emotion(labels: Any) -> str:
    """The one emotion of a clip: a name, in `labels` or in a list of parts; "" where there are several."""
    if isinstance(labels, dict):
        labels = labels.get("labels", labels.get("emotion", ""))
    if isinstance(labels, list):
        return _emotion(labels[0]) if len(labels) == 1 else ""
    return labels if isinstance(labels, str) else ""
