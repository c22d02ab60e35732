"""Examples of the appearance model: a frame, and references from elsewhere in its clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_pipeline.columns import column
from data_pipeline.examples.appearance import AppearanceBatch, AppearanceExamples, ReferenceConfig
from data_pipeline.examples.settings import RunSettings
from data_pipeline.examples.windows import PLANNED, PREDICTED
from data_pipeline.sample.windows import SamplingConfig
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import requirements
from mytalk.command import UserError
from mytalk.face.landmarks import COUNT, MOUTH, OUTER_LIP, opening
from mytalk.networks.appearance import inputs
from tests.helpers import talkers
from tests.helpers.appearance_models import TINY, referred, tiny_recipe, tiny_settings
from train.recipes.appearance import AppearanceRecipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> AppearanceRecipe:
    return tiny_recipe(tmp_path_factory.mktemp("seen"))


@pytest.mark.parametrize("more", [(), ("model.landmark_frames=3", "model.previous_frame=true")])
def test_a_slot_holds_the_same_whoever_makes_it(recipe, more):
    recipe = AppearanceRecipe(tiny_settings(recipe.settings.shards, *more)) if more else recipe
    together = recipe.examples([3, 4, 5])
    fresh = AppearanceRecipe(recipe.settings).examples
    for index, slot in enumerate((3, 4, 5)):
        alone = fresh([slot])
        for field in dataclasses.fields(AppearanceBatch):
            ours, theirs = getattr(together, field.name), getattr(alone, field.name)
            if isinstance(ours, torch.Tensor):
                assert torch.equal(ours[index : index + 1], theirs), field.name
        assert together.keys_B[index] == alone.keys_B[0]
    assert len({frame for slot in range(20) for frame in fresh([slot]).starts_B.tolist()}) > 5


def test_references_keep_their_distance_from_the_target(recipe):
    examples: AppearanceExamples = recipe.examples
    for slot in range(200):
        row, frame, chosen = referred(examples, slot)
        assert len(set(chosen)) == examples.references.count
        assert min(abs(reference - frame) for reference in chosen) >= examples.references.gap_frames
    wide = AppearanceExamples(examples.manifest, SamplingConfig(), examples.model, ReferenceConfig(3, 1000))
    for slot in range(50):
        row, frame, chosen = referred(wide, slot)
        away = [abs(reference - frame) for reference in chosen]
        assert min(away) >= (int(wide.windows.frames[row]) - 1) // 2, "as far as the clip allows"


@pytest.mark.parametrize("by", ["pose", "mouth"])
def test_references_may_be_those_that_differ_most(recipe, by):
    """Of the frames drawn, the three most unlike the target: turned heads for pose, open mouths for mouth."""
    examples = AppearanceExamples(recipe.examples.manifest, SamplingConfig(), TINY, ReferenceConfig(3, 5, by))
    random, found, asked = np.random.default_rng(0), 0, 0
    for slot in range(30):
        example = examples.windows.example(slot)
        count = int(examples.windows.frames[example.window.row])
        landmarks = np.repeat(talkers.base_face(random)[None], count, 0).astype(np.float32)
        turned, opened = np.arange(count) % 4 == 1, np.arange(count) % 4 == 2
        landmarks[turned] = talkers.turned(landmarks[turned], np.full(turned.sum(), 0.2))
        landmarks[opened[:, None] & np.isin(np.arange(478), MOUTH)[None]] += 9
        wanted = turned if by == "pose" else opened
        if wanted[example.window.start]:
            continue
        chosen = examples.reference_frames(slot, example, landmarks)
        found += wanted[chosen].sum()
        asked += len(chosen)
        assert min(abs(np.array(chosen) - example.window.start)) >= 5
        assert chosen == examples.reference_frames(slot, example, landmarks)
    assert found / asked > 0.7, "a quarter, drawn blindly"


@pytest.fixture(scope="module")
def shards_with_predicted(tmp_path_factory) -> Path:
    """Shards whose column `predicted` holds each clip's landmarks, 3 px further right."""
    folder = talkers.write(tmp_path_factory.mktemp("predicted"), {"train": 3, "val": 1}, 1, 30, video=True)

    def moved(manifest: Manifest, row: int) -> np.ndarray:
        landmarks_TN3 = reader.read_landmarks(manifest, row)
        return (landmarks_TN3 + np.array([3, 0, 0], np.float32)).reshape(len(landmarks_TN3), -1)

    column.add(folder, PREDICTED, moved, COUNT * 3, made_by={"model": "digest"})
    return folder


