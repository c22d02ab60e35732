"""Examples of SyncNet: mouth and speech of the same frames, the same for a slot in any batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mytalk import config
from mytalk.face.landmarks import SAMPLES_PER_FRAME, opening
from tests.helpers.checkout import ROOT
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig

TINY = ROOT / "tests" / "helpers" / "tiny_syncnet.yaml"


@pytest.fixture(scope="module")
def recipe(talker_shards) -> SyncRecipe:
    return SyncRecipe(config.load(SyncTrainConfig, TINY, [f"shards={talker_shards}"]))


def test_what_a_slot_holds_does_not_depend_on_its_batch(recipe):
    make = recipe.examples
    whole = make(list(range(12)))
    for numbers in ([5], [11, 2], [7, 0, 3]):
        made = make(numbers)
        for name in ("landmarks_BTN3", "mask_BT", "audio_BS", "voice_B", "starts_B"):
            assert torch.equal(getattr(made, name), getattr(whole, name)[numbers]), name
        assert made.keys_B == [whole.keys_B[n] for n in numbers]
    assert whole.mask_BT.sum(1).min() < 44, "some clips are shorter than the stretch"
    assert len(set(whole.voice_B.tolist())) == 12
    assert 1 / 1.1 <= whole.voice_B.min() < whole.voice_B.max() <= 1.1


def test_an_examples_mouth_and_speech_are_of_the_same_frames(recipe):
    """The talkers' mouths open with the loudness of their speech, so the two go together frame by frame."""
    batch = recipe.examples(list(range(8)))
    for landmarks, audio, mask in zip(batch.landmarks_BTN3, batch.audio_BS, batch.mask_BT):
        frames = int(mask.sum())
        loudness = audio.unflatten(0, (-1, SAMPLES_PER_FRAME)).square().mean(1).sqrt()
        assert np.corrcoef(loudness[:frames], opening(landmarks[:frames].numpy()))[0, 1] > 0.8
        assert not audio[frames * SAMPLES_PER_FRAME :].any()
