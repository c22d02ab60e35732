"""How an extraction lies on disk: the columns of a shard, the members of a clip, the names of files.

Apart from what writes them, so that readers need neither decoders nor encoders.
"""

from __future__ import annotations

from pathlib import Path

COLUMNS = ("motion", "frames")
FRAMES_PX = "frames_px"  # column of the manifest: the side of a clip's pictures, where that is not the crop's
SYNC_OFFSET = "sync_offset"  # column of the manifest: by how many frames of 25 Hz the audio is late
HAS_AUDIO = "has_audio"  # column of the manifest: whether a clip has sound; where it lacks, all have
SPEAKS = "speaks"  # column of the manifest: whether its person speaks; missing: unknown
WHY_SILENT = "why_silent"  # column of the manifest: the rule that says that the person does not speak, else empty
COPIES, PERSON = JOINED = ("copy_group", "person_cluster")  # columns of `annotate` that a split keeps together
# member -> (column, extension in the tar). The video is not called `frames`: that is the clip's length.
MEMBERS = {
    "landmarks": ("motion", "landmarks.npy"),
    "audio": ("motion", "audio.wav"),
    "facts": ("motion", "facts.json"),
    "video": ("frames", "frames.mp4"),
}


def tar_name(column: str, shard: int) -> str:
    """Name of the tar of a shard's column."""
    return f"{column}-{shard:06d}.tar"


def tar_path(out: Path, column: str, shard: int) -> Path:
    """Where a column of a shard lies."""
    return out / tar_name(column, shard)


def sums_name(column: str, shard: int) -> str:
    """Name of the file of a tar's checksums."""
    return f"{column}-{shard:06d}.crc"


def part_path(out: Path, shard: int) -> Path:
    """Where a shard's part of the ledger lies."""
    return out / "parts" / f"{shard:06d}.json"


def rejected_path(out: Path, shard: int) -> Path:
    """Where the thumbnails of a shard's rejected spans lie."""
    return out / "rejected" / f"{shard:06d}.tar"