def test_a_share_of_the_slots_shows_predicted_landmarks_and_nothing_else_changes(shards_with_predicted):
    """Drawn from the slot; the pixels, the mask and the references are the true ones."""
    settings = tiny_settings(shards_with_predicted, "predicted_landmarks=0.3")
    recipe, plain = AppearanceRecipe(settings), AppearanceRecipe(tiny_settings(shards_with_predicted))
    slots = list(range(100))
    ours, true = recipe.examples(slots), plain.examples(slots)
    moved_BN = (ours.landmarks_BN2 - true.landmarks_BN2)[..., 0] * settings.model.step_px
    shows_B = (moved_BN - 3).abs().amax(1) < 0.3
    assert torch.all(shows_B | (moved_BN == 0).all(1))
    assert 0.2 < shows_B.float().mean() < 0.4
    assert shows_B.tolist() == [recipe.examples.shows_predicted(slot) for slot in slots]
    assert torch.equal(recipe.examples([7]).landmarks_BN2[0], ours.landmarks_BN2[7])
    for name in ("frame_B3HW", "region_BV2", "references_BR3HW", "reference_regions_BRV2"):
        assert torch.equal(getattr(ours, name), getattr(true, name)), name
    assert recipe.fixed() == plain.fixed() | {"predicted_landmarks": {"share": 0.3, "made_by": {"model": "digest"}}}
    run = RunSettings(keys={"predicted_landmarks": 1})
    planned = PLANNED["appearance"](recipe.examples.manifest, SamplingConfig(), run)
    assert planned.requests(planned.example(0)) == recipe.examples.windows.requests(planned.example(0))


def test_a_share_of_the_slots_shows_a_wide_mouth_of_the_same_clip(recipe):
    """Drawn from the slot; the others are as they were, references keep their distance, and starts_B says the frame."""
    plain = recipe.examples
    wide = AppearanceExamples(plain.manifest, plain.windows.sampling, plain.model, plain.references, wide_mouths=0.5)
    slots = list(range(40))
    ours, before = wide(slots), plain(slots)
    changed_B = ours.starts_B != before.starts_B
    assert 0.2 < changed_B.float().mean() < 0.6
    assert ours.keys_B == before.keys_B
    assert torch.equal(ours.frame_B3HW[~changed_B], before.frame_B3HW[~changed_B])
    again = wide([7, 3])
    assert torch.equal(again.frame_B3HW, ours.frame_B3HW[[7, 3]])
    for slot in slots[:10]:
        example = wide.windows.example(slot)
        landmarks_TN3 = reader.read_landmarks(plain.manifest, example.window.row)
        shown = wide.widest(slot, example, landmarks_TN3)
        opened_T = opening(landmarks_TN3)
        if shown != example:
            assert (opened_T > opened_T[shown.window.start]).mean() < 0.6, "the widest of six"
        away = min(abs(frame - shown.window.start) for frame in wide.reference_frames(slot, shown, landmarks_TN3))
        assert away >= plain.references.gap_frames


def test_a_model_may_see_the_landmarks_around_and_the_frame_before(shards_with_predicted):
    """Neighbours end with the clip; the frame before is disturbed, or dropped; all else is as without."""
    settings = ("model.landmark_frames=5", "model.previous_frame=true", "previous.dropout=0.4", "wide_mouths=0.3")
    recipe = AppearanceRecipe(tiny_settings(shards_with_predicted, *settings))
    plain = AppearanceRecipe(tiny_settings(shards_with_predicted, "wide_mouths=0.3"))
    slots, model, black = list(range(20)), recipe.settings.model, -1
    ours, before = recipe.examples(slots), plain.examples(slots)
    for field in dataclasses.fields(AppearanceBatch):
        value = getattr(before, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(ours, field.name), value), field.name
    assert before.around_BKN2 is None
    assert before.previous_B3HW is None
    assert torch.equal(ours.around_BKN2[:, 2], ours.landmarks_BN2)
    exact = dataclasses.replace(recipe.examples.previous, shift_px=0, noise=0)
    still = AppearanceExamples(
        plain.examples.manifest, plain.examples.windows.sampling, model, plain.examples.references, wide_mouths=0.3,
        previous=exact,
    )(slots)  # fmt: skip
    drops = 0
    for at in slots:
        row, frame = recipe.examples.windows.example(at).window.row, int(ours.starts_B[at])
        landmarks_TN3 = reader.read_landmarks(plain.examples.manifest, row)
        seen = np.clip(np.arange(frame - 2, frame + 3), 0, len(landmarks_TN3) - 1)
        corner = landmarks_TN3[frame, 0, :2] - ours.landmarks_BN2[at, 0].numpy() * model.step_px
        points = (landmarks_TN3[seen][..., :2] - corner) / model.step_px
        np.testing.assert_allclose(ours.around_BKN2[at], points, atol=1e-3)
        if (ours.previous_B3HW[at] == black).all():
            drops += 1
            continue
        pixels = video_reader.read_video(plain.examples.manifest, row, [frame - 1])
        window = inputs.cut(pixels, np.rint(corner).astype(int)[None], model)[0]
        np.testing.assert_allclose(still.previous_B3HW[at], window, atol=1e-6)
        assert 0 < (ours.previous_B3HW[at] - torch.from_numpy(window)).abs().mean() < 0.2
    assert 0.1 < drops / len(slots) < 0.8
    both = tiny_settings(shards_with_predicted, *settings[:2], "predicted_landmarks=1")
    moved = AppearanceRecipe(both).examples(slots[:4])
    true = AppearanceRecipe(tiny_settings(shards_with_predicted, *settings[:2])).examples(slots[:4])
    apart = (moved.around_BKN2 - true.around_BKN2) * model.step_px
    torch.testing.assert_close(apart[..., 0], torch.full_like(apart[..., 0], 3.0), atol=0.3, rtol=0)
    run = RunSettings(keys={"predicted_landmarks": 1, "model": {"landmark_frames": 5}})
    planned = PLANNED["appearance"](plain.examples.manifest, SamplingConfig(), run)
    example = planned.example(3)
    assert planned.requests(example) == AppearanceRecipe(both).examples.windows.requests(example)


