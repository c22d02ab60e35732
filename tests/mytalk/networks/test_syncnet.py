"""SyncNet: its scores, its windows, and the model's folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mytalk import config, intervals
from mytalk.command import UserError
from mytalk.face import pose
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME
from mytalk.networks import syncnet, weights
from mytalk.networks.syncnet import SyncConfig, SyncNet
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from train.recipes.syncnet import SyncRecipe, SyncTrainConfig

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

    def mouth(self, landmarks_BTN3, mask_BT=None):
        return self.at(landmarks_BTN3[:, :, 0, 0])

    def speech(self, audio_BS):
        return self.at(audio_BS[:, ::SAMPLES_PER_FRAME])

    def at(self, angle_BT):
        return torch.stack([angle_BT.cos(), angle_BT.sin()], dim=-1)


def known_clip(mouth_T: np.ndarray, speech_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and audio that hold these angles."""
    landmarks = np.zeros((len(mouth_T), COUNT, 2))
    landmarks[:, 0, 0] = mouth_T
    return landmarks, np.repeat(speech_T, SAMPLES_PER_FRAME)


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
    angles = torch.stack([0 * tilt, 0 * tilt, 0.5 * tilt], dim=-1)
    shift = torch.stack([30 * sway, -20 * zoom, 0 * sway], dim=-1)
    moved = pose.from_angles(0.6 + zoom, angles, shift).place(landmarks)
    assert (moved - landmarks).abs().max() > 20
    torch.testing.assert_close(model.mouth(moved), own, rtol=0, atol=1e-9)
    assert (model.mouth(landmarks.flip(1)) - own).abs().max() > 1e-3, "the lips are seen"


def test_padding_changes_no_window_without_it(model, clip):
    landmarks = torch.from_numpy(clip[0])[None, :30]
    padded = torch.cat([landmarks, 300 * torch.rand(1, 6, COUNT, 3, dtype=torch.float64)], 1)
    mask = torch.ones(1, 36, dtype=torch.float64)
    mask[:, 30:] = 0
    torch.testing.assert_close(model.mouth(padded, mask)[:, :26], model.mouth(landmarks), rtol=0, atol=1e-10)


def test_a_mouth_that_never_moves_gives_one_vector_whoever_it_is(model, clip):
    """The person's mean is taken off: still faces of two people are one and the same."""
    random = np.random.default_rng(6)
    still = torch.from_numpy(np.stack([clip[0][:1].repeat(12, 0), talkers.base_face(random)[None].repeat(12, 0)]))
    made = model.mouth(still)
    torch.testing.assert_close(made, made[:1, :1].expand_as(made), rtol=0, atol=1e-9)


def test_a_model_without_facts_above_chance_is_not_above_chance(tmp_path):
    state = SyncNet(SIZES).state_dict()
    good = {"validation": {syncnet.MEASURED: intervals.against_chance([0.85, 0.9, 0.88], 0.5)}}
    syncnet.save_model(state, SIZES, tmp_path, good)

    def above_chance(folder):
        return weights.above_chance(folder, "syncnet", syncnet.MEASURED)

    assert above_chance(tmp_path) == (True, "above chance: 0.88 [0.81, 0.94] over 3 people, chance is 0.50")
    for facts in (None, {}, {"validation": {}}, {"validation": 3}, {"validation": {syncnet.MEASURED: 0.9}}):
        syncnet.save_model(state, SIZES, tmp_path, facts)
        above, words = above_chance(tmp_path)
        assert not above
        assert words.startswith("NOT MEASURED")
    with pytest.raises(UserError, match="train one with: python -m train syncnet"):
        above_chance(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("corpora", "asked", "said"),
    [
        ({"drawn": [0.85, 0.9, 0.88], "real": [0.8, 0.78, 0.82]}, ["real", "drawn"], ""),
        ({"drawn": [0.85, 0.9, 0.88], "real": [0.5, 0.6, 0.4]}, ["drawn"], ""),
        (
            {"drawn": [0.85, 0.9, 0.88], "real": [0.5, 0.6, 0.4]},
            ["real"],
            "on unseen people of 'real', AT CHANCE: 0.50",
        ),
        ({"drawn": [0.85, 0.9, 0.88]}, ["drawn", "real"], "on unseen people of 'real', NOT MEASURED"),
        (None, ["drawn"], "on unseen people of 'drawn', NOT MEASURED"),
    ],
)
def test_people_of_one_corpus_prove_nothing_on_those_of_another(tmp_path, corpora, asked, said):
    facts = {syncnet.MEASURED: intervals.against_chance([0.85, 0.9, 0.88], 0.5)}
    if corpora:
        facts[syncnet.CORPORA] = {name: intervals.against_chance(values, 0.5) for name, values in corpora.items()}
    syncnet.save_model(SyncNet(SIZES).state_dict(), SIZES, tmp_path, {"validation": facts})
    shown, words = syncnet.proven_on(tmp_path, asked)
    assert (shown, words.startswith(said or "above chance: 0.88")) == (not said, True)
    if said:
        with pytest.raises(UserError, match=r"--judge cannot use syncnet .*: on unseen people of"):
            syncnet.load_proven(tmp_path, "--judge", asked, syncnet.LANDMARKS)
    else:
        assert not any(
            p.requires_grad for p in syncnet.load_proven(tmp_path, "", asked, syncnet.LANDMARKS).parameters()
        )


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path):
    syncnet.save_model(SyncNet(SIZES).state_dict(), SyncConfig(5, 32, 32, 1, 8), tmp_path)
    fix = "do not fit its config .*; made by another version .* train it again with: python -m train syncnet"
    with pytest.raises(UserError, match=fix) as refused:
        syncnet.load_model(tmp_path)
    assert "\n" not in str(refused.value)
