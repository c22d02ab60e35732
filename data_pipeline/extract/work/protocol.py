"""OUT/protocol.json: how the shards of a folder are made. Other tools or rules need another folder."""

from __future__ import annotations

import json
from pathlib import Path

from data_pipeline.extract import hearing, process, transnet
from data_pipeline.extract.rules.rules import Rules, described
from data_pipeline.shards.table.schema import FORMAT
from mytalk import atomic, command, media
from mytalk.face import crop, detector
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ
from mytalk.media import cuts

PROTOCOL = "protocol.json"


def refuse_other_format(out: Path) -> None:
    """UserError where OUT holds clips of another format, also where no shard is left to be made."""
    try:
        before = json.loads((out / PROTOCOL).read_text()).get("format", "an older one")
    except FileNotFoundError:
        return
    if before != FORMAT:
        raise command.UserError(
            f"{out} holds shards of another format ({before}), this version writes {FORMAT}; "
            "extract into another folder"
        )


def pin(out: Path, detector_name: str, shots_name: str, rules: Rules) -> None:
    """Write OUT/protocol.json, or refuse to go on with other tools than those that made the first shards."""
    detector_module = detector.module_of(detector_name)
    protocol = {
        "format": FORMAT,
        "crop_px": CROP_PX,
        "crop_margin": crop.MARGIN,
        "frame_hz": FRAME_HZ,
        "sample_hz": SAMPLE_HZ,
        "detector": detector_module.NAME,
        "detector_version": detector_module.version(),
        "video_codec": {"name": "libx264", **media.CLIP_CODEC},
        "media_version": media.VERSION,
        "speech": hearing.described(),
        "shots": transnet.described() if shots_name == process.TRANSNET else cuts.described(),
        "rules": described(rules),
    }
    path = out / PROTOCOL
    try:
        before = json.loads(path.read_text())
    except FileNotFoundError:
        atomic.write_json(path, protocol)
        return
    for name, value in protocol.items():
        if before.get(name) != value:
            raise command.UserError(
                f"{out} was begun with {name} = {before.get(name)}, here it is {value}; install that or name "
                "another folder"
            )