def test_predicted_landmarks_without_their_column_are_refused_in_one_line(recipe):
    with pytest.raises(
        UserError, match=r"clips have no predicted landmarks; write them with: .* column .*--model"
    ) as told:
        AppearanceRecipe(tiny_settings(recipe.settings.shards, "predicted_landmarks=0.5"))
    assert "\n" not in str(told.value)


def of_lengths(*frames: int, split: str = "train") -> AppearanceExamples:
    """Examples of clips of these lengths, of which only places can be asked for."""
    count = len(frames)
    held = {"key": [str(i) for i in range(count)], "split": [split] * count, "frames": list(frames)}
    made = Manifest(Path("nowhere"), {}, pa.table({**held, "shard": [0] * count, "video_size": [1] * count}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requirements, "refuse_without_frames", lambda *_: None)
        return AppearanceExamples(made, SamplingConfig(), TINY, ReferenceConfig())


def test_no_reference_is_the_target_however_short_the_clip():
    """A clip of one frame, which has no other, is left out."""
    examples = of_lengths(2, 1, 3, 1, 4)
    assert len(examples) == 3
    assert {examples.windows.example(slot).window.row for slot in range(60)} == {0, 2, 4}
    for slot in range(60):
        _, frame, chosen = referred(examples, slot)
        assert frame not in chosen
    with pytest.raises(UserError, match="no clip of split 'train' is as long as is needed"):
        of_lengths(1, 1)


def test_a_batch_shows_the_clips_own_frame(recipe):
    """The mouth's own colour, known from the synthetic talkers, stands where the landmarks of the batch say."""
    batch = recipe.examples([7])
    x, y = batch.landmarks_BN2[0, OUTER_LIP].mean(0).round().long().tolist()
    row, frame, _ = referred(recipe.examples, 7)
    shown = (batch.frame_B3HW[0, :, y, x] + 1) * 127.5
    landmarks = reader.read_landmarks(recipe.examples.manifest, row)[frame]
    pixels = video_reader.read_video(recipe.examples.manifest, row, [frame])[0]
    mouth_x, mouth_y = landmarks[OUTER_LIP, :2].mean(0).round().astype(int)
    step = recipe.settings.model.step_px
    near = pixels[mouth_y - step : mouth_y + step, mouth_x - step : mouth_x + step].reshape(-1, 3)
    assert (near.min(0) - 12 <= shown.numpy()).all()
    assert (shown.numpy() <= near.max(0) + 12).all()


def test_shards_without_frames_are_refused_in_one_line(talker_shards, tmp_path):
    with pytest.raises(UserError, match="needs frames") as told:
        AppearanceRecipe(tiny_settings(talker_shards))
    assert "\n" not in str(told.value)
    motion_alone = talkers.write(tmp_path, {"train": 2, "val": 1}, 1, video=True)
    for path in motion_alone.glob("frames-*.tar"):
        path.unlink()
    with pytest.raises(UserError, match=r"frames-000000\.tar is missing"):
        AppearanceRecipe(tiny_settings(motion_alone))
