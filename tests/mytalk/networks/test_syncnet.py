"""SyncNet: its scores on embeddings that are known, windows on their own, its examples and loss, its standing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_pipeline.shards import reader
from mytalk import config, intervals
from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME, opening
from mytalk.networks import syncnet
from mytalk.networks.syncnet import SyncConfig, SyncNet
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.train_matrix import modules_of
from train.engine.distributed import Ranks
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig, pair_loss, two_way_accuracy

TINY = ROOT / "tests" / "helpers" / "tiny_syncnet.yaml"
SIZES = SyncConfig(window_frames=5, width=16, hidden=32, layers=1, embedding=8)


@pytest.fixture(scope="module")
def recipe(talker_shards) -> SyncRecipe:
    return SyncRecipe(config.load(SyncTrainConfig, TINY, [f"shards={talker_shards}"]))


@pytest.fixture(scope="module")
def model() -> SyncNet:
    torch.manual_seed(3)
    return SyncNet(SIZES).double().eval()


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    return talkers.clip(random, talkers.base_face(random), 10.0, 40)


class Known(torch.nn.Module):
    """Reads a number off the first landmark and the first sample of each frame: a unit vector at that angle."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SyncConfig(window_frames=1)
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def mouth(self, landmarks_BTN2, mask_BT=None):
        return self.at(landmarks_BTN2[:, :, 0, 0])

    def speech(self, audio_BS):
        return self.at(audio_BS[:, ::SAMPLES_PER_FRAME])

    def at(self, angle_BT):
        return torch.stack([angle_BT.cos(), angle_BT.sin()], dim=-1)


