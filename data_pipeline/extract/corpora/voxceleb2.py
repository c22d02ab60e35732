"""The layout `voxceleb2`: VoxCeleb2, videos cut round the speaker, with their sound in another tree.

VIDEOS/{dev,test}/mp4/ID/YTID/00001.mp4, or without the first folder; the sound in the video or at
.../aac/ID/YTID/00001.m4a beside. The person is ID. Where VIDEOS/vox2_meta.csv lies there (`VoxCeleb2 ID, VGGFace2 ID,
Gender, Set`): `gender` and `official_split`. Where .../txt/ID/YTID/00001.txt lies there: `sync_offset_official`
(Offset, frames), `asd_confidence` (ASD Conf) and `face_confidence` (FV Conf). Source:
robots.ox.ac.uk/~vgg/data/voxceleb.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_pipeline.extract.corpora.layouts import CENTRE, GENDER, OFFICIAL_SPLIT, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "VoxCeleb terms: research only"
VIDEO = re.compile(r"(?:(.*/)?(dev|test)/)?mp4/(id\d+)/([^/]+)/([^/]+)\.mp4")
GENDERS = {"m": "male", "f": "female"}
LABELS = {"asd_confidence": "ASD Conf", "face_confidence": "FV Conf", "sync_offset_official": "Offset"}


def videos(tree: Tree) -> Iterator[Video]:
    """Every video. Raises UserError where there is none."""
    people = _people(tree)
    matched = False
    for path in tree.paths:
        found = VIDEO.fullmatch(path)
        if found is None:
            continue
        matched = True
        person, before, rest = found[3], path[: found.start(3)].removesuffix("mp4/"), path[found.start(3) :]
        facts: dict[str, Fact] = {GENDER: people.get(person, ("", ""))[0]}
        facts[OFFICIAL_SPLIT] = {"dev": "train", "test": "test"}.get(found[2] or people.get(person, ("", ""))[1], "")
        facts |= _labels(tree, f"{before}txt/{rest.removesuffix('.mp4')}.txt")
        sound = f"{before}aac/{rest.removesuffix('.mp4')}.m4a"
        yield Video(path, person, facts=facts, audio=sound if tree.has(sound) else "", faces=(CENTRE,))
    if not matched:
        raise UserError(f"no mp4/ID/YTID/*.mp4 in or below dev or test in {tree}; name the folder that holds these")


def _people(tree: Tree) -> dict[str, tuple[str, str]]:
    """ID -> gender and set."""
    people = {}
    for path in tree.named("vox2_meta.csv"):
        for line in tree.text(path).splitlines()[1:]:
            fields = [field.strip() for field in re.split(r"\s*,\s*|\t+", line)]
            if len(fields) >= 4:
                people[fields[0]] = (GENDERS.get(fields[2].lower(), ""), fields[3])
    return people


def _labels(tree: Tree, path: str) -> dict[str, Fact]:
    text = tree.text(path) if tree.has(path) else ""
    found = {name: re.search(rf"^{label}\s*:\s*(-?[\d.]+)", text, re.M) for name, label in LABELS.items()}
    return {name: float(match[1]) for name, match in found.items() if match}
