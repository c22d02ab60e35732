"""The annotation `people`: who is the same person, over files and corpora, by a face recogniser that we did not train.

Each clip keeps the mean embedding of a few frames. Clips of one track of one source are one face; faces are clustered
by centroid linkage: two clusters whose means are nearest to each other are joined, as long as they are nearer than a
threshold. Single links would chain look-alikes into one giant person; a mean does not move that easily.

Shape suffixes: T frames, K looks, E embedding (128), F faces, C clusters, n clips.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import weights
from data_pipeline.annotate import recogniser
from data_pipeline.annotate.annotation import Joined, Measure, Options
from data_pipeline.annotate.clusters import centroid_linkage
from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.layout import PERSON
from data_pipeline.shards.manifest import Manifest
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ

COLUMNS = {PERSON: pa.string(), "person_distance": pa.float32()}
KEPT = {"embedding": pa.list_(pa.float32(), recogniser.EMBEDDING), "embedding_spread": pa.float32()}
LOOKS = 5  # frames of a clip, evenly
SAME = 0.35  # L2 between means: of one person up to 0.25, of two from 0.41 on (docs/log.md)
MOST_LINES = 10


def made_by(options: Options) -> dict[str, Any]:
    """The recogniser with its digests, and the threshold. Raises UserError where it is not installed."""
    same = SAME if options.same_person is None else options.same_person
    return {"recogniser": {name: digest for name, (_, digest) in weight_files().items()}, "looks": LOOKS, "same": same}


def weight_files() -> dict[str, Any]:
    """Path and digest of the recogniser's files by name. Raises UserError where one, or its package, is missing."""
    registry, files = weights.registered(), {}
    for name in recogniser.WEIGHTS:
        place = weights.located(registry[name])
        if place is None or any(importlib.util.find_spec(package) is None for package in recogniser.PACKAGES):
            raise UserError(f"people are told by {name}, which is not there; type: {registry[name].install}")
        files[name] = place
    return files


def measure(options: Options) -> Measure:
    """The mean embedding of a clip's looks, and how far the farthest look is from it. Missing without pictures."""
    judge = recogniser.FaceRecogniser({name: path for name, (path, _) in weight_files().items()})

    def of_clip(manifest: Manifest, row: int) -> dict[str, Any]:
        if not manifest.at(row, "video_size"):
            return {}
        frames = int(manifest.at(row, "frames"))
        looks_K = np.unique(((np.arange(LOOKS) + 0.5) * frames / LOOKS).astype(int))
        landmarks_KN3 = reader.read_landmarks(manifest, row)[looks_K]
        embedding_KE = judge.embed(video_reader.read_video(manifest, row, looks_K.tolist()), landmarks_KN3)
        mean_E = embedding_KE.mean(axis=0)
        spread = np.linalg.norm(embedding_KE - mean_E, axis=1).max()
        return {"embedding": mean_E.astype(np.float32), "embedding_spread": float(spread)}

    return of_clip


def join(manifest: Manifest, parts: pa.Table, made_by: dict[str, Any]) -> Joined:
    """The person of every clip with pictures, named by its first clip, and the distance to that person's mean."""
    seen_n = parts["embedding"].is_valid().to_numpy()
    if not seen_n.any():
        return Joined({PERSON: pa.nulls(len(parts), pa.string())}, ["people   no clip has pictures"])
    chunks = parts["embedding"].drop_null().combine_chunks()
    embedding_nE = np.asarray(chunks.flatten(), np.float32).reshape(-1, recogniser.EMBEDDING)
    face_n = _faces(manifest)[seen_n]
    face_n = np.unique(face_n, return_inverse=True)[1]
    clips_F = np.bincount(face_n)
    mean_FE = np.zeros((len(clips_F), embedding_nE.shape[1]), np.float32)
    np.add.at(mean_FE, face_n, embedding_nE)
    mean_FE /= clips_F[:, None]
    cluster_F = centroid_linkage(mean_FE, clips_F, made_by["same"])
    cluster_n = cluster_F[face_n]
    first_C = np.full(cluster_F.max() + 1, len(parts))
    row_n = np.flatnonzero(seen_n)
    np.minimum.at(first_C, cluster_n, row_n)
    keys = parts["key"].take(pa.array(first_C)).to_pylist()
    names = np.full(len(parts), None, object)
    names[row_n] = np.array([f"face:{key}" for key in keys], object)[cluster_n]
    distance = np.full(len(parts), np.nan, np.float32)
    distance[row_n] = _distances(embedding_nE, cluster_n)
    columns = {PERSON: pa.array(names, pa.string()), "person_distance": pa.array(distance, from_pandas=True)}
    return Joined(columns, _lines(manifest, row_n, cluster_n, distance[row_n]))


def _faces(manifest: Manifest) -> np.ndarray:
    """A number for each clip, equal for those of one track of one source: (n,)."""
    pieces = [manifest.codes(name)[0] for name in ("corpus", "source") if manifest.has(name)]
    if manifest.has("track"):
        track_n = manifest.column("track").astype(np.float64)
        pieces.append(np.where(np.isfinite(track_n), track_n, -1).astype(np.int64))
    return np.unique(np.stack(pieces, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def _distances(embedding_nE: np.ndarray, cluster_n: np.ndarray) -> np.ndarray:
    mean_CE = np.zeros((cluster_n.max() + 1, embedding_nE.shape[1]), np.float32)
    np.add.at(mean_CE, cluster_n, embedding_nE)
    mean_CE /= np.bincount(cluster_n)[:, None]
    return np.linalg.norm(embedding_nE - mean_CE[cluster_n], axis=1)


def _lines(manifest: Manifest, row_n: np.ndarray, cluster_n: np.ndarray, distance_n: np.ndarray) -> list[str]:
    """How many people, the largest, and where faces and labels disagree."""
    codes, labels = manifest.codes("identity")
    label_n, frames_n = codes[row_n], manifest.column("frames")[row_n]
    largest = int(np.bincount(cluster_n, frames_n).argmax())
    of_n = cluster_n == largest
    pairs = {*zip(cluster_n.tolist(), label_n.tolist())}
    per_cluster, per_label = Counter(c for c, _ in pairs), Counter(label for _, label in pairs)
    hours = frames_n[of_n].sum() / FRAME_HZ / 3600
    lines = [
        f"people   {len(per_cluster)} by their faces, {len(per_label)} by label; the largest has "
        f"{int(of_n.sum())} clips ({100 * of_n.mean():.1f} %, {hours:.3g} h) of {per_cluster[largest]} labels, "
        f"at most {distance_n[of_n].max():.2f} from its mean"
    ]
    several = [cluster for cluster, count in per_cluster.items() if count > 1]
    for cluster in sorted(several)[:MOST_LINES]:
        names = sorted(labels[label] for c, label in pairs if c == cluster)
        lines.append(f"people   one face, {len(names)} labels: {', '.join(names[:MOST_LINES])}")
    split = [labels[label] for label, count in per_label.items() if count > 1]
    if split:
        lines.append(f"people   {len(split)} labels have several faces: {', '.join(sorted(split)[:MOST_LINES])}")
    return lines
