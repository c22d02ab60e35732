"""The public SyncNet with fixed random weights against the published algorithm, window by window; planted offsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from eval.judges import public_syncnet
from eval.judges.public_syncnet import PublicSyncNet, face_crops, lip_sync
from mytalk.command import UserError

FRAMES = 9


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A file like the public one: its names and shapes, random numbers."""
    lips, sound = public_syncnet.network()
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, part in public_syncnet.parts(lips, sound).items():
        for key, tensor in part.state_dict().items():
            if tensor.dtype == torch.float32:
                spread = (2 / max(tensor[0].numel(), 1)) ** 0.5 if tensor.ndim > 1 else 0.1
                drawn = torch.randn(tensor.shape, generator=random) * spread
                norm = key.endswith("running_var") or (key.endswith("weight") and tensor.ndim == 1)
                tensor = 0.5 + drawn.abs() if norm else drawn
            state[f"{name}.{key}"] = tensor
    path = tmp_path_factory.mktemp("public") / "syncnet_v2.model"
    torch.save(state, path)
    return path


def published(state: dict[str, torch.Tensor], crops_THW3: np.ndarray, steps_MC: np.ndarray, windows: int):
    """The algorithm as it is written down: every window alone, every layer by its number in the file."""

    def layer(x, at: str, number: int, **how):
        weight, bias = state[f"{at}.{number}.weight"], state[f"{at}.{number}.bias"]
        x = (functional.conv3d if weight.ndim == 5 else functional.conv2d)(x, weight, bias, **how)
        return torch.relu(norm(x, f"{at}.{number + 1}"))

    def norm(x, at: str):
        mean, variance, weight, bias = (
            state[f"{at}.{name}"].view(1, -1, *[1] * (x.ndim - 2))
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def fully(x, at: str):
        hidden = torch.relu(norm(x.flatten(1) @ state[f"{at}.0.weight"].T + state[f"{at}.0.bias"], f"{at}.1"))
        return hidden @ state[f"{at}.3.weight"].T + state[f"{at}.3.bias"]

    lips, sound = [], []
    for window in range(windows):
        bgr = np.stack([frame[:, :, ::-1] for frame in crops_THW3[window : window + 5]]).astype(np.float32)
        x = torch.from_numpy(bgr.transpose(3, 0, 1, 2))[None]
        x = layer(x, "netcnnlip", 0, stride=(1, 2, 2))
        x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2))
        x = layer(x, "netcnnlip", 4, stride=(1, 2, 2), padding=(0, 1, 1))
        x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for number in (8, 11, 14):
            x = layer(x, "netcnnlip", number, padding=(0, 1, 1))
        x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2))
        lips.append(fully(layer(x, "netcnnlip", 18), "netfclip")[0].numpy())
        heard = torch.from_numpy(steps_MC[4 * window : 4 * window + 20].T.astype(np.float32))[None, None]
        y = layer(heard, "netcnnaud", 0, padding=1)
        y = functional.max_pool2d(layer(y, "netcnnaud", 4, padding=1), 3, (1, 2))
        for number in (8, 11, 14):
            y = layer(y, "netcnnaud", number, padding=1)
        y = functional.max_pool2d(y, 3, (2, 2))
        sound.append(fully(layer(y, "netcnnaud", 18), "netfcaud")[0].numpy())
    means = []
    for shift in range(-15, 16):
        each = []
        for window in range(windows):
            other = window + shift
            zeros = np.zeros_like(sound[0])
            each.append(np.linalg.norm(lips[window] - (sound[other] if 0 <= other < windows else zeros)))
        means.append(float(np.mean(each)))
    least = int(np.argmin(means))
    return float(np.median(means) - means[least]), means[least], 15 - least, np.stack(lips), np.stack(sound)


@torch.inference_mode()
def test_with_fixed_random_weights_it_is_the_published_algorithm(file: Path) -> None:
    random = np.random.default_rng(0)
    frames_THW3 = random.integers(0, 256, (FRAMES, 256, 256, 3), dtype=np.uint8)
    boxes_T4 = np.array([60.0, 50, 190, 200]) + random.normal(0, 3, (FRAMES, 4))
    audio_S = (0.3 * random.standard_normal(FRAMES * 640)).astype(np.float32)
    judge = PublicSyncNet({public_syncnet.NAME: file})
    found = judge.score(frames_THW3, boxes_T4, audio_S)
    steps_MC = np.concatenate([public_syncnet.mfcc(audio_S), np.zeros((20, 13))])
    crops_THW3, state = face_crops(frames_THW3, boxes_T4), torch.load(file, weights_only=True)
    confidence, distance, offset, lips_WE, sound_WE = published(state, crops_THW3, steps_MC, FRAMES - 5)
    np.testing.assert_allclose(judge.embed_lips(crops_THW3, FRAMES - 5), lips_WE, atol=1e-3)
    np.testing.assert_allclose(judge.embed_sound(public_syncnet.mfcc(audio_S), FRAMES - 5), sound_WE, atol=1e-3)
    assert (found.confidence, found.distance) == pytest.approx((confidence, distance), abs=1e-3)
    assert found.offset_frames == offset


@pytest.mark.parametrize("late", range(-5, 6))
def test_planted_offsets_are_found(late: int) -> None:
    """Lips that show at frame t what the sound says at t - late: the published sign is that of 15 - argmin."""
    said_TE = np.random.default_rng(7).standard_normal((120, 16))
    found = lip_sync(said_TE[20 - late : 100 - late], said_TE[20:100])
    assert found.offset_frames == late
    assert found.confidence > 2
    assert found.distance < 0.5 * found.confidence


def test_crops_are_grey_beyond_the_picture_and_hold_more_below_the_face() -> None:
    frames_THW3 = np.zeros((15, 200, 200, 3), np.uint8)
    frames_THW3[:, 90:110, 90:110] = 255  # the middle of the box
    crops_THW3 = face_crops(frames_THW3, np.tile([20.0, 20, 180, 180], (15, 1)))
    assert crops_THW3.shape == (15, 224, 224, 3)
    rows, columns = np.nonzero(crops_THW3[7, :, :, 0] == 255)
    assert rows.mean() == pytest.approx(80 / 224 * 224, abs=1), "80 of 224 px of the box's half lie above"
    assert columns.mean() == pytest.approx(111.5, abs=1)
    assert (crops_THW3[7, -20:] == 110).all()


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"netcnnlip.0.weight": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(UserError, match="is not the public SyncNet") as refused:
        PublicSyncNet({public_syncnet.NAME: tmp_path / "other"})
    assert "\n" not in str(refused.value)
    network = PublicSyncNet.__new__(PublicSyncNet)
    with pytest.raises(ValueError, match="7 frames"):
        network.score(np.zeros((6, 8, 8, 3), np.uint8), np.zeros((6, 4)), np.zeros(6 * 640))
