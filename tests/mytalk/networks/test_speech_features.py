"""Log-mel energies against an independent numpy implementation; alignment to video frames; padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import get_window

from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks import speech_features

SILENCE = (np.log(1e-5) + 4) / 4


def reference(samples: np.ndarray, voice: float = 1.0) -> np.ndarray:
    """Log-mel by the textbook: loops over frames and bands, a written-out DFT, the HTK mel scale."""
    edges_hz = [
        voice * 700 * (10 ** (mel / 2595) - 1)
        for mel in np.arange(speech_features.BANDS + 2) * 2595 * np.log10(1 + 8000 / 700) / 81
    ]
    window = get_window("hann", 400, fftbins=True)
    bins = np.arange(257)
    dft = np.exp(-2j * np.pi * np.outer(bins, np.arange(400)) / 512)
    out = np.zeros((len(samples) // 160, speech_features.BANDS))
    for m in range(len(out)):
        first = 160 * m + 80 - 200
        part = [samples[i] if 0 <= i < len(samples) else 0.0 for i in range(first, first + 400)]
        power = np.abs(dft @ (window * part)) ** 2
        for band in range(speech_features.BANDS):
            low, centre, high = edges_hz[band : band + 3]
            energy = 0.0
            for k, hz in enumerate(bins * 31.25):
                if low < hz <= centre:
                    energy += power[k] * (hz - low) / (centre - low)
                elif centre < hz < high:
                    energy += power[k] * (high - hz) / (high - centre)
            out[m, band] = (np.log(energy + 1e-5) + 4) / 4
    return out


def test_log_mel_equals_an_independent_implementation():
    random = np.random.default_rng(0)
    loudness = np.array([[1.0], [0.01]])
    samples = np.clip(0.3 * loudness * random.standard_normal((2, 3 * SAMPLES_PER_FRAME)), -1, 1)
    made = speech_features.log_mel(torch.from_numpy(samples))
    assert made.shape == (2, 12, speech_features.BANDS)
    for row, one in zip(made.numpy(), samples):
        np.testing.assert_allclose(row, reference(one), atol=1e-9)
    rough = speech_features.log_mel(torch.from_numpy(samples).float())
    assert rough.dtype == torch.float32
    np.testing.assert_allclose(rough.numpy(), made.numpy(), atol=1e-3)


def test_a_voice_stretches_the_filters_of_its_own_example():
    """1 changes nothing; above 1 the filters lie higher, some beyond what 16 kHz holds; examples stay apart."""
    samples = 0.3 * np.random.default_rng(1).standard_normal((3, 2 * SAMPLES_PER_FRAME))
    voices = [1.0, 1.1, 0.9]
    made = speech_features.log_mel(torch.from_numpy(samples), torch.tensor(voices, dtype=torch.float64))
    for row, one, voice in zip(made.numpy(), samples, voices):
        np.testing.assert_allclose(row, reference(one, voice), atol=1e-9)
    plain = speech_features.log_mel(torch.from_numpy(samples))
    torch.testing.assert_close(made[0], plain[0], rtol=0, atol=1e-12)
    assert (made[1:] - plain[1:]).abs().max() > 0.1


@pytest.mark.parametrize("frame", [0, 1, 3, 5])
def test_sound_of_a_video_frame_lies_in_its_own_mel_frames(frame):
    """An impulse excites mel frames 4k to 4k+3 alone; within 7.5 ms of the frame's edge, one neighbour too."""
    assert speech_features.MEL_PER_FRAME == 4
    own = set(range(4 * frame, 4 * frame + 4))
    seen = set()
    for offset in range(0, SAMPLES_PER_FRAME, 20):
        samples = torch.zeros(1, 6 * SAMPLES_PER_FRAME, dtype=torch.float64)
        samples[0, frame * SAMPLES_PER_FRAME + offset] = 1.0
        loud = (speech_features.log_mel(samples)[0] > SILENCE + 1e-6).any(-1)
        excited = set(loud.nonzero().flatten().tolist())
        assert excited & own
        if 120 <= offset <= SAMPLES_PER_FRAME - 120:
            assert excited <= own
        else:
            assert excited <= own | {4 * frame - 1, 4 * frame + 4}
        seen |= excited
    assert own <= seen


