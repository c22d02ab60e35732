"""SyncNet on pixels: what it sees and learns, and the loss by which it teaches painters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from data_pipeline.examples.spoken import MARGIN, SpokenWindows
from data_pipeline.shards import reader, video_reader
from mytalk import config
from mytalk.command import UserError
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks import syncnet
from mytalk.networks.appearance.config import AppearanceConfig
from mytalk.networks.reader import mouths
from tests.helpers.appearance_models import pixel_syncnet, shaken, tiny_settings
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig
from train.recipes.appearance_losses import LossConfig, Sync
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig

CPU = torch.device("cpu")
PIXELS = ("model.sees=pixels", "model.side=32", "model.channels=[8, 8, 16, 16]", "frames=16")


@pytest.fixture(scope="module")
def recipe(filmed_shards) -> SyncRecipe:
    tiny = ROOT / "tests" / "helpers" / "tiny_syncnet.yaml"
    return SyncRecipe(config.load(SyncTrainConfig, tiny, [f"shards={filmed_shards}", *PIXELS]))


@pytest.fixture(scope="module")
def painter(filmed_shards, tmp_path_factory) -> AppearanceRecipe:
    folder = pixel_syncnet(tmp_path_factory.mktemp("sync"))
    every = ("losses.sync=0.5", "losses.sync_share=0.5", f"losses.syncnet={folder}", "adversarial_weight=0")
    return AppearanceRecipe(tiny_settings(filmed_shards, *every))


def test_a_slot_holds_the_same_crops_in_any_batch_and_they_show_the_mouths(recipe):
    whole, pair = recipe.examples([3, 8, 5]), recipe.examples([5, 3])
    assert torch.equal(whole.crops_BT3SS[[2, 0]], pair.crops_BT3SS)
    assert whole.crops_BT3SS.shape == (3, 16, 3, 32, 32)
    row = recipe.examples.windows.example(3).window.row
    start = int(whole.starts_B[0])
    frames = video_reader.read_video(recipe.manifest, row, range(start, start + 16))
    true = mouths(frames, reader.read_landmarks(recipe.manifest, row, start, start + 16), 32)
    alike = np.corrcoef(whole.crops_BT3SS[0].flatten(), true.flatten())[0, 1]
    assert 0.6 < alike < 0.999, "the same mouths, a little off and in other light"


def test_it_learns_that_mouths_open_with_loud_speech(recipe):
    """From pixels alone: the landmarks of the batch are not its own."""
    torch.manual_seed(0)
    model = modules_of(recipe)["syncnet"]
    batch = recipe.examples(list(range(6)))
    blind = dataclasses.replace(batch, landmarks_BTN3=torch.zeros_like(batch.landmarks_BTN3))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        recipe.loss({"syncnet": model}, blind).mean().backward()
        optimizer.step()
    with torch.no_grad():
        mouth_BWD, speech_BWD = model(batch.seen, batch.mask_BT, batch.audio_BS)
    accuracy = torch.stack([syncnet.two_way_accuracy(*one, 3) for one in zip(mouth_BWD, speech_BWD)])
    assert accuracy.mean() > 0.8


def test_its_folder_says_what_it_sees_and_no_other_takes_it(recipe, tmp_path):
    torch.manual_seed(0)
    models = {name: module.eval() for name, module in modules_of(recipe).items()}
    validated = recipe.validate(models, Ranks(0, 1, CPU))
    recipe.export({"syncnet": models["syncnet"].state_dict()}, tmp_path, validated)
    assert recipe.pictures(models)
    assert syncnet.load_model(tmp_path, sees=syncnet.PIXELS).config.sees == "pixels"
    with pytest.raises(UserError, match=r"sees pixels, and one that sees landmarks is needed; train it with: .*=land"):
        syncnet.load_model(tmp_path)
    with pytest.raises(UserError, match=r"losses.sync cannot use syncnet .*do not score with it; train it longer"):
        Sync(LossConfig(sync=1.0, syncnet=str(tmp_path)), ["test"])
    landmarks = syncnet.SyncConfig(width=8, hidden=8, layers=1, embedding=8)
    syncnet.save_model(syncnet.SyncNet(landmarks).state_dict(), landmarks, tmp_path / "lips")
    with pytest.raises(UserError, match=r"sees landmarks, and one that sees pixels is needed"):
        Sync(LossConfig(sync=1.0, syncnet=str(tmp_path / "lips")), [])
    with pytest.raises(ValueError, match=r"losses.sync needs losses.syncnet"):
        LossConfig(sync=1.0)
    sees_before, losses = AppearanceConfig(previous_frame=True), LossConfig(sync=1.0, syncnet=str(tmp_path))
    with pytest.raises(ValueError, match=r"losses.sync paints a window at once"):
        AppearanceTrainConfig(model=sees_before, losses=losses)


def test_a_share_of_the_slots_has_the_frames_near_its_target_with_their_speech(painter):
    """The same whoever makes the batch, all of one clip; nothing else of the batch differs from one without."""
    slots = list(range(12))
    batch = painter.examples(slots)
    targets = batch.window_JW.amin(1).tolist()
    assert 2 <= len(targets) <= 10
    plain = AppearanceRecipe(tiny_settings(painter.settings.shards)).examples(slots)
    assert plain.near_K3HW is None
    for name, value in plain.tensors().items():
        assert torch.equal(getattr(batch, name), value), name
    place = targets[1]
    alone = painter.examples([slots[place]])
    near_K = (batch.near_of_K == place).nonzero().flatten()
    assert torch.equal(alone.near_K3HW, batch.near_K3HW[near_K])
    assert torch.equal(alone.speech_JS[0], batch.speech_JS[1])
    row, middle = painter.examples.windows.example(place).window.row, int(batch.starts_B[place])
    first = middle - batch.window_JW[1].tolist().index(place)
    landmarks_TN3 = reader.read_landmarks(painter.examples.manifest, row)
    for frame, at in enumerate(batch.window_JW[1].tolist(), first):
        seen_N2 = batch.landmarks_BN2[at] if at == place else batch.near_around_KLN2[at - len(slots), 0]
        shape_N2 = seen_N2 * painter.settings.model.step_px
        expected_N2 = torch.from_numpy(landmarks_TN3[frame, :, :2])
        torch.testing.assert_close(shape_N2 - shape_N2.mean(0), expected_N2 - expected_N2.mean(0), atol=1e-3, rtol=0)
    audio_S = reader.read_audio(painter.examples.manifest, row)
    start = (first - MARGIN) * SAMPLES_PER_FRAME
    shown = audio_S[max(start, 0) : start + 7 * SAMPLES_PER_FRAME]
    held = batch.speech_JS[1, max(-start, 0) :][: len(shown)]
    assert torch.equal(held, torch.from_numpy(shown))


def test_windows_lie_where_the_clip_has_speech_and_beyond_it_is_silence(painter):
    spoken = SpokenWindows(painter.examples.windows, 1.0, 5)
    row = int(painter.examples.selection.rows_n[0])
    count = int(spoken.windows.frames[row])
    assert [spoken.window(0, row, frame) for frame in (0, 9, count - 1)] == [
        range(5),
        range(7, 12),
        range(count - 5, count),
    ]
    ends = {0: (row, range(5)), 1: (row, range(count - 5, count))}
    audio_S = np.pad(reader.read_audio(spoken.manifest, row), MARGIN * SAMPLES_PER_FRAME)
    for (_, window), found in zip(ends.values(), spoken.read(ends).values()):
        expected = audio_S[window.start * SAMPLES_PER_FRAME :][: 7 * SAMPLES_PER_FRAME]
        np.testing.assert_array_equal(found.audio_S, expected)
    said = spoken.digest
    spoken.offset[row] = 3.0  # the sound is late: the clip lacks that of its last three frames
    assert spoken.window(0, row, count - 4) == range(count - 8, count - 3)
    assert spoken.window(0, row, count - 3) is None
    spoken.speaks[row] = False
    assert spoken.window(0, row, 9) is None
    assert spoken.digest != said


def test_painters_are_pulled_towards_their_speech(painter):
    """Overfitted, the distance falls; the whole loss is the plain sum, and references are encoded once for a window."""
    batch = painter.examples(list(range(8)))
    generator = shaken(modules_of(painter)["generator"])
    optimizer = torch.optim.Adam(generator.parameters(), 2e-3)
    networks, found = {"generator": generator}, []
    for _ in range(12):
        optimizer.zero_grad()
        seen, painted = painter.painted(generator, batch)
        sync_B = painter.out_of_sync(painted, batch, seen)
        found.append(sync_B.mean().item())
        sync_B.mean().backward()
        optimizer.step()
    assert found[-1] < found[0] - 0.01
    loss = painter.generator_loss(networks, batch)
    with_sync = loss.terms["l1"] + painter.settings.mouth_weight * loss.terms["mouth_l1"] + 0.5 * loss.terms["sync"]
    torch.testing.assert_close(loss.total_B, with_sync)
    gradient = torch.autograd.grad(loss.total_B.sum(), list(generator.parameters()))
    seen, painted = painter.painted(generator, batch)
    targets = painted[: len(batch.slots_B)]
    plain_B, _ = painter.reconstruction(targets, targets, batch, seen.targets(len(targets)))
    plain_B = plain_B + 0.5 * painter.out_of_sync(painted, batch, seen)
    for ours, theirs in zip(gradient, torch.autograd.grad(plain_B.sum(), list(generator.parameters()))):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 + 1e-4 * theirs.abs().max().item())
    assert seen.lips_BR3HW.shape[0] == len(batch.slots_B) < len(painted)
    assert all(not weight.requires_grad for weight in painter.sync.network.parameters())
