"""The annotation `duplicates`: clips of one recording, whatever was re-encoded, scaled, mirrored or trimmed.

Candidates are clips of different sources that share codes of sound, or, where one has none, a band of the picture's
hash (candidates.py); each pair is then compared. Two clips with sound are copies where their sounds are alike at one
shift in time and the pictures are of one face; where one has no sound, lips and eyes must move alike. Clips of one
source do not overlap, so they are none.

Shape suffixes: n clips, P hashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.annotate import candidates, fingerprints
from data_pipeline.annotate.annotation import Joined, Measure, Options, stored_audio
from data_pipeline.annotate.clusters import joined
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.layout import COPIES, HAS_AUDIO
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import FRAME_HZ

HASH_BYTES, BAND_BYTES = 32, 4  # of a picture's hash, and of what candidates share of it
COLUMNS = {COPIES: pa.string()}
KEPT = {
    "sound_hash": pa.list_(pa.uint32()),
    "sound_time": pa.list_(pa.uint16()),
    "picture_hash": pa.binary(HASH_BYTES),
    "mirrored_hash": pa.binary(HASH_BYTES),
    "movement": pa.list_(pa.float16()),
}
LOOK_EVERY = 5  # frames of the mean picture
SHARED, SHARED_SHARE = 8, 0.1  # hashes at one shift in time, and their share, from which on two sounds are one
ONE_FACE = 0.35  # share of the bits of a picture's hash in which copies with like sound may differ
ONE_PICTURE, MOVES_ALIKE = 0.2, 0.7  # and those without; least correlation of their movement
LEAST_FRAMES = FRAME_HZ  # of two movements that are compared, and half of the shorter clip
CANDIDATE = 2  # moments at which two sounds share a code, at one shift


def made_by(options: Options) -> dict[str, Any]:
    """The rules; no network is part of it."""
    rules = {"shared": SHARED, "shared_share": SHARED_SHARE, "one_face": ONE_FACE, "one_picture": ONE_PICTURE}
    return {"moves_alike": MOVES_ALIKE, "look_every": LOOK_EVERY, "version": 2, **rules}


def measure(options: Options) -> Measure:
    """The fingerprints of a clip; those of pictures are missing where there are none."""

    def of_clip(manifest: Manifest, row: int) -> dict[str, Any]:
        movement_T3 = fingerprints.movement(reader.read_landmarks(manifest, row))
        values: dict[str, Any] = {"movement": movement_T3.astype(np.float16).reshape(-1)}
        if not (
            manifest.has(HAS_AUDIO) and manifest.at(row, HAS_AUDIO) is not None and not manifest.at(row, HAS_AUDIO)
        ):
            values["sound_hash"], values["sound_time"] = fingerprints.sound(stored_audio(manifest, row))
        if manifest.at(row, "video_size"):
            looks = range(0, int(manifest.at(row, "frames")), LOOK_EVERY)
            mean_HW3 = video_reader.read_video(manifest, row, looks).mean(axis=0)
            values["picture_hash"], values["mirrored_hash"] = fingerprints.picture(mean_HW3)
        return values

    return of_clip


def join(manifest: Manifest, parts: pa.Table, made_by: dict[str, Any]) -> Joined:
    """The group of each clip that has copies, named by its first clip."""
    prints = _Prints(manifest, parts)
    pairs = [(one, other) for one, other in prints.candidate_pairs().tolist() if prints.copies(one, other)]
    group_n = joined(len(parts), pairs)
    sizes = Counter(group_n.tolist())
    keys = parts["key"].to_pylist()
    names = [f"copy:{keys[group]}" if sizes[group] > 1 else None for group in group_n.tolist()]
    return Joined({COPIES: pa.array(names, pa.string())}, list(prints.lines(pairs, sizes)))


class _Prints:
    """The fingerprints of all clips: of sound 6 bytes a hash, of movement 6 a frame."""

    def __init__(self, manifest: Manifest, parts: pa.Table):
        self.manifest = manifest
        lists = {name: parts[name].combine_chunks() for name in ("sound_hash", "sound_time", "movement")}
        self.values = {name: values.flatten().to_numpy() for name, values in lists.items()}
        lengths = {name: values.value_lengths().fill_null(0).to_numpy() for name, values in lists.items()}
        self.starts = {name: np.concatenate([[0], np.cumsum(length)]) for name, length in lengths.items()}
        self.sounds_n = lengths["sound_hash"] > 0
        self.pictures, self.mirrored = (parts[name].to_pylist() for name in ("picture_hash", "mirrored_hash"))
        corpus_n = manifest.codes("corpus")[0] if manifest.has("corpus") else np.zeros(len(parts), np.int32)
        self.source_n = np.unique(np.stack([corpus_n, manifest.codes("source")[0]]), axis=1, return_inverse=True)[
            1
        ].reshape(-1)

    def of(self, name: str, clip: int) -> np.ndarray:
        return self.values[name][self.starts[name][clip] : self.starts[name][clip + 1]]

    def candidate_pairs(self) -> np.ndarray:
        """Pairs of clips of different sources that may be copies, (K, 2), in order."""
        hash_P, time_P = (self.values[name] for name in ("sound_hash", "sound_time"))
        by_sound = candidates.by_sound(hash_P, time_P, self.starts["sound_hash"], self.source_n, CANDIDATE)
        by_picture = candidates.sharing(self._bands(), self.source_n, 1)
        silent_K = ~self.sounds_n[by_picture].all(axis=1)
        return np.unique(np.concatenate([by_sound, by_picture[silent_K]]), axis=0)

    def _bands(self) -> Iterator[candidates.Codes]:
        """The bands of the hashes of all pictures and their mirror images, of no time."""
        there = np.array([clip for clip, of_clip in enumerate(self.pictures) if of_clip is not None], np.int64)
        joined_bytes = b"".join(hashes[clip] for hashes in (self.pictures, self.mirrored) for clip in there)
        bands_Cb = np.frombuffer(joined_bytes, f">u{BAND_BYTES}").reshape(-1, HASH_BYTES // BAND_BYTES)
        for code_C in bands_Cb.T.astype(np.int64):
            yield code_C, np.tile(there, 2), np.zeros(2 * len(there), np.int64)

    def copies(self, one: int, other: int) -> bool:
        """Whether two clips are of one recording."""
        ours, theirs, mirrored = self.pictures[one], self.pictures[other], self.mirrored[other]
        unlike = 0.0 if ours is None or theirs is None else fingerprints.unlike(ours, theirs, mirrored)
        if self.sounds_n[one] and self.sounds_n[other]:
            given = (self.of(name, clip) for clip in (one, other) for name in ("sound_hash", "sound_time"))
            count, share = fingerprints.alike_sound(*given)
            return count >= SHARED and share >= SHARED_SHARE and unlike <= ONE_FACE
        if ours is None or theirs is None or unlike > ONE_PICTURE:
            return False
        first_T3, second_T3 = (self.of("movement", clip).astype(np.float32).reshape(-1, 3) for clip in (one, other))
        least = max(LEAST_FRAMES, min(len(first_T3), len(second_T3)) // 2)
        return fingerprints.alike_movement(first_T3, second_T3, least) >= MOVES_ALIKE

    def lines(self, pairs: list[tuple[int, int]], sizes: Counter[int]) -> Iterator[str]:
        """How many clips have copies, within and across corpora."""
        groups = [size for size in sizes.values() if size > 1]
        corpus_n = self.manifest.codes("corpus")[0] if self.manifest.has("corpus") else np.zeros(len(self.source_n))
        across = sum(corpus_n[one] != corpus_n[other] for one, other in pairs)
        largest = f"; the largest group has {max(groups)}" if groups else ""
        yield f"copies   {sum(groups)} clips in {len(groups)} groups, {across} pairs across corpora{largest}"
