"""Sharpness falls with blur; a codec that saves bits leaves more as it was."""

from __future__ import annotations

import shutil

import cv2
import numpy as np

from benchmarks.talkers import base_face, clip, outlined, pictures
from data_pipeline.annotate import command, quality
from data_pipeline.annotate.annotation import Options
from data_pipeline.shards.manifest import Manifest
from data_pipeline.tasks.runner import Runner
from mytalk import media


def test_quality_tells_blur_and_compression():
    random = np.random.default_rng(0)
    landmarks_TN3, _ = clip(random, outlined(base_face(random)), 14.0, 10)
    sharp_THW3 = pictures(landmarks_TN3, random, noise_levels=6.0)
    blurred_HW3 = cv2.GaussianBlur(sharp_THW3[0], (0, 0), 4)
    assert quality.sharpness(blurred_HW3, landmarks_TN3[0]) < 0.7 * quality.sharpness(sharp_THW3[0], landmarks_TN3[0])
    shares = [quality.unchanged(sharp_THW3)]
    for crf in ("20", "40"):
        encoded = media.encode_frames(sharp_THW3, codec={"crf": crf})
        shares.append(quality.unchanged(np.stack(list(media.decode_frames(encoded, list(range(10)))))))
    assert shares[0] < 0.01
    assert shares == sorted(shares)
    assert shares[2] > shares[1] + 0.1


def test_the_columns_are_there_and_missing_without_pictures(filmed_shards, talker_shards, tmp_path):
    for number, (shards, known) in enumerate(((filmed_shards, True), (talker_shards, False))):
        folder = shutil.copytree(shards, tmp_path / str(number))
        command.annotate(folder, "quality", Options(), Runner(0))
        values = Manifest.load(folder).column("sharpness_px")
        assert (np.isfinite(values) == known).all()
