"""The motion model: head pose, what the network may see, padding, generating, and the folder it is kept in."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mytalk import config
from mytalk.command import UserError
from mytalk.dub import long_form
from mytalk.face import pose
from mytalk.face.landmarks import CLEAN, COUNT, NOISED, RIGID, SAMPLES_PER_FRAME
from mytalk.networks import diffusion, identity, weights
from mytalk.networks.motion import generation, inputs, network
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.files import load_model, save_model
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.inputs import Conditions
from mytalk.networks.motion.network import MotionModel
from tests.helpers import talkers
from tests.helpers.checkout import ROOT
from tests.helpers.face_points import faces, ones
from tests.helpers.motion_batches import padded, predict_and_learn, shaken
from train.recipes.motion import MotionRecipe, MotionTrainConfig

TINY = MotionConfig(
    width=32, heads=2, layers=2, hidden=48, kernel=5, speech_layers=1, identity_layers=1, unit_px=8, slow_frames=4
)


@pytest.fixture(scope="module")
def model() -> MotionModel:
    torch.manual_seed(0)
    return shaken(MotionModel(TINY)).eval()


@pytest.fixture(scope="module")
def recipe(talker_shards) -> MotionRecipe:
    made = config.load(MotionTrainConfig, ROOT / "tests" / "helpers" / "tiny_motion.yaml", [f"shards={talker_shards}"])
    made.model = TINY
    return MotionRecipe(made)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, SourceStretch, np.ndarray]:
    """Landmarks of 20 frames, a silent source of 15, and speech of 20, of one synthetic person."""
    random = np.random.default_rng(2)
    face = talkers.base_face(random)
    landmarks, audio = talkers.clip(random, face, 10.0, 20)
    source, _ = talkers.clip(random, face, 10.0, 15)
    return landmarks.astype(np.float32), SourceStretch(source.astype(np.float32)), audio.astype(np.float32)


@given(st.integers(0, 10_000), st.sampled_from(["pose", "landmarks"]))
@settings(max_examples=30, deadline=None)
def test_nothing_of_the_noised_points_is_seen(seed, upper_face):
    """The lower face of the clip may be anything: pose, seen, source, shape and mean stay bit for bit."""
    settings = replace(TINY, upper_face=upper_face)
    landmarks, source = faces(1), faces(2, 4)
    made = inputs.prepare(landmarks, ones(1, 5), source, ones(1, 4), settings)
    other = landmarks.clone()
    change = np.random.default_rng(seed).normal(0, 40, (1, 5, len(NOISED), 3))
    other[:, :, NOISED] += torch.from_numpy(change)
    again = inputs.prepare(other, ones(1, 5), source, ones(1, 4), settings)
    for name in ("seen_BTF", "source_BUF", "shape_BF", "mean_BK2", "depth_BK"):
        assert torch.equal(getattr(made, name), getattr(again, name)), name
    for name in ("scale_BT", "rotation_BT33", "shift_BT3"):
        assert torch.equal(getattr(made.pose, name), getattr(again.pose, name)), name
    assert not torch.equal(made.motion_BTK2, again.motion_BTK2)


def test_by_default_the_upper_face_is_seen_as_one_mean_and_a_slow_pose():
    """A blink, or anything that a clean point does within the clip, reaches the network in no single frame."""
    landmarks, source = faces(1, 12), faces(2, 4)
    made = inputs.prepare(landmarks, ones(1, 12), source, ones(1, 4), TINY).seen_BTF
    upper = made[..., : -pose.FEATURES]
    assert upper.shape[-1] == 2 * len(CLEAN)
    torch.testing.assert_close(upper, upper[:, :1].expand_as(upper), rtol=0, atol=0)
    other = landmarks.clone()
    still = [i for i in CLEAN if i not in RIGID]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    other[:, :, still] = landmarks[:, order][:, :, still]
    head = pose.person_head(source, ones(1, 4))
    turned = pose.fit(landmarks, head.rigid_BR3)
    in_head = turned.to_head(landmarks, head.depth_BN)[:, order]
    other[:, :, still] = turned.to_crop(in_head, head.depth_BN)[:, :, still]
    again = inputs.prepare(other, ones(1, 12), source, ones(1, 4), TINY).seen_BTF
    torch.testing.assert_close(again, made, rtol=1e-9, atol=1e-9)
    whole = inputs.prepare(landmarks, ones(1, 12), source, ones(1, 4), replace(TINY, upper_face="landmarks"))
    assert whole.seen_BTF[..., : -pose.FEATURES].std(1).min() > 0, "the switch shows every frame"


def test_restore_inverts_prepare_and_keeps_clean_points_bit_for_bit():
    landmarks, source = faces(1).float(), faces(2, 4).float()
    made = inputs.prepare(landmarks, torch.ones(1, 5), source, torch.ones(1, 4), TINY)
    back = inputs.restore(made.motion_BTK2, made, landmarks, TINY)
    torch.testing.assert_close(back[..., :2], landmarks[..., :2], rtol=0, atol=1e-3)
    other = inputs.restore(made.motion_BTK2 + 1, made, landmarks, TINY)
    assert torch.equal(other[:, :, CLEAN], landmarks[:, :, CLEAN])
    assert ((other - landmarks)[:, :, NOISED, :2].norm(dim=-1) > 1).all()


def test_with_all_points_noised_nothing_is_seen_and_the_lower_face_alone_is_written(clip):
    """Whatever the clip's eyes do, the same mouth is written; what is held in it holds; the rest stays."""
    every = replace(TINY, noised="all")
    model = shaken(MotionModel(every)).eval()
    landmarks, source, audio = clip
    prepared = inputs.prepare(faces(1), ones(1, 5), faces(2, 4), ones(1, 4), every)
    assert prepared.motion_BTK2.shape == (1, 5, COUNT, 2)
    assert not prepared.seen_BTF.any()
    back = inputs.restore(prepared.motion_BTK2 + 1, prepared, faces(1), every)
    assert torch.equal(back[:, :, CLEAN], faces(1)[:, :, CLEAN])

    def lifted(lower_TK2):
        assert lower_TK2.shape == (len(landmarks), len(NOISED), 2)
        return 0 * lower_TK2 + 3.0

    still = [i for i in CLEAN if i not in RIGID]
    other = landmarks.copy()
    other[:, still] += 5
    made, same = (generation.generate(model, points, source, audio, 3, steps=2) for points in (landmarks, other))
    np.testing.assert_array_equal(made[:, NOISED], same[:, NOISED])
    np.testing.assert_array_equal(made[:, CLEAN], landmarks[:, CLEAN])
    held = generation.generate(model, landmarks, source, audio, 3, steps=2, hold=lifted)
    assert np.ptp(held[:, NOISED, :2], axis=1).max() < 3 < 20 < np.ptp(made[:, NOISED, :2], axis=1).min(), (
        "but for depth"
    )