def known_clip(mouth_T: np.ndarray, speech_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and audio that hold these angles."""
    landmarks = np.zeros((len(mouth_T), COUNT, 2))
    landmarks[:, 0, 0] = mouth_T
    return landmarks, np.repeat(speech_T, SAMPLES_PER_FRAME)


# Scores


def test_distances_are_means_over_windows_that_both_exist():
    """Against a double loop over offsets and frames; the ends are not padded."""
    random = np.random.default_rng(0)
    mouth, speech = random.uniform(-3, 3, (2, 12)).astype(np.float32).astype(np.float64)
    expected = []
    for offset in range(-4, 5):
        pairs = [(i, i - offset) for i in range(12) if 0 <= i - offset < 12]
        assert len(pairs) == 12 - abs(offset)
        expected.append(np.mean([2 * abs(np.sin((mouth[i] - speech[j]) / 2)) for i, j in pairs]))
    found = syncnet.distances(Known(), *known_clip(mouth, speech), reach_frames=4)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    score = syncnet.score(Known(), *known_clip(mouth, speech), reach_frames=4)
    assert score.distance == pytest.approx(min(expected))
    assert score.confidence == pytest.approx(np.median(expected) - min(expected))
    assert score.offset_frames == int(np.argmin(expected)) - 4
    assert score.windows == 12


@pytest.mark.parametrize("ahead", [-15, -3, 0, 4, 15])
def test_a_positive_offset_is_speech_ahead_of_the_mouth(ahead):
    """The same angles, of which the speech shows those that the mouth shows `ahead` frames later."""
    angles = np.random.default_rng(1).uniform(-3, 3, 80)
    mouth, speech = angles[20:60], angles[20 + ahead : 60 + ahead]
    score = syncnet.score(Known(), *known_clip(mouth, speech))
    assert score.offset_frames == ahead
    assert score.distance == pytest.approx(0, abs=1e-6)
    assert score.confidence > 1


def test_clips_that_cannot_be_scored_are_refused(model, clip):
    landmarks, audio = clip
    with pytest.raises(ValueError, match="40 frames need 25600 samples, not 25599"):
        syncnet.score(model, landmarks, audio[:-1])
    short = 19
    with pytest.raises(ValueError, match="19 frames are too few for offsets up to 15: 20 are needed"):
        syncnet.score(model, landmarks[:short], audio[: short * SAMPLES_PER_FRAME])
    assert syncnet.score(model, landmarks[:20], audio[: 20 * SAMPLES_PER_FRAME]).windows == 16


# Windows


@pytest.mark.parametrize("features", ["lips", "voice"])
def test_every_window_is_embedded_on_its_own(model, features):
    """A window cut out alone gives the same vector, and no other window's frames reach it."""
    encoder = getattr(model, features)
    x = torch.randn(1, 20, encoder.enter.in_features, dtype=torch.float64, requires_grad=True)
    whole = encoder(x)
    assert whole.shape == (1, 16, 8)
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(1, 16, dtype=torch.float64))
    for first in (0, 7, 15):
        torch.testing.assert_close(encoder(x[:, first : first + 5])[:, 0], whole[:, first], rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad(whole[0, 7].sum(), x)
    assert gradient.abs().sum(-1)[0].nonzero().flatten().tolist() == [7, 8, 9, 10, 11]


def test_speech_is_heard_where_it_is(model, clip):
    """Sound of one frame changes the windows that hold it, or that its spectrum's edges touch, and no others."""
    audio = torch.from_numpy(clip[1])[None]
    other = audio.clone()
    other[:, 20 * SAMPLES_PER_FRAME : 21 * SAMPLES_PER_FRAME] = 0
    changed = (model.speech(audio) - model.speech(other)).abs().amax(-1)[0].nonzero().flatten().tolist()
    assert set(range(16, 21)) <= set(changed) <= set(range(15, 22))


def test_moving_turning_or_scaling_the_head_changes_no_mouth(model, clip):
    """Each frame its own shift; turn and scale of the whole crop, and of single frames."""
    landmarks = torch.from_numpy(clip[0])[None]
    own = model.mouth(landmarks)
    random = torch.Generator().manual_seed(0)
    sway, tilt, zoom = torch.rand(3, 1, 40, dtype=torch.float64, generator=random)
    moved = pose.Pose(torch.polar(0.6 + zoom, 0.5 * tilt), torch.complex(30 * sway, -20 * zoom)).to_head(landmarks)
    assert (moved - landmarks).abs().max() > 20
    torch.testing.assert_close(model.mouth(moved), own, rtol=0, atol=1e-9)
    assert (model.mouth(landmarks.flip(1)) - own).abs().max() > 1e-3, "the lips are seen"


def test_padding_changes_no_window_without_it(model, clip):
    landmarks = torch.from_numpy(clip[0])[None, :30]
    padded = torch.cat([landmarks, 300 * torch.rand(1, 6, COUNT, 2, dtype=torch.float64)], 1)
    mask = torch.ones(1, 36, dtype=torch.float64)
    mask[:, 30:] = 0
    torch.testing.assert_close(model.mouth(padded, mask)[:, :26], model.mouth(landmarks), rtol=0, atol=1e-10)


def test_a_mouth_that_never_moves_gives_one_vector_whoever_it_is(model, clip):
    """The person's mean is taken off: still faces of two people are one and the same."""
    random = np.random.default_rng(6)
    still = torch.from_numpy(np.stack([clip[0][:1].repeat(12, 0), talkers.base_face(random)[None].repeat(12, 0)]))
    made = model.mouth(still)
    torch.testing.assert_close(made, made[:1, :1].expand_as(made), rtol=0, atol=1e-9)


# Examples and loss


def test_what_a_slot_holds_does_not_depend_on_its_batch(recipe):
    make = recipe.examples
    whole = make(list(range(12)))
    for numbers in ([5], [11, 2], [7, 0, 3]):
        made = make(numbers)
        for name in ("landmarks_BTN2", "mask_BT", "audio_BS", "voice_B", "starts_B"):
            assert torch.equal(getattr(made, name), getattr(whole, name)[numbers]), name
        assert made.keys_B == [whole.keys_B[n] for n in numbers]
    assert whole.mask_BT.sum(1).min() < 44, "some clips are shorter than the stretch"
    assert len(set(whole.voice_B.tolist())) == 12
    assert 1 / 1.1 <= whole.voice_B.min() < whole.voice_B.max() <= 1.1


def test_an_examples_mouth_and_speech_are_of_the_same_frames(recipe):
    """The talkers' mouths open with the loudness of their speech, so the two go together frame by frame."""
    batch = recipe.examples(list(range(8)))
    for landmarks, audio, mask in zip(batch.landmarks_BTN2, batch.audio_BS, batch.mask_BT):
        frames = int(mask.sum())
        loudness = audio.unflatten(0, (-1, SAMPLES_PER_FRAME)).square().mean(1).sqrt()
        assert np.corrcoef(loudness[:frames], opening(landmarks[:frames].numpy()))[0, 1] > 0.8
        assert not audio[frames * SAMPLES_PER_FRAME :].any()


@pytest.mark.parametrize("min_shift", [1, 3])
def test_the_loss_is_a_softmax_over_the_own_and_the_far(min_shift):
    """Against loops: speech nearer than the shift is neither true nor false, padding is nothing at all."""
    random = np.random.default_rng(2)
    mouth, speech = random.standard_normal((2, 2, 9, 4))
    valid = np.ones((2, 9), bool)
    valid[1, 7:] = False
    scale = 3.0
    made = pair_loss(*(torch.from_numpy(a) for a in (mouth, speech, valid)), min_shift, scale)
    for b in range(2):
        n = int(valid[b].sum())
        terms = []
        for here, there in ((mouth[b], speech[b]), (speech[b], mouth[b])):
            for i in range(n):
                own = np.exp(scale * here[i] @ there[i])
                far = [np.exp(scale * here[i] @ there[j]) for j in range(n) if abs(i - j) >= min_shift]
                terms.append(-np.log(own / (own + sum(far))))
        assert made[b].item() == pytest.approx(np.mean(terms))


def test_false_pairs_are_shifted_by_the_least_shift_or_more():
    """What pushes a mouth away from a speech window: only windows 3 frames and more apart, on both sides."""
    mouth = torch.zeros(1, 9, 9, dtype=torch.float64)
    speech = torch.eye(9, dtype=torch.float64)[None].requires_grad_()
    mouth[0, 4] = 1.0
    (gradient,) = torch.autograd.grad(
        pair_loss(mouth, speech, torch.ones(1, 9, dtype=torch.bool), 3, 1.0).sum(), speech
    )
    of_mouth_4 = gradient[0].sum(1)
    assert (of_mouth_4 > 0).nonzero().flatten().tolist() == [0, 1, 7, 8]
    assert of_mouth_4[4] < 0


def test_a_stretch_without_a_window_costs_nothing():
    nothing = pair_loss(torch.randn(1, 6, 3), torch.randn(1, 6, 3), torch.zeros(1, 6, dtype=torch.bool), 3, 8.0)
    assert nothing.tolist() == [0.0]


def test_examples_do_not_touch_each_other(recipe):
    double = modules_of(recipe)["syncnet"].double()
    make, cpu = recipe.examples, torch.device("cpu")
    together = recipe.loss({"syncnet": double}, make([3, 4, 5]).to(cpu, torch.float64))
    for index in range(3):
        alone = recipe.loss({"syncnet": double}, make([3 + index]).to(cpu, torch.float64))
        torch.testing.assert_close(alone[0], together[index], rtol=1e-10, atol=0)


# Standing


def test_two_way_accuracy_counts_all_choices():
    """Against loops, ties as half; 1 where each mouth has its own speech, 0.5 where all are one."""
    random = np.random.default_rng(3)
    mouth, speech = torch.from_numpy(random.integers(-1, 2, (2, 9, 3))).double()
    won = [
        (float(m @ speech[i]) > float(m @ speech[j])) + 0.5 * (float(m @ speech[i]) == float(m @ speech[j]))
        for i, m in enumerate(mouth)
        for j in range(9)
        if abs(i - j) >= 3
    ]
    assert two_way_accuracy(mouth, speech, 3).item() == pytest.approx(np.mean(won))
    assert two_way_accuracy(torch.eye(9), torch.eye(9), 3) == 1
    assert two_way_accuracy(torch.ones(9, 2), torch.ones(9, 2), 3) == 0.5


def test_random_embeddings_are_reported_as_at_chance():
    random = torch.Generator().manual_seed(0)

    def drawn() -> torch.Tensor:
        return F.normalize(torch.randn(60, 8, generator=random), dim=-1)

    values = [two_way_accuracy(drawn(), drawn(), 3).item() for _ in range(8)]
    above, words = intervals.proven(intervals.against_chance(values, 0.5))
    assert not above
    assert words.startswith("AT CHANCE: 0.")
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_the_facts_beside_the_weights_tell_the_standing(recipe, tmp_path, capsys, monkeypatch):
    """A fresh model is exported, says that it is at chance, and loads as it was."""
    torch.manual_seed(0)  # one of those (nineteen in twenty) that are at chance
    model = modules_of(recipe)["syncnet"].eval()
    state = model.state_dict()
    scores = recipe.validate({"syncnet": model}, Ranks(0, 1, torch.device("cpu")))
    read = []
    monkeypatch.setattr(reader, "read_landmarks", lambda *asked: read.append(asked))
    recipe.export({"syncnet": state}, tmp_path)
    assert not read, "what was measured is not measured again"
    above, words = syncnet.standing(tmp_path)
    assert not above
    assert words.startswith("AT CHANCE: 0.")
    assert f"two-way accuracy {words}\n" in capsys.readouterr().out
    facts = json.loads((tmp_path / "config.json").read_text())["facts"]["validation"]
    assert facts[syncnet.MEASURED]["people"] == 2
    assert facts[syncnet.MEASURED]["mean"] == scores[syncnet.MEASURED]
    loaded = syncnet.load_model(tmp_path)
    assert loaded.config == recipe.settings.model
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in state.items())


