"""Training examples of the motion model: slot number -> landmarks, speech, source landmarks, time and noise.

Shape suffixes: B batch, T frames of the window, U source frames, N 478 landmarks, K noised landmarks,
S audio samples, D speech features, n selected clips, 3 = (x, y, z) in crop px, 2 = (x, y) in the
head's frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_pipeline.examples import recording
from data_pipeline.examples.windows import SourcedWindows
from data_pipeline.sample.batches import Batch, Examples, padded, padded_audio, padded_landmarks
from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Example, SamplingConfig, WindowConfig, draw_voice
from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from mytalk.face.landmarks import NOISED
from mytalk.networks.diffusion import training_times

GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 are spread evenly over [0, 1), however many are taken in a row


@dataclass
class MotionBatch(Batch):
    """Padded examples of the motion model. Masks are 1 on valid frames, 0 on padding."""

    landmarks_BTN3: torch.Tensor  # float32, crop px; padding repeats the last frame
    mask_BT: torch.Tensor  # float32
    audio_BS: torch.Tensor  # float32 in [-1, 1], S = 640 T
    source_BUN3: torch.Tensor  # landmarks of the same person in other frames than the target's
    source_mask_BU: torch.Tensor
    voice_B: torch.Tensor  # factor of the voice's frequencies, 1 for none (augmentation)
    source_audio_BS: torch.Tensor  # the speech of the source, S = 640 U
    t_B: torch.Tensor  # diffusion time, uniform in [1e-5, 1]
    noise_BTK2: torch.Tensor  # standard normal
    dropout_B: torch.Tensor | None = None  # int64 keys of dropout's masks, where it is drawn
    speech_kept_B: torch.Tensor | None = None  # 0: the network is not shown the speech, 1: it is
    source_kept_B: torch.Tensor | None = None  # 0: nor the source
    features_BTD: torch.Tensor | None = None  # an added column's values of target and source, where one is named
    source_features_BUD: torch.Tensor | None = None


@dataclass(frozen=True)
class MotionDraws:
    """What is drawn for an example besides its windows and its noise. The defaults draw nothing."""

    voice_stretch: float = 0.0
    recorded: float = 0.0  # share of the examples whose sounds are recorded anew, see recording.py
    source_sound_dropout: float = 0.0  # shares of the examples whose source has no sound,
    source_dropout: float = 0.0  # that are shown no source,
    speech_dropout: float = 0.0  # and no speech
    dropout: bool = False  # whether there are keys of dropout's masks
    times: str = "uniform"  # of diffusion, see diffusion.training_times
    even_times: bool = False  # the times of slots that follow each other are spread evenly instead of drawn
    points: int = len(NOISED)  # that are noised


NOTHING_DRAWN = MotionDraws()


class MotionExamples(Examples[MotionBatch]):
    """Makes the motion model's batches: a window of a clip, and a source window of the same person.

    `features` names the member of an added column that is read as well, such as features of the speech.
    """

    windows: SourcedWindows

    def __init__(
        self,
        manifest: Manifest,
        sampling: SamplingConfig,
        window: WindowConfig,
        draws: MotionDraws = NOTHING_DRAWN,
        features: str = "",
    ):
        super().__init__(SourcedWindows(manifest, sampling, window, features))
        self.draws = draws

    def collate(self, slots: list[int], examples: list[Example], read: list[Any]) -> MotionBatch:
        count = len(self.windows.members)
        members = list(zip(*read))
        (landmarks, speech, *features), (source, source_speech, *source_features) = members[:count], members[count:]
        longest, longest_source = (max(len(points) for points in windows) for windows in (landmarks, source))
        landmarks_BTN3, mask_BT = padded_landmarks(landmarks, longest)
        source_BUN3, source_mask_BU = padded_landmarks(source, longest_source)
        t_B, noise_BTK2 = self._time_and_noise(slots, [len(points) for points in landmarks], longest)
        voices = [draw_voice(self.windows.random(slot, Purpose.VOICE), self.draws.voice_stretch) for slot in slots]
        audio_BS, source_audio_BS = padded_audio(speech, longest), padded_audio(source_speech, longest_source)
        sounds = [[len(samples) for samples in windows] for windows in (speech, source_speech)]
        speech_kept_B, source_kept_B = self._record(slots, audio_BS, source_audio_BS, sounds)
        draws = self.draws
        return MotionBatch(
            **self.batch_fields(slots, examples),
            landmarks_BTN3=landmarks_BTN3,
            mask_BT=mask_BT,
            audio_BS=audio_BS,
            source_BUN3=source_BUN3,
            source_mask_BU=source_mask_BU,
            source_audio_BS=source_audio_BS,
            voice_B=torch.tensor(voices),
            t_B=t_B,
            noise_BTK2=noise_BTK2,
            dropout_B=self._keys(slots) if draws.dropout else None,
            speech_kept_B=speech_kept_B if draws.speech_dropout else None,
            source_kept_B=source_kept_B if draws.source_dropout else None,
            features_BTD=padded(features[0], longest) if features else None,
            source_features_BUD=padded(source_features[0], longest_source) if source_features else None,
        )

    def _time_and_noise(self, slots: list[int], lengths: list[int], longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Diffusion time (B,) and noise (B, T, K, 2) of the slots; the noise of padding is 0."""
        t_B = torch.empty(len(slots))
        noise_BTK2 = torch.zeros(len(slots), longest, self.draws.points, 2)
        first = self.windows.random(0, Purpose.TIMES).random()
        for i, (slot, length) in enumerate(zip(slots, lengths)):
            random = self.windows.random(slot, Purpose.NOISE)
            u = random.random()
            if self.draws.even_times:
                u = (first + slot * GOLDEN) % 1.0
            t_B[i] = training_times(torch.tensor(u, dtype=torch.float64), self.draws.times)
            random.standard_normal(dtype=np.float32, out=noise_BTK2[i, :length].numpy())
        return t_B, noise_BTK2

    def _record(
        self, slots: list[int], audio_BS: torch.Tensor, source_audio_BS: torch.Tensor, samples: list[list[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Record the sounds anew, in place, where that is drawn; which examples keep speech and source, (B,) each.

        Every slot draws the same numbers whatever the shares, so that a share changes no other choice.
        """
        draws, kept_2B = self.draws, torch.ones(2, len(slots))
        for i, slot in enumerate(slots):
            random = self.windows.random(slot, Purpose.RECORDING)
            anew, no_sound, no_source, no_speech = random.random(4) < (
                draws.recorded,
                draws.source_sound_dropout,
                draws.source_dropout,
                draws.speech_dropout,
            )
            voices = self.voices_behind(slot) if anew else []
            for sound_BS, count in ((audio_BS, samples[0][i]), (source_audio_BS, samples[1][i])):
                if anew:
                    sound_S = sound_BS[i, :count].numpy()
                    behind = [np.resize(voice_S, count) for voice_S in voices]
                    sound_BS[i, :count] = torch.from_numpy(recording.recorded(sound_S, random, behind))
            if no_sound:
                source_audio_BS[i] = 0.0
            kept_2B[0, i], kept_2B[1, i] = float(not no_speech), float(not no_source)
        return kept_2B[0], kept_2B[1]

    def voices_behind(self, slot: int) -> list[np.ndarray]:
        """The speech of a few other clips, drawn from the slot; none of a damaged one, or of the slot's person."""
        random = self.windows.random(slot, Purpose.VOICES)
        voices: list[np.ndarray] = []
        rows_n, own = self.selection.rows_n, self.windows.row(slot)
        for row in rows_n[random.integers(len(rows_n), size=random.integers(1, recording.MOST_VOICES + 1))]:
            if self.windows.person_of[row] != self.windows.person_of[own]:
                try:
                    voices.append(reader.read_audio(self.manifest, *self.windows.whole(int(row))))
                except ClipError:
                    continue  # found and counted where it is a target
        return [voice_S for voice_S in voices if len(voice_S)]

    def _keys(self, slots: list[int]) -> torch.Tensor:
        """The keys of the slots' dropout: (B,) int64."""
        return torch.tensor([int(self.windows.random(slot, Purpose.DROPOUT).integers(2**63)) for slot in slots])
