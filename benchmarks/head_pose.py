"""How much of the lower face's movement is the head's: the share of its variance that the head's pose explains.

What a motion model is asked to write should come from speech, and no speech tells how a head turns. In each clip, a
quadratic of yaw, pitch and roll is fitted to the lower face in the head's frame over all but one block of time and
measured on that block, for each block in turn. The floor is the same with the pose of other people's clips. The head
frame of `mytalk` stands beside a flat one, a similarity of x and y to the mean of the rigid points.

Shape suffixes: T frames, N landmarks (478), R rigid landmarks, K noised landmarks, A angles, F features, Y numbers of
the lower face, 2 = (x, y), 3 = (x, y, z) in crop px.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import harness
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from eval.rows.ridge import Sums, choose_penalty
from mytalk import atomic, command
from mytalk.command import UserError
from mytalk.face.landmarks import NOISED, RIGID

BLOCKS, OTHERS = 10, 3
LEAST_FRAMES = 50  # a block must hold some movement
TURNING_DEG = 4.0  # standard deviation of the yaw of a head that turns


@dataclass(frozen=True)
class Share:
    """The lower face of a clip in one frame: how far it moves (rms px), and what of its variance poses explain."""

    rms_px: float
    own: float
    floor: float


@dataclass(frozen=True)
class ClipShares:
    """A clip: its source, its head's movement (standard deviations, degrees), and its shares."""

    source: str
    key: str
    frames: int
    yaw_deg: float
    pitch_deg: float
    flat: Share
    head: Share


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser(
        "python -m benchmarks.head_pose", __doc__, "python -m benchmarks.head_pose runs/demo/shards"
    )
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder that extract wrote")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the rows as JSON as well")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure every clip that is long enough and print a table."""
    manifest = Manifest.load(args.shards)
    frames, people = manifest.column("frames"), manifest.column("identity")
    rows = [row for row in range(len(manifest)) if frames[row] >= LEAST_FRAMES]
    clips = {row: reader.read_landmarks(manifest, row) for row in rows}
    upright = {row: in_head_frame(landmarks_TN3) for row, landmarks_TN3 in clips.items()}
    shares = []
    for place, row in enumerate(rows):
        after = [*rows[place + 1 :], *rows[:place]]
        others = [upright[other][0] for other in after if people[other] != people[row]][:OTHERS]
        if not others:
            raise UserError(f"{args.shards}: the floor needs clips of {LEAST_FRAMES} frames of two people")
        angles_TA, lower_TK2 = upright[row]
        yaw_deg, pitch_deg, _ = np.degrees(angles_TA.std(0)).tolist()
        flat, head = (share(side_TK2, angles_TA, others) for side_TK2 in (flat_lower_face(clips[row]), lower_TK2))
        source, key = str(manifest.column("source")[row]), str(manifest.column("key")[row])
        shares.append(ClipShares(source, key, len(clips[row]), yaw_deg, pitch_deg, flat, head))
    print("\n".join(table(shares)))
    if args.out:
        atomic.write_json(args.out, [asdict(clip) for clip in shares])
    return command.EXIT_DONE


def share(lower_TK2: np.ndarray, own_TA: np.ndarray, others: list[np.ndarray]) -> Share:
    """How far a lower face moves, and how much of it its own pose and others' explain."""
    lower_TY = lower_TK2.reshape(len(lower_TK2), -1)
    moved_px = np.linalg.norm(lower_TK2 - lower_TK2.mean(0), axis=-1)
    floor = np.mean([explained(np.resize(other_TA, own_TA.shape), lower_TY) for other_TA in others])
    return Share(float(np.sqrt(np.square(moved_px).mean())), explained(own_TA, lower_TY), float(floor))


def explained(angles_TA: np.ndarray, lower_TY: np.ndarray) -> float:
    """Share of the variance about the clip's mean that a quadratic of the angles explains in blocks left out.

    Below 0 it does harm. The fit is a ridge regression whose penalty is chosen on blocks left out in turn of those
    that are fitted: a clip of seconds holds few independent movements.
    """
    x_TF, y_TY = quadratic(angles_TA), lower_TY - lower_TY.mean(0)
    x_TF = (x_TF - x_TF.mean(0)) / (x_TF.std(0) + 1e-12)
    blocks = [Sums.of(x, y) for x, y in zip(np.array_split(x_TF, BLOCKS), np.array_split(y_TY, BLOCKS))]
    error = 0.0
    for place, block in enumerate(blocks):
        penalty, _, fitted = choose_penalty(blocks[:place] + blocks[place + 1 :])
        error += block.squared_error(fitted.weights(penalty))
    return 1 - error / sum(block.yy for block in blocks)


