"""The layout `lrs3`: LRS3, videos cut to sentences, each with a text file of labels beside it.

VIDEOS/{pretrain,trainval,test}/YTID/00001.mp4 and 00001.txt with lines `Text:  ...`, `Conf:  n`, `Ref:  YTID`. The
person is the YouTube video (YTID). Facts: `subset` (the first folder) and, where the labels have it, `asr_confidence`
(Conf, higher is surer). Source: robots.ox.ac.uk/~vgg/data/lip_reading/lrs3.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.extract.corpora.layouts import Fact, Video
from data_pipeline.extract.listing import names
from mytalk.command import UserError

SUBSETS = ("pretrain", "trainval", "test")


def videos(folder: Path, paths: list[str]) -> Iterator[Video]:
    """Every video of the subsets. Raises UserError where there is none of them."""
    paths = [path for path in paths if path.count("/") == 2 and path.split("/")[0] in SUBSETS]
    if not paths:
        raise UserError(f"no {'|'.join(SUBSETS)}/YTID/*.mp4 below {folder}; name the folder that holds these")
    for path in paths:
        subset, person, _ = path.split("/")
        facts: dict[str, Fact] = {"subset": subset}
        labels = (folder / names.to_path(path)).with_suffix(".txt")
        text = labels.read_text(errors="replace") if labels.is_file() else ""
        if confidence := re.search(r"^Conf:\s*(-?\d+)", text, re.M):
            facts["asr_confidence"] = int(confidence[1])
        yield Video(path, person, facts=facts)