def test_standing_needs_facts_above_chance(tmp_path):
    state = SyncNet(SIZES).state_dict()
    good = {"validation": {syncnet.MEASURED: intervals.against_chance([0.85, 0.9, 0.88], 0.5)}}
    syncnet.save_model(state, SIZES, tmp_path, good)
    assert syncnet.standing(tmp_path) == (True, "above chance: 0.88 [0.81, 0.94] over 3 people, chance is 0.50")
    for facts in (None, {}, {"validation": {}}, {"validation": 3}, {"validation": {syncnet.MEASURED: 0.9}}):
        syncnet.save_model(state, SIZES, tmp_path, facts)
        above, words = syncnet.standing(tmp_path)
        assert not above
        assert words.startswith("NOT MEASURED")
    with pytest.raises(UserError, match="train one with: python -m train syncnet"):
        syncnet.standing(tmp_path / "nowhere")


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path):
    syncnet.save_model(SyncNet(SIZES).state_dict(), SyncConfig(5, 32, 32, 1, 8), tmp_path)
    with pytest.raises(UserError, match="do not fit its config") as refused:
        syncnet.load_model(tmp_path)
    assert "\n" not in str(refused.value)


def test_the_pictures_are_curves_over_offsets(recipe):
    (made,) = recipe.pictures(modules_of(recipe)).values()
    assert made.shape == (120, 512, 3)
    assert made.any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["frames=7"], "frames must be 8 or more for a false pair"),
        (["min_shift_frames=0"], "min_shift_frames must be 1"),
        (["scale=0"], "scale must be above 0"),
        (["voice_stretch=0.5"], "voice_stretch must lie"),
        (["model.window_frames=0"], "model.window_frames must be 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        config.load(SyncTrainConfig, TINY, settings)


def test_clips_too_short_to_validate_on_are_refused(talker_shards):
    with pytest.raises(UserError, match="no clip of split 'val' has 65 frames"):
        SyncRecipe(config.load(SyncTrainConfig, TINY, [f"shards={talker_shards}", "frames=80", "min_shift_frames=60"]))