def test_padding_changes_no_prediction_and_no_gradient(recipe, model):
    """float64: a batch with 9 more frames and 4 more source frames of garbage behind its masks."""
    wide_model = MotionModel(TINY).double()
    wide_model.load_state_dict(model.state_dict())
    batch = recipe.examples([0, 1, 2]).to(torch.device("cpu"), torch.float64)
    own = predict_and_learn(recipe, wide_model, batch)
    more = predict_and_learn(recipe, wide_model, padded(batch, 9, 4))
    valid = batch.mask_BT > 0
    assert not valid.all(), "the batch itself is padded"
    torch.testing.assert_close(more[0][:, : valid.shape[1]][valid], own[0][valid], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(more[1], own[1], rtol=1e-10, atol=0)
    for ours, theirs in zip(more[2], own[2]):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * theirs.abs().max().item())


def test_no_example_of_a_batch_influences_another(recipe, model):
    """Alone or among others an example has the same loss, and its loss does not know their inputs."""
    double = MotionModel(TINY).double()
    double.load_state_dict(model.state_dict())
    make, cpu = recipe.examples, torch.device("cpu")
    together = make([3, 4, 5]).to(cpu, torch.float64)
    names = ("landmarks_BTN3", "audio_BS", "source_BUN3", "source_audio_BS", "noise_BTK2", "t_B")
    tensors = [getattr(together, name) for name in names]
    for tensor in tensors:
        tensor.requires_grad_()
    loss_B = recipe.loss({"motion": double}, together).total_B
    for index in range(3):
        alone = recipe.loss({"motion": double}, make([3 + index]).to(cpu, torch.float64)).total_B
        torch.testing.assert_close(alone[0], loss_B[index], rtol=1e-10, atol=0)
    for gradient in torch.autograd.grad(loss_B[1], tensors):
        assert gradient[1].any()
        assert not gradient[[0, 2]].any()