def quadratic(angles_TA: np.ndarray) -> np.ndarray:
    """The angles about their mean, their squares and products: (T, F)."""
    centred_TA = angles_TA - angles_TA.mean(0)
    upper = np.triu_indices(centred_TA.shape[1])
    return np.concatenate([centred_TA, (centred_TA[:, :, None] * centred_TA[:, None])[:, upper[0], upper[1]]], axis=1)


def in_head_frame(landmarks_TN3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yaw, pitch and roll (T, 3) radians, and the noised points in the head's frame of `mytalk`, (T, K, 2) crop px."""
    import torch

    from mytalk.dub import long_form
    from mytalk.face import pose

    head = long_form.person_head(landmarks_TN3)
    points = torch.from_numpy(np.asarray(landmarks_TN3, np.float64))[None]
    fitted = pose.fit(points, head.rigid_BR3)
    lower = fitted.to_head(points[:, :, NOISED], head.depth_BN[:, NOISED]) * fitted.scale_BT.mean()
    return fitted.angles()[0].numpy(), lower[0].numpy()


def flat_lower_face(landmarks_TN3: np.ndarray) -> np.ndarray:
    """The noised points with each frame scaled, turned and shifted by its rigid points in the plane: (T, K, 2) px.

    Points of the plane as complex numbers; the target is the mean of the rigid points, each frame centred, scaled and
    turned so that the outer eye corners are level.
    """
    z_TN = landmarks_TN3[..., 0].astype(np.float64) + 1j * landmarks_TN3[..., 1]
    rigid_TR = z_TN[:, RIGID] - z_TN[:, RIGID].mean(1, keepdims=True)
    eyes_T = z_TN[:, 263] - z_TN[:, 33]
    radius_T = np.sqrt(np.square(np.abs(rigid_TR)).mean(1))
    shape_R = (rigid_TR * (radius_T.mean() / radius_T * eyes_T.conj() / np.abs(eyes_T))[:, None]).mean(0)
    turn_T = (rigid_TR.conj() * shape_R).sum(1) / np.square(np.abs(rigid_TR)).sum(1)
    lower_TK = turn_T[:, None] * (z_TN[:, NOISED] - z_TN[:, RIGID].mean(1, keepdims=True))
    return np.stack([lower_TK.real, lower_TK.imag], axis=-1)


def table(clips: list[ClipShares]) -> list[str]:
    """Lines of Markdown, the clips that turn most first, and the mean over clips."""
    lines = [
        "| source | frames | yaw, pitch sd, degrees | flat: rms px | pose explains | floor | head frame: rms px "
        "| pose explains | floor |",
        "|---" * 9 + "|",
    ]
    for clip in sorted(clips, key=lambda clip: -clip.yaw_deg):
        numbers = f"{clip.yaw_deg:.1f}, {clip.pitch_deg:.1f}"
        lines.append(f"| {clip.source} | {clip.frames} | {numbers} | {_cells(clip.flat)} | {_cells(clip.head)} |")
    turning = [clip for clip in clips if clip.yaw_deg >= TURNING_DEG]
    groups = {"mean": clips, f"mean of those that turn by {TURNING_DEG:g} degrees or more": turning}
    for name, group in groups.items():
        if group:
            flat, head = _mean([clip.flat for clip in group]), _mean([clip.head for clip in group])
            lines.append(f"| {name} | {len(group)} clips | | {_cells(flat)} | {_cells(head)} |")
    return lines


def _mean(shares: list[Share]) -> Share:
    return Share(*np.mean([[share.rms_px, share.own, share.floor] for share in shares], axis=0).tolist())


def _cells(share: Share) -> str:
    return f"{share.rms_px:.2f} | {share.own:.2f} | {share.floor:.2f}"


if __name__ == "__main__":
    harness.end("python -m benchmarks.head_pose", lambda: run(arguments().parse_args()))