@pytest.mark.parametrize("padding", [1, 159, 640, 3000])
def test_padding_changes_none_of_a_clips_own_values(padding):
    samples = 0.3 * torch.randn(2, 4 * SAMPLES_PER_FRAME, dtype=torch.float64, generator=torch.manual_seed(1))
    own = speech_features.log_mel(samples)
    padded = speech_features.log_mel(torch.nn.functional.pad(samples, (0, padding)))
    torch.testing.assert_close(padded[:, : own.shape[1]], own, rtol=0, atol=1e-12)


def test_examples_of_a_batch_are_apart():
    samples = 0.3 * torch.randn(3, 2 * SAMPLES_PER_FRAME, dtype=torch.float64, generator=torch.manual_seed(2))
    together = speech_features.log_mel(samples)
    for index in range(3):
        torch.testing.assert_close(
            speech_features.log_mel(samples[index : index + 1])[0], together[index], rtol=0, atol=1e-12
        )


def test_silence_is_finite_and_flat():
    for dtype in (torch.float32, torch.float64):
        made = speech_features.log_mel(torch.zeros(1, 2 * SAMPLES_PER_FRAME, dtype=dtype))
        np.testing.assert_allclose(made.numpy(), SILENCE, rtol=1e-6)
    loudest = speech_features.log_mel(torch.ones(1, 640))
    assert loudest.isfinite().all()
    samples = torch.zeros(1, 640, dtype=torch.float64, requires_grad=True)
    speech_features.log_mel(samples).sum().backward()
    assert samples.grad.isfinite().all()


@pytest.mark.parametrize("samples", [160, 1000, 1599])
def test_mel_frames_are_whole_hops(samples):
    assert speech_features.log_mel(torch.zeros(1, samples)).shape == (1, samples // 160, speech_features.BANDS)


def test_mel_filters_are_triangles_that_add_up():
    """None is empty, each rises once and falls once, and between the outer centres they sum to 1."""
    filters = speech_features.mel_filters().numpy()
    assert filters.shape == (80, 257)
    assert filters.min() == 0
    assert filters.max() <= 1
    peaks = filters.argmax(1)
    assert (np.diff(peaks) >= 0).all()
    for row, peak in zip(filters, peaks):
        assert row.sum() > 0
        assert (np.diff(row[: peak + 1]) >= 0).all()
        assert (np.diff(row[peak:]) <= 0).all()
        inside = np.flatnonzero(row)
        assert (np.diff(inside) == 1).all()
    total = filters.sum(0)
    np.testing.assert_allclose(total[peaks[0] + 1 : peaks[-1]], 1.0, atol=1e-12)
    assert (filters > 0).sum(0).max() <= 2


@pytest.mark.parametrize("hz", [100, 440, 1000, 3000, 7000])
def test_a_tone_is_loudest_in_the_band_around_it(hz):
    """The band whose centre on the HTK scale is nearest, or the one beside it."""
    tone = 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(3200, dtype=torch.float64) / 16000)
    loudest = int(speech_features.log_mel(tone[None])[0, 10].argmax())
    expected = 2595 * np.log10(1 + hz / 700) / (2595 * np.log10(1 + 8000 / 700) / 81) - 1
    assert abs(loudest - expected) <= 1


def speech(seed: int, frames: int = 12) -> np.ndarray:
    """Noise that is loud in some frames and soft in others."""
    random = np.random.default_rng(seed)
    loudness_T = 10 ** random.uniform(-3, -0.6, frames)
    return np.repeat(loudness_T, SAMPLES_PER_FRAME) * random.standard_normal(frames * SAMPLES_PER_FRAME)