def test_a_fresh_model_predicts_the_persons_mean_face():
    """The last layer starts at zero, so x0 starts as no motion at all."""
    fresh = MotionModel(TINY)
    source = faces(2, 4).float()
    made = inputs.prepare(faces(1, 6).float(), torch.ones(1, 6), source, torch.ones(1, 4), TINY)
    silence = torch.zeros(1, 6 * SAMPLES_PER_FRAME)
    noised, heard = torch.ones(1, 6, len(NOISED), 2), silence[:, : 4 * SAMPLES_PER_FRAME]
    conditions = Conditions(made, torch.ones(1, 6), silence, torch.ones(1, 4), heard)
    predicted = fresh(noised, torch.tensor([0.4]), conditions)
    assert predicted.shape == noised.shape
    assert not predicted.any()


def test_every_condition_reaches_the_prediction(recipe, model):
    """Time, speech and voice, the source's motion, speech and shape, and what is seen: each changes the prediction."""
    batch = recipe.examples([0, 1])
    made = inputs.prepare(batch.landmarks_BTN3, batch.mask_BT, batch.source_BUN3, batch.source_mask_BU, TINY)
    noised = diffusion.add_noise(made.motion_BTK2, batch.t_B, batch.noise_BTK2)
    masks_and_speech = (batch.mask_BT, batch.audio_BS, batch.source_mask_BU, batch.source_audio_BS)
    own = Conditions(made, *masks_and_speech, voice_B=batch.voice_B)
    with torch.no_grad():
        reference = model(noised, batch.t_B, own)
        assert torch.equal(model(noised, batch.t_B, own), reference)
        assert (model(noised.flip(0), batch.t_B, own) - reference).abs().max() > 1e-3, "the noised motion"
        assert (model(noised, batch.t_B.flip(0), own) - reference).abs().max() > 1e-3, "the time"
        for name in ("audio_BS", "source_audio_BS", "voice_B"):
            other = replace(own, **{name: getattr(own, name).flip(0)})
            assert (model(noised, batch.t_B, other) - reference).abs().max() > 1e-3, name
        for name in ("seen_BTF", "source_BUF", "shape_BF"):
            other = replace(made, **{name: getattr(made, name).flip(0)})
            changed = model(noised, batch.t_B, replace(own, prepared=other))
            assert (changed - reference).abs().max() > 1e-3, name
        silent = replace(own, audio_BS=0 * batch.audio_BS)
        other = replace(silent, voice_B=batch.voice_B.flip(0))
        changed, unchanged = model(noised, batch.t_B, other), model(noised, batch.t_B, silent)
        assert (changed - unchanged).abs().max() > 1e-4, "the source is heard with that voice too"
        for name in ("motion_BTK2", "mean_BK2"):
            other = replace(made, **{name: torch.full_like(getattr(made, name), torch.nan)})
            changed = model(noised, batch.t_B, replace(own, prepared=other))
            assert torch.equal(changed, reference), f"{name} is the answer, or its place"


def test_time_embedding_is_sines_and_cosines_of_a_thousand_t():
    made = network.time_embedding(torch.tensor([0.0, 0.25], dtype=torch.float64), 8)[1].tolist()
    angles = [250 * 10_000 ** (-i / 4) for i in range(4)]
    assert made == pytest.approx([*np.sin(angles), *np.cos(angles)], abs=1e-9)


def test_generate_reads_nothing_of_the_noised_points(model, clip):
    """They may even be not-a-number: the result is the same, bit for bit, and the clean points are untouched."""
    landmarks, source, audio = clip
    own = generation.generate(model, landmarks, source, audio, seed=3, steps=4)
    assert own.shape == landmarks.shape
    assert own.dtype == np.float32
    unknown = landmarks.copy()
    unknown[:, NOISED] = np.nan
    np.testing.assert_array_equal(generation.generate(model, unknown, source, audio, seed=3, steps=4), own)
    np.testing.assert_array_equal(own[:, CLEAN], landmarks[:, CLEAN])
    assert np.isfinite(own).all()


