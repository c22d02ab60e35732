"""The rows of `motion`: lower faces generated from speech, their baselines, and one clip scored with them.

Torch is loaded when a row is made: a finished report is shown without it.

Shape suffixes: T frames, N landmarks (478), K noised landmarks, U source frames, S audio samples, 3 = (x, y, z)
in crop px.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.metrics import LANDMARK_METRICS, measure_rows, people
from eval.metrics.lips import LipPair, aligned
from eval.metrics.metric import Miss, RowFailed
from eval.rows import ridge
from eval.rows import seeds as several
from eval.rows.inputs import ClipInputs, read_inputs
from eval.score_file import ONE_STEP, OURS, ClipScore
from eval.tasks import ScoringTask, Settings, noise_seed, noise_seeds
from mytalk.face.landmarks import CROP_PX, NOISED, without_mouth

if TYPE_CHECKING:
    import torch

    from eval.rows.ridge import Ridge
    from mytalk.face import pose
    from mytalk.networks.motion.network import MotionModel

NOT_FINITE = "generated_not_finite"
SHUFFLED = (
    "the same model, noise and head, but the speech of another clip with another sound (of another person where there "
    "is one), cut or repeated to length"
)
ROWS = {  # by definition, as the protocol states them
    "mytalk": "lower face generated from the clip's own speech",
    "shuffled_audio": SHUFFLED,
    "frozen_mouth": "the clip's true mean lower face in the head's frame, moved with the head",
    ridge.NAME: ridge.DEFINITION,
}


def score(
    manifest: Manifest,
    settings: Settings,
    task: ScoringTask,
    model: MotionModel,
    fitted: Ridge | None = None,
    seeds: int = 1,
) -> ClipScore:
    """The metrics of every row on one clip; a miss with its reason where there are none. Raises OSError."""
    try:
        inputs = read_inputs(manifest, settings, task, model.column)
        rows = rows_of(inputs, settings, task, model, fitted)
        of_seeds = [rows[OURS]]
        if seeds > 1:
            first, *more = noise_seeds(settings, task.key, seeds)
            of_seeds += [_of_own_speech(inputs, model, seed, settings.sampler_steps) for seed in more]
            rows[ONE_STEP] = _of_own_speech(inputs, model, first, 1)
            rows[several.MEAN] = np.mean(of_seeds, axis=0, dtype=np.float64)
        to_256 = CROP_PX / float(manifest.column("crop_px")[task.scored.row])
        sounds = {people.TRUTH: inputs.audio_S, "shuffled_audio": inputs.other_audio_S}
        scaled = {name: row_TN3 * to_256 for name, row_TN3 in rows.items()}
        found = measured(task, inputs.truth_TN3 * to_256, scaled, sounds)
        for name, metric in several.metrics(seeds).items():
            found.methods[OURS][name] = metric.compute([aligned(inputs.truth_TN3, one_TN3) for one_TN3 in of_seeds])
        return found
    except RowFailed as error:
        miss = ClipScore(task.key, task.person, reason=error.reason, message=str(error))
        return replace(miss, failed=error.rows, usable=error.usable)
    except (Miss, ClipError) as error:
        return ClipScore(task.key, task.person, reason=error.reason, message=str(error))


def rows_of(
    inputs: ClipInputs, settings: Settings, task: ScoringTask, model: MotionModel, fitted: Ridge | None = None
) -> dict[str, np.ndarray]:
    """The landmarks of every row, (T, 478, 3) px in the clip's crop; without a `fitted` ridge regression, not its."""
    seed, steps = noise_seed(settings, task.key), settings.sampler_steps
    other = replace(inputs, audio_S=inputs.other_audio_S, features_TD=inputs.other_features_TD)
    rows = {
        OURS: _of_own_speech(inputs, model, seed, steps),
        "shuffled_audio": _of_own_speech(other, model, seed, steps),
        "frozen_mouth": frozen_mouth(inputs.truth_TN3),
    }
    if fitted is not None:
        rows[ridge.NAME] = fitted.landmarks(without_mouth(inputs.truth_TN3), inputs.source_UN3, inputs.audio_S)
    return rows


