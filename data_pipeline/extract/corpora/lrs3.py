"""The layout `lrs3`: LRS3, videos cut to sentences, each with a text file of labels beside it.

VIDEOS/{pretrain,trainval,test}/YTID/00001.mp4 and 00001.txt with lines `Text:  ...`, `Conf:  n`, `Ref:  YTID`. The
person is the YouTube video (YTID), and lies in the middle of its pictures. Facts: `subset` (the first folder),
`official_split` and, where the labels have it, `asr_confidence` (Conf, higher is surer). Source:
robots.ox.ac.uk/~vgg/data/lip_reading/lrs3.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_pipeline.extract.corpora.layouts import CENTRE, OFFICIAL_SPLIT, Fact, Video
from data_pipeline.extract.listing.tree import Tree
from mytalk.command import UserError

LICENCE = "CC-BY-NC-ND-4.0"
SPLITS = {"pretrain": "train", "trainval": "train", "test": "test"}


def videos(tree: Tree) -> Iterator[Video]:
    """Every video of the subsets. Raises UserError where there is none of them."""
    paths = [path for path in tree.paths if path.count("/") == 2 and path.split("/")[0] in SPLITS]
    if not paths:
        raise UserError(f"no {'|'.join(SPLITS)}/YTID/*.mp4 below {tree}; name the folder that holds these")
    for path in paths:
        subset, person, _ = path.split("/")
        facts: dict[str, Fact] = {"subset": subset, OFFICIAL_SPLIT: SPLITS[subset]}
        labels = str(PurePosixPath(path).with_suffix(".txt"))
        text = tree.text(labels) if tree.has(labels) else ""
        if confidence := re.search(r"^Conf:\s*(-?\d+)", text, re.M):
            facts["asr_confidence"] = int(confidence[1])
        yield Video(path, person, facts=facts, faces=(CENTRE,))
