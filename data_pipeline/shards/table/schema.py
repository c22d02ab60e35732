"""Columns of the manifest's table that every folder has, and the words of its header."""

from __future__ import annotations

import pyarrow as pa

from data_pipeline.shards.facts import FACTS
from data_pipeline.shards.layout import MEMBERS, SPEAKS, WHY_SILENT

FORMAT = 3  # 3: landmarks have a depth, 478 x 3
TABLE, HEADER = "manifest.parquet", "manifest.json"
INDEXED = "indexed"  # in the header of an index: the tars, or folders and shards, that it is of
ANNOTATIONS = "annotations"  # in the header: name -> its columns, what made them, its digest
SPLITS = ("train", "val", "unseen", "held_out")  # the last: whole corpora, out of domain
GROUP_ROWS = 4096  # of the table; what is read to find one clip's bytes

PLACES = [(f"{member}_{what}", pa.int64()) for member in MEMBERS for what in ("offset", "size")]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.string()),
        ("corpus", pa.string()),
        ("split", pa.string()),
        ("frames", pa.int32()),
        ("shard", pa.int32()),
        *PLACES,
        ("source", pa.string()),
        ("track", pa.int32()),
        ("start_frame", pa.int32()),
        ("stop_frame", pa.int32()),
        ("source_fps", pa.float64()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_sha256", pa.string()),
        ("crop", pa.list_(pa.float64(), 6)),
        ("crop_px", pa.int32()),
        *((fact.name, fact.type) for fact in FACTS),
        (SPEAKS, pa.bool_()),
        (WHY_SILENT, pa.string()),
    ]
)