def _of_own_speech(inputs: ClipInputs, model: MotionModel, seed: int, steps: int) -> np.ndarray:
    source = (inputs.source_UN3, inputs.source_audio_S)
    features = (inputs.features_TD, inputs.source_features_UD)
    return generated(model, inputs.truth_TN3, *source, inputs.audio_S, seed, steps, *features)


def measured(
    task: ScoringTask,
    truth_TN3: np.ndarray,
    rows: dict[str, np.ndarray],
    sounds: dict[str, np.ndarray] | None = None,
) -> ClipScore:
    """Measure every row against the truth, all in px at 256. Raises Miss.

    `sounds`: the clip's own (people.TRUTH), and those of rows made with another; without it nothing is kept for metrics
    over people.
    """
    broken = [name for name, row_TN3 in rows.items() if not np.isfinite(row_TN3).all()]
    if broken:
        words = f"{', '.join(broken)} wrote landmarks that are not finite"
        raise RowFailed(NOT_FINITE, words, broken, [name for name in rows if name not in broken])
    pairs = {name: aligned(truth_TN3, row_TN3) for name, row_TN3 in rows.items()}
    scores, omitted = measure_rows(pairs, LANDMARK_METRICS)
    curves = {}
    if task.pictured:
        for name in ("mytalk", "shuffled_audio"):
            openings = pairs[name].openings()
            curves["truth"], curves[name] = (side_T.round(3).tolist() for side_T in openings)
    traits = {} if sounds is None else _traits(pairs, sounds)
    return ClipScore(task.key, task.person, methods=scores, openings_px=curves, omitted=omitted, traits=traits)


def _traits(pairs: dict[str, LipPair], sounds: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """What metrics over people are computed from, of the truth and of each row with the sound it was made with."""
    traits = {}
    for name, pair in pairs.items():
        openings = pair.openings()
        traits[people.TRUTH] = people.traits(openings[0], sounds[people.TRUTH])
        traits[name] = people.traits(openings[1], sounds.get(name, sounds[people.TRUTH]))
    return traits


def generated(
    model: MotionModel,
    truth_TN3: np.ndarray,
    source_UN3: np.ndarray,
    source_audio_S: np.ndarray,
    audio_S: np.ndarray,
    seed: int,
    steps: int,
    features_TD: np.ndarray | None = None,
    source_features_UD: np.ndarray | None = None,
) -> np.ndarray:
    """Landmarks with the lower face generated from speech: (T, 478, 3) float32.

    The true lower face is erased before the model gets the clip: no mistake in the model can show it the
    answer.
    """
    from mytalk.networks.motion.generation import SourceStretch, generate

    source = SourceStretch(source_UN3, source_audio_S, source_features_UD)
    return generate(model, without_mouth(truth_TN3), source, audio_S, seed, steps, features_TD=features_TD)


def frozen_mouth(truth_TN3: np.ndarray) -> np.ndarray:
    """The clip's mean lower face, moved with the head: (T, 478, 3) float64.

    In the head's frame every frame has the same lower face, so its opening there is constant.
    """
    head, clip_pose = head_and_pose(truth_TN3)
    depth_1K = head.depth_BN[:, NOISED]
    mean_K2 = clip_pose.to_head(_batch_of_one(truth_TN3)[:, :, NOISED], depth_1K).mean(1, keepdim=True)
    frozen_TN3 = np.asarray(truth_TN3, np.float64).copy()
    frozen_TN3[:, NOISED] = clip_pose.to_crop(mean_K2.expand(-1, len(truth_TN3), -1, -1), depth_1K)[0].numpy()
    return frozen_TN3


def head_and_pose(landmarks_TN3: np.ndarray) -> tuple[pose.Head, pose.Pose]:
    """The head that a clip shows and its pose in every frame, float64, as a batch of one."""
    import torch

    from mytalk.face import pose

    points_BTN3 = _batch_of_one(landmarks_TN3)
    head = pose.person_head(points_BTN3, torch.ones(points_BTN3.shape[:2], dtype=torch.float64))
    return head, pose.fit(points_BTN3, head.rigid_BR3)


def _batch_of_one(landmarks_TN3: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.asarray(landmarks_TN3, dtype=np.float64))[None]
