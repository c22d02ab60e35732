"""How well readers of lips, and MediaPipe, follow the mouths that were drawn; without a truth, readers MediaPipe.

The true crops of a split are read; what a reader sees of them are pixels. With --truth the drawn lips (`truth.jsonl` of
the corpus) are the truth, in the same crop; without it MediaPipe's points in the shards are. Told are the correlation
over a clip's frames of opening, width and the height of the upper lip, where they move, and their amplitude (standard
deviation by the true one). The mean of the three correlations is what `train reader` requires of a reader.

Shape suffixes: T frames, N landmarks (478), M lip points (40), L drawn lip points, K = 3 measures, 2 = (x, y).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness
from data_pipeline.shards import reader as shards
from data_pipeline.shards import video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.schema import SPLITS
from mytalk import command, intervals
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError
from mytalk.face.landmarks import MOUTH
from mytalk.networks import reader
from mytalk.networks.reader import LipReader, Place
from mytalk.progress import Progress
from train.recipes.reader import STILL, correlation

DETECTOR, ALL = "MediaPipe", "mean of the three"
DRAWN = ("left_corner", "right_corner", "upper_outer", "upper_inner", "lower_inner")  # of a record's `lips`
Values = dict[str, list[tuple[str, float]]]  # column -> (person, value) of each clip


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    example = "python -m benchmarks.judges.readers data/demo --truth corpora/demo/truth.jsonl --reader runs/judge/model"
    parser = command.parser("python -m benchmarks.judges.readers", __doc__, example)
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder that extract wrote, with frames")
    parser.add_argument("--reader", type=Path, nargs="+", default=[], metavar="MODEL", help="readers of lips")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="truth.jsonl of the drawn corpus")
    parser.add_argument("--split", default="unseen", choices=SPLITS, help="whose crops (default: %(default)s)")
    parser.add_argument("--require", type=float, metavar="R", help=f"exit 1 where a reader's {ALL} is below")
    return parser


def run(args: argparse.Namespace) -> int:
    """Read every clip by everything and print the table."""
    torch.set_num_threads(1)
    manifest = Manifest.load(args.shards)
    models = {str(folder): reader.load_model(folder) for folder in args.reader}
    drawn = None if args.truth is None else drawn_lips(args.truth)
    found: dict[str, Values] = {}
    rows = manifest.rows(args.split).tolist()
    progress = Progress("read", len(rows), "clips")
    for row in rows:
        for name, (true_TK, read_TK) in read(manifest, row, models, drawn).items():
            add(found.setdefault(name, {}), str(manifest.at(row, "identity")), true_TK, read_TK)
        progress.step()
    progress.finish()
    people = len({str(manifest.at(row, "identity")) for row in rows})
    print(
        f"{len(rows)} clips of {people} people; true is what {DETECTOR + ' read' if drawn is None else 'was drawn'}\n"
    )
    print("\n".join(table(found, people)))
    wanting = [name for name in models if (intervals.mean_over_people(found[name][ALL]) or 0) < (args.require or -1)]
    return EXIT_NOT_DONE if wanting else EXIT_DONE


def drawn_lips(path: Path) -> dict[str, np.ndarray]:
    """The drawn lips of every usable file, DRAWN, (T, L, 2) px of its picture. Raises UserError for no such truth."""
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        usable = [record for record in records if record.get("usable", True)]
        return {record["path"]: np.stack([record["lips"][name] for name in DRAWN], 1) for record in usable}
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no truth.jsonl of drawn people: {error!r}") from error


def read(
    manifest: Manifest, row: int, models: dict[str, LipReader], drawn: dict[str, np.ndarray] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Who reads -> what is true and what they read of a clip, `reader.MEASURES` in halves of the crop, (T, K) each."""
    points_TN2 = shards.read_landmarks(manifest, row)[..., :2]
    frames_THW3 = video_reader.read_video(manifest, row, range(len(points_TN2)))
    where = reader.place(torch.from_numpy(points_TN2.astype(np.float32)))
    detected_TK = reader.measures(where.units(torch.from_numpy(points_TN2[:, MOUTH].astype(np.float32)))).numpy()
    pictures_T3HW = torch.from_numpy(frames_THW3).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = {}
    for name, model in models.items():
        with torch.inference_mode():
            lips_TM2 = model(reader.crops(pictures_T3HW, where, model.config.side))
        found[name] = reader.measures(lips_TM2).numpy()
    if drawn is None:
        return {name: (detected_TK, read_TK) for name, read_TK in found.items()}
    source = str(manifest.at(row, "source"))
    if source not in drawn:
        raise UserError(f"{source} is not in the truth; name the truth.jsonl of the corpus that was extracted")
    here = slice(int(manifest.at(row, "start_frame")), int(manifest.at(row, "stop_frame")))
    true_TK = drawn_measures(drawn[source][here], np.array(manifest.at(row, "crop")).reshape(2, 3), where)
    return {name: (true_TK, read_TK) for name, read_TK in ({DETECTOR: detected_TK} | found).items()}


def drawn_measures(lips_TL2: np.ndarray, crop_23: np.ndarray, where: Place) -> np.ndarray:
    """`reader.MEASURES` of drawn lips in px of their picture, (T, K), in halves of the crop's side."""
    in_crop_TL2 = lips_TL2 @ crop_23[:, :2].T + crop_23[:, 2]
    units_TL2 = where.units(torch.from_numpy(in_crop_TL2.astype(np.float32))).numpy()
    left, right, outer, upper, lower = (units_TL2[:, place] for place in range(len(DRAWN)))
    opening_T, width_T = (np.linalg.norm(one - other, axis=-1) for one, other in ((lower, upper), (right, left)))
    return np.stack([opening_T, width_T, (outer[:, 1] + upper[:, 1]) / 2], -1)


def add(values: Values, person: str, true_TK: np.ndarray, read_TK: np.ndarray) -> None:
    """Add a clip's correlations and amplitudes; a measure that stands still in it has none."""
    for at, measure in enumerate(reader.MEASURES):
        one = correlation(true_TK[:, at : at + 1], read_TK[:, at : at + 1])
        if one is not None:
            values.setdefault(f"{measure} r", []).append((person, one))
            amplitude = float(read_TK[:, at].std() / true_TK[:, at].std())
            values.setdefault(f"{measure} amplitude", []).append((person, amplitude))
    followed = correlation(true_TK, read_TK)
    if followed is None:
        raise UserError(f"a clip of {person} has lips that never move by {STILL} of the crop's half side")
    values.setdefault(ALL, []).append((person, followed))


def table(found: dict[str, Values], people: int) -> list[str]:
    """Lines of Markdown: a line for each that reads, means over people."""
    columns = [ALL, *(f"{measure} {what}" for measure in reader.MEASURES for what in ("r", "amplitude"))]
    lines = [f"| who reads | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name, values in found.items():
        told = [intervals.shown(intervals.over_people(values[c], people)) if c in values else "still" for c in columns]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return lines


if __name__ == "__main__":
    harness.end("python -m benchmarks.judges.readers", lambda: run(arguments().parse_args()))