def test_generate_is_a_function_of_its_seed_and_of_the_speech(model, clip):
    landmarks, source, audio = clip
    own = generation.generate(model, landmarks, source, audio, seed=3, steps=4)
    torch.manual_seed(99)
    np.testing.assert_array_equal(generation.generate(model, landmarks, source, audio, seed=3, steps=4), own)
    assert np.abs(generation.generate(model, landmarks, source, audio, seed=4, steps=4) - own).max() > 1e-3
    assert np.abs(generation.generate(model, landmarks, source, 0 * audio, seed=3, steps=4) - own).max() > 1e-3
    silent = np.zeros(15 * SAMPLES_PER_FRAME, np.float32)
    same = generation.generate(model, landmarks, replace(source, audio_S=silent), audio, seed=3, steps=4)
    np.testing.assert_array_equal(same, own)
    speaking = replace(source, audio_S=audio[: len(silent)])
    heard = generation.generate(model, landmarks, speaking, audio, seed=3, steps=4)
    assert np.abs(heard - own).max() > 1e-3
    with pytest.raises(ValueError, match="20 frames need 12800 samples"):
        generation.generate(model, landmarks, source, audio[:-1], seed=3)


def test_start_noise_belongs_to_the_frame_whatever_window_asks_for_it():
    whole = generation.start_noise(5, 0, 300)
    for start, stop in ((0, 1), (63, 65), (100, 300)):
        np.testing.assert_array_equal(generation.start_noise(5, start, stop - start), whole[start:stop])
    assert abs(whole.mean()) < 0.01
    assert abs(whole.std() - 1) < 0.01
    assert not np.array_equal(generation.start_noise(6, 0, 300), whole)


def test_what_is_held_in_every_step_holds_in_the_result(model, clip):
    """Px of the head's frame, whatever the amplitude; the frames beside it are generated to fit."""
    landmarks, source, audio = clip

    def hold(lower_TK2):
        lower_TK2[7] = 3.0
        return lower_TK2

    got = generation.generate(model, landmarks, source, audio, 3, steps=4, amplitude=0.5, hold=hold)
    head = long_form.person_head(source.landmarks_UN3)
    np.testing.assert_allclose(long_form.lower_face(got, head)[7], 3.0, atol=1e-2)
    free = generation.generate(model, landmarks, source, audio, 3, steps=4, amplitude=0.5)
    moved_T = np.abs(got - free)[:, NOISED].max((1, 2))
    assert (moved_T > 0).all(), "attention carries it to the other frames"