@pytest.mark.parametrize("gain_db", [-12.0, 6.0])
def test_levelled_speech_is_as_loud_however_it_was_recorded(gain_db):
    """The same samples; their level, measured here by a loop, is the one that is stated."""
    samples = np.stack([speech(1), 0.8 * speech(2)])
    own = speech_features.levelled(torch.from_numpy(samples))
    other = speech_features.levelled(torch.from_numpy(samples * 10 ** (gain_db / 20)))
    torch.testing.assert_close(other, own, rtol=1e-9, atol=0)
    for row in own.numpy():
        powers = [float(np.mean(part**2)) for part in np.split(row, 12)]
        loud = [power for power in powers if power >= max(powers) / 100]
        assert 10 * np.log10(np.mean(loud)) == pytest.approx(speech_features.LEVEL_DB, abs=1e-9)


@pytest.mark.parametrize(("level_db", "heard"), [(-20.0, True), (-59.0, True), (-61.0, False), (-80.0, False)])
def test_what_a_codec_makes_of_silence_is_not_audible(level_db, heard):
    """One frame at the level, the others silent; digital silence is not audible either."""
    samples = np.zeros(8 * SAMPLES_PER_FRAME)
    samples[640:1280] = 10 ** (level_db / 20) * np.sign(np.sin(np.arange(640)) + 1e-9)
    both = torch.from_numpy(np.stack([samples, 0 * samples]))
    assert speech_features.audible(both).tolist() == [heard, False]


def test_levelling_knows_no_padding_and_amplifies_no_silence():
    samples = torch.from_numpy(speech(3))[None]
    more = torch.nn.functional.pad(samples, (0, 5 * SAMPLES_PER_FRAME))
    torch.testing.assert_close(speech_features.levelled(more)[:, : samples.shape[1]], speech_features.levelled(samples))
    hiss = 1e-4 * samples
    gain = speech_features.levelled(hiss) / hiss
    largest = 10 ** ((speech_features.LEVEL_DB - speech_features.QUIETEST_DB) / 20)
    torch.testing.assert_close(gain, torch.full_like(gain, largest))
    assert not speech_features.levelled(torch.zeros(1, 4 * SAMPLES_PER_FRAME)).any()


def test_a_microphone_s_colour_is_not_heard_about_the_mean():
    """A gain a band, here added where the energies are, moves each band by one value: all of it is taken off again."""
    mel_BMC = speech_features.log_mel(torch.from_numpy(np.stack([speech(1), speech(2)])))
    mask_BT = torch.ones(2, mel_BMC.shape[1] // speech_features.MEL_PER_FRAME, dtype=mel_BMC.dtype)
    colour_C = 0.1 * torch.sin(torch.arange(80, dtype=mel_BMC.dtype))
    own = speech_features.about_mean(mel_BMC + 1.0, mask_BT)
    torch.testing.assert_close(speech_features.about_mean(mel_BMC + 1.0 + colour_C, mask_BT), own)
    for mel_MC, about_MC in zip((mel_BMC + 1.0).numpy(), own.numpy()):
        loud_M = mel_MC.mean(1)
        means_C = mel_MC[loud_M >= loud_M.max() - speech_features.SPOKEN].mean(0)
        np.testing.assert_allclose(about_MC, mel_MC - np.maximum(means_C, speech_features.LEAST_MEAN))


def test_the_mean_knows_no_padding_and_silence_stays_silent():
    samples = torch.from_numpy(speech(3))[None]
    more = torch.nn.functional.pad(samples, (0, 5 * SAMPLES_PER_FRAME))
    mel_BMC, longer_BMC = speech_features.log_mel(samples), speech_features.log_mel(more)
    mask_BT = torch.ones(1, samples.shape[1] // SAMPLES_PER_FRAME)
    longer = speech_features.about_mean(longer_BMC, torch.nn.functional.pad(mask_BT, (0, 5)))
    torch.testing.assert_close(longer[:, : mel_BMC.shape[1]], speech_features.about_mean(mel_BMC, mask_BT))
    silent = speech_features.about_mean(speech_features.log_mel(torch.zeros_like(samples)), mask_BT)
    assert silent.max() < -1
