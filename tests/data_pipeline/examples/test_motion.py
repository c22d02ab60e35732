"""What is drawn for an example of motion: recordings, silent sources, times; a function of its slot alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.examples.motion import MotionDraws, MotionExamples
from data_pipeline.sample.windows import SamplingConfig, WindowConfig
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks import diffusion

DRAWS = MotionDraws(0.1, 0.5, 0.3, 0.2, 0.2, True, "log_snr", True)


@pytest.fixture(scope="module")
def make(talker_shards):
    made = Manifest.load(talker_shards)

    def examples(draws: MotionDraws) -> MotionExamples:
        return MotionExamples(made, SamplingConfig(seed=1), WindowConfig(12, 24, 10), draws)

    return examples


def test_a_slot_draws_the_same_in_any_batch(make):
    examples = make(DRAWS)
    whole = examples(list(range(16)))
    for slots in ([3], [15, 2, 8]):
        part = examples(slots)
        for name in ("t_B", "dropout_B", "speech_kept_B", "source_kept_B", "voice_B"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[slots]), name
        for name in ("audio_BS", "source_audio_BS"):
            ours, theirs = getattr(part, name), getattr(whole, name)[slots]
            shared = min(ours.shape[1], theirs.shape[1])
            assert torch.equal(ours[:, :shared], theirs[:, :shared]), name
            assert not ours[:, shared:].any()
            assert not theirs[:, shared:].any()
    assert len(set(whole.dropout_B.tolist())) == 16


def test_shares_are_drawn_and_padding_stays_silent(make):
    """Over 300 slots, within four standard deviations; nothing else of an example changes."""
    plain, drawn = make(MotionDraws())(list(range(300))), make(DRAWS)(list(range(300)))
    for name in ("landmarks_BTN3", "source_BUN3", "noise_BTK2", "starts_B"):
        assert torch.equal(getattr(plain, name), getattr(drawn, name)), name
    assert plain.keys_B == drawn.keys_B
    assert plain.speech_kept_B is plain.source_kept_B is plain.dropout_B is None

    def near(share: float, expected: float) -> bool:
        return abs(share - expected) < 4 * (expected * (1 - expected) / 300) ** 0.5

    anew = (plain.audio_BS != drawn.audio_BS).any(1)
    assert near(anew.double().mean().item(), 0.5)
    assert near((drawn.source_audio_BS == 0).all(1).double().mean().item(), 0.3)
    assert near(1 - drawn.source_kept_B.mean().item(), 0.2)
    assert near(1 - drawn.speech_kept_B.mean().item(), 0.2)
    silent = drawn.audio_BS.unflatten(1, (-1, SAMPLES_PER_FRAME))[drawn.mask_BT == 0]
    assert not silent.any()


def test_each_share_is_a_switch_of_its_own(make):
    """One share changes no other choice."""
    both = make(DRAWS)(list(range(60)))
    alone = make(replace(DRAWS, recorded=0.0, source_dropout=0.0))(list(range(60)))
    assert torch.equal((both.source_audio_BS == 0).all(1), (alone.source_audio_BS == 0).all(1))
    assert torch.equal(both.speech_kept_B, alone.speech_kept_B)
    assert torch.equal(both.t_B, alone.t_B)


@pytest.mark.parametrize("first", [0, 32, 1000])
def test_times_of_slots_in_a_row_are_spread_evenly(make, first):
    """32 of them leave no sixteenth of the range empty, and their discrepancy is far below that of drawn ones."""
    examples = make(MotionDraws(even_times=True))
    t_B = examples(list(range(first, first + 32))).t_B.double().numpy()
    u = np.sort((t_B - diffusion.T_MIN) / (1 - diffusion.T_MIN))
    assert set((u * 16).astype(int)) == set(range(16))
    discrepancy = max(np.abs(u - np.arange(32) / 32).max(), np.abs(u - np.arange(1, 33) / 32).max())
    assert discrepancy < 0.09  # of 32 drawn ones 0.15 on average


def test_voices_behind_the_speech_are_other_peoples(make):
    """Whole clips of people other than the slot's, the same for whoever makes the batch."""
    examples, windows = make(DRAWS), make(DRAWS).windows
    person_of = {}
    for row in windows.selection.rows_n.tolist():
        sound_S = reader.read_audio(windows.manifest, *windows.whole(row))
        person_of[sound_S.tobytes()] = windows.person_of[row]
    counts = set()
    for slot in range(20):
        voices = examples.voices_behind(slot)
        counts.add(len(voices))
        assert all(person_of[voice_S.tobytes()] != windows.person_of[windows.row(slot)] for voice_S in voices)
        again = make(DRAWS).voices_behind(slot)
        assert [one.tobytes() for one in again] == [one.tobytes() for one in voices]
    assert max(counts) > 1