def test_a_saved_model_loads_as_it_was(model, tmp_path, clip):
    landmarks, source, audio = clip
    save_model(model.state_dict(), TINY, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.config == TINY
    assert not loaded.training
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    made = [generation.generate(one, landmarks, source, audio, seed=1, steps=2) for one in (model, loaded)]
    np.testing.assert_array_equal(*made)


def edit(folder, **changes) -> None:
    """Change config.json of a model folder."""
    facts = json.loads((folder / "config.json").read_text())
    facts["config"].update(changes.pop("config", {}))
    (folder / "config.json").write_text(json.dumps({**facts, **changes}))


def cut(folder, size: int) -> None:
    """Keep the first `size` bytes of the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "no model in"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "is not JSON"),
        (lambda f: (f / "config.json").write_text("[1]"), "describes no model"),
        (lambda f: (f / "config.json").write_text('{"model": "motion", "format": 1}'), "describes no model"),
        (lambda f: edit(f, model="appearance"), "holds model 'appearance'"),
        (lambda f: edit(f, format=99), "format 99, not a motion model of format 1"),
        (lambda f: edit(f, config={"widht": 3}), "does not know: widht; update"),
        (lambda f: edit(f, config={"width": "wide"}), "is no model's"),
        (lambda f: edit(f, config={"width": 32.5}), "is no model's"),
        (lambda f: edit(f, config={"heads": 0}), "model.heads must be 1 or more"),
        (lambda f: edit(f, config={"width": 64}), "do not fit its config"),
        (lambda f: edit(f, config={"layers": 3}), "do not fit its config"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: cut(f, 0), "model.safetensors is damaged"),
        (lambda f: cut(f, 5), "model.safetensors is damaged"),
        (lambda f: cut(f, 5000), "model.safetensors is damaged"),
        (lambda f: cut(f, -4), "model.safetensors is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "model.safetensors is damaged"),
    ],
)
def test_a_folder_that_holds_no_whole_model_is_refused_in_one_line(model, tmp_path, damage, said):
    save_model(model.state_dict(), TINY, tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError) as refused:
        load_model(tmp_path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_extractor_of_another_width_is_refused_in_one_line(tmp_path):
    sizes = identity.IdentityConfig(width=16, heads=2, layers=1, hidden=24, kernel=3, embedding=8)
    conditioned = replace(TINY, extractor_width=16)
    extractor = identity.IdentityEncoder(sizes)
    save_model(MotionModel(conditioned).state_dict(), conditioned, tmp_path, extractor)
    assert load_model(tmp_path).extractor is not None
    wider = replace(sizes, width=32)
    folder = tmp_path / weights.EXTRACTOR
    identity.save_model(identity.IdentityEncoder(wider).state_dict(), wider, folder)
    with pytest.raises(UserError, match=r"do not fit its config: .* extractor_width 16, not 32") as refused:
        load_model(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_missing_folder_or_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UserError, match="train one with: python -m train motion"):
            load_model(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"upper_face": "all"}, "must be pose or landmarks"),
        ({"slow_frames": 0}, "slow_frames must be above 0"),
        ({"unit_px": 0.0}, "unit_px must be above 0"),
        ({"heads": 0}, "heads must be 1 or more"),
        ({"layers": 0}, "layers must be 1 or more"),
        ({"speech_layers": -1}, "speech_layers must be 0 or more"),
        ({"width": 30, "heads": 4}, "multiple of 2 x model.heads"),
        ({"kernel": 4}, "kernel must be odd"),
    ],
)
def test_impossible_sizes_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        MotionConfig(**settings)


def test_a_source_without_sound_shows_its_motion_alone(model, clip):
    """Silence is not encoded as speech: what the speech encoder would make of it reaches no condition."""
    landmarks, source, _ = clip
    points, still = (torch.from_numpy(side)[None] for side in (source.landmarks_UN3, landmarks))
    made = inputs.prepare(still, torch.ones(1, 20), points, torch.ones(1, 15), TINY)
    silence, mask = torch.full((1, 15 * SAMPLES_PER_FRAME), 1e-5), torch.ones(1, 15)
    own = model.encode_identity(made.source_BUF, made.shape_BF, mask, silence)[0]
    deaf = MotionModel(replace(TINY, source_speech=False))
    deaf.load_state_dict(model.state_dict())
    theirs = deaf.encode_identity(made.source_BUF, made.shape_BF, mask, silence)[0]
    torch.testing.assert_close(own, theirs, rtol=0, atol=0)


def test_what_is_not_kept_reaches_no_prediction(recipe, model):
    """Without the source only the mean face counts, without the speech nothing of the sound."""
    batch = recipe.examples([0, 1])

    def predicted(speech_kept: float, source_kept: float, **changed) -> torch.Tensor:
        other = replace(batch, **changed)
        other.speech_kept_B, other.source_kept_B = torch.full((2,), speech_kept), torch.full((2,), source_kept)
        return predict_and_learn(recipe, model, other)[0]

    sound = {"audio_BS": 0.1 * torch.randn(batch.audio_BS.shape, generator=torch.Generator().manual_seed(1))}
    quiet = {"source_audio_BS": torch.zeros_like(batch.source_audio_BS)}
    assert torch.equal(predicted(0, 1, **sound), predicted(0, 1))
    assert not torch.equal(predicted(1, 1, **sound), predicted(1, 1))
    assert torch.equal(predicted(1, 0, **quiet), predicted(1, 0))
    assert not torch.equal(predicted(1, 1, **quiet), predicted(1, 1))


def test_whitened_motion_has_unit_variance_and_its_scale_stays_with_the_weights(talker_shards, tmp_path, clip):
    given_settings = [f"shards={talker_shards}", "model.whiten=true"]
    recipe = MotionRecipe(
        config.load(MotionTrainConfig, ROOT / "tests" / "helpers" / "tiny_motion.yaml", given_settings)
    )
    module = recipe.players()["motion"].module
    squares, frames = torch.zeros(len(NOISED), 2), 0.0
    for slot in range(len(recipe.examples)):
        batch = recipe.examples([slot])
        made = inputs.prepare(
            batch.landmarks_BTN3, batch.mask_BT, batch.source_BUN3, batch.source_mask_BU, recipe.model
        )
        squares += ((made.motion_BTK2 / module.deviation_K2).square() * batch.mask_BT[..., None, None]).sum((0, 1))
        frames += batch.mask_BT.sum()
    rms_K2 = (squares / frames).sqrt()
    assert rms_K2.max() < 1.001
    assert (rms_K2 > 0.999).double().mean() > 0.5, "but for points that move less than a tenth of a px"
    shaken(module)
    save_model(module.state_dict(), recipe.model, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.deviation_K2, module.deviation_K2)
    landmarks, source, audio = clip
    moved = generation.generate(loaded, landmarks, source, audio, seed=1, steps=2) - landmarks
    loaded.deviation_K2.mul_(2)
    again = generation.generate(loaded, landmarks, source, audio, seed=1, steps=2) - landmarks
    assert np.abs(again - moved).max() > 1e-3


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_guidance_is_a_line_between_what_is_predicted_without_speech_and_with_it(clip, weight):
    """One step, where generated motion is the guided prediction itself; 0 does not hear the speech."""
    guided = shaken(MotionModel(TINY)).eval()
    landmarks, source, audio = clip

    def made(of: float, sound: np.ndarray = audio) -> np.ndarray:
        guided.guidance = of
        return generation.generate(guided, landmarks, source, sound, seed=3, steps=1).astype(np.float64)

    np.testing.assert_allclose(made(weight), made(0.0) + weight * (made(1.0) - made(0.0)), atol=1e-3)
    np.testing.assert_allclose(made(0.0, 0 * audio), made(0.0), atol=1e-5)
    assert np.abs(made(1.0) - made(0.0)).max() > 0.1


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_guidance_by_the_person_is_a_line_from_what_anybody_would_do(clip, weight):
    """One step; 0 sees of the source its mean face alone, so what the person said there changes nothing."""
    guided = shaken(MotionModel(TINY)).eval()
    landmarks, source, audio = clip
    said = replace(source, audio_S=np.resize(audio, len(source.landmarks_UN3) * 640))

    def made(of: float, source=source) -> np.ndarray:
        guided.person_guidance = of
        return generation.generate(guided, landmarks, source, audio, seed=3, steps=1).astype(np.float64)

    np.testing.assert_allclose(made(weight), made(0.0) + weight * (made(1.0) - made(0.0)), atol=1e-3)
    np.testing.assert_allclose(made(0.0, said), made(0.0), atol=1e-5)
    assert np.abs(made(1.0, said) - made(1.0)).max() > 0.01


def test_what_a_model_always_had_cannot_guide_it():
    model = MotionModel(TINY)
    with pytest.raises(UserError, match=r"--person-guidance 2.0: the motion model was trained without source_dropout"):
        model.guide(1.0, 2.0)
    model.knows_no_source = True
    model.guide(1.0, 2.0)
    assert (model.guidance, model.person_guidance) == (1, 2)


def test_the_speech_encoder_may_have_sizes_of_its_own():
    """0 is the denoiser's, so models of before keep theirs."""
    sizes = {"width": 16, "heads": 2, "layers": 1, "hidden": 16, "kernel": 3, "speech_layers": 1, "identity_layers": 1}
    own = MotionModel(MotionConfig(**sizes, speech_heads=4, speech_hidden=40)).speech_blocks[0]
    assert (own.attention.heads, own.first.wide.out_features) == (4, 40)
    same = MotionModel(MotionConfig(**sizes)).speech_blocks[0]
    assert (same.attention.heads, same.first.wide.out_features) == (2, 16)
    with pytest.raises(ValueError, match="speech_heads"):
        MotionConfig(**sizes, speech_heads=3)
