"""The annotation `duplicates`: clips of one recording, whatever was re-encoded, scaled, mirrored or trimmed.

Candidates are clips of different sources that share rare hashes of sound, or a band of the picture's hash; each pair is
then compared. Two clips with sound are copies where their sounds are alike at one shift in time and the pictures are of
one face; where one has no sound, lips and eyes must move alike. Clips of one source do not overlap, so they are none.

Shape suffixes: n clips, P hashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.annotate import fingerprints
from data_pipeline.annotate.annotation import Joined, Measure, Options, stored_audio
from data_pipeline.annotate.clusters import joined
from data_pipeline.shards import reader
from data_pipeline.shards.layout import HAS_AUDIO
from data_pipeline.shards.manifest import Manifest
from mytalk.face.landmarks import FRAME_HZ

COPIES = "copy_group"
COLUMNS = {COPIES: pa.string()}
KEPT = {
    "sound_hash": pa.list_(pa.uint32()),
    "sound_time": pa.list_(pa.uint16()),
    "picture_hash": pa.binary(32),
    "mirrored_hash": pa.binary(32),
    "movement": pa.list_(pa.float16()),
}
LOOK_EVERY = 5  # frames of the mean picture
SHARED, SHARED_SHARE = 8, 0.1  # hashes at one shift in time, and their share, from which on two sounds are one
ONE_FACE = 0.35  # share of the bits of a picture's hash in which copies with like sound may differ
ONE_PICTURE, MOVES_ALIKE = 0.2, 0.7  # and those without; least correlation of their movement
LEAST_FRAMES = FRAME_HZ  # of two movements that are compared, and half of the shorter clip
CANDIDATE = 3  # shared hashes of sound
NEIGHBOURS = 4  # clips with one hash that are paired with each: a chain is enough for many copies of one
BAND_BYTES = 4


def made_by(options: Options) -> dict[str, Any]:
    """The rules; no network is part of it."""
    rules = {"shared": SHARED, "shared_share": SHARED_SHARE, "one_face": ONE_FACE, "one_picture": ONE_PICTURE}
    return {"moves_alike": MOVES_ALIKE, "look_every": LOOK_EVERY, "version": 1, **rules}


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
            mean_HW3 = reader.read_video(manifest, row, looks).mean(axis=0)
            values["picture_hash"], values["mirrored_hash"] = fingerprints.picture(mean_HW3)
        return values

    return of_clip


def join(manifest: Manifest, parts: pa.Table, made_by: dict[str, Any]) -> Joined:
    """The group of each clip that has copies, named by its first clip."""
    prints = _Prints(manifest, parts)
    pairs = [pair for pair in sorted(prints.candidates()) if prints.copies(*pair)]
    group_n = joined(len(parts), pairs)
    sizes = Counter(group_n.tolist())
    keys = parts["key"].to_pylist()
    names = [f"copy:{keys[group]}" if sizes[group] > 1 else None for group in group_n.tolist()]
    return Joined({COPIES: pa.array(names, pa.string())}, list(prints.lines(pairs, sizes)))


class _Prints:
    """The fingerprints of all clips, some 2 kB each."""

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

    def candidates(self) -> set[tuple[int, int]]:
        """Pairs of clips of different sources that may be copies."""
        clip_P = np.repeat(np.arange(len(self.source_n)), np.diff(self.starts["sound_hash"]))
        found = {
            pair
            for pair, count in Counter(self._together(self.values["sound_hash"], clip_P)).items()
            if count >= CANDIDATE
        }
        there = [clip for clip, held in enumerate(self.pictures) if held is not None]
        for band in range(0, 32, BAND_BYTES):
            pieces = [
                (held[clip][band : band + BAND_BYTES], clip)
                for held in (self.pictures, self.mirrored)
                for clip in there
            ]
            codes = np.array([int.from_bytes(piece, "big") for piece, _ in pieces], np.uint32)
            clips = np.array([clip for _, clip in pieces], np.int64)
            pairs = self._together(codes, clips)
            found |= {pair for pair in pairs if not (self.sounds_n[pair[0]] and self.sounds_n[pair[1]])}
        return found

    def _together(self, code_P: np.ndarray, clip_P: np.ndarray) -> Iterator[tuple[int, int]]:
        """Pairs of clips of different sources that have a code in common, as often as they have."""
        order = np.lexsort((clip_P, code_P))
        code_P, clip_P = code_P[order], clip_P[order]
        for apart in range(1, NEIGHBOURS + 1):
            one_P, other_P = clip_P[:-apart], clip_P[apart:]
            same_P = (code_P[:-apart] == code_P[apart:]) & (self.source_n[one_P] != self.source_n[other_P])
            yield from zip(one_P[same_P].tolist(), other_P[same_P].tolist())

    def copies(self, one: int, other: int) -> bool:
        """Whether two clips are of one recording."""
        held, its, mirrored = self.pictures[one], self.pictures[other], self.mirrored[other]
        unlike = 0.0 if held is None or its is None else fingerprints.unlike(held, its, mirrored)
        if self.sounds_n[one] and self.sounds_n[other]:
            given = (self.of(name, clip) for clip in (one, other) for name in ("sound_hash", "sound_time"))
            count, share = fingerprints.alike_sound(*given)
            return count >= SHARED and share >= SHARED_SHARE and unlike <= ONE_FACE
        if held is None or its is None or unlike > ONE_PICTURE:
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
