"""The detector `mediapipe`: MediaPipe's face detection and its face mesh. Its hand model: mediapipe_hands.py.

MediaPipe (extra `landmarks`) is imported when a detector is created, so that training runs without it. All of its
models are inside the package.
Shape suffixes: H height, W width, N landmarks (478), 3 = (x, y, z) in px, or RGB.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mytalk.face.detector import MARGIN, Region, distinct
from mytalk.face.landmarks import COUNT

NAME = "mediapipe face detection, short and full range, and face mesh, 478 points with irises"
LEAST_SCORE = 0.5  # of a detection
SHORT_RANGE, FULL_RANGE = 0, 1  # MediaPipe's numbers of its models: faces within 2 m and within 5 m
# The mesh on a region that we choose, without MediaPipe's own tracking.
MESH_GRAPH = """
input_stream: "image"
input_stream: "region"
input_side_packet: "with_attention"
output_stream: "landmarks"
num_threads: 1
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""


def version() -> str:
    """Version of the installed MediaPipe, without importing it. Raises ModuleNotFoundError without it."""
    import importlib.metadata

    try:
        return importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe") from None


class FaceDetector:
    """Finds faces in single pictures, and the landmarks of each."""

    def __init__(self) -> None:
        black_HW3 = np.zeros((64, 64, 3), np.uint8)
        with quiet():  # until the threads of the graphs, which log, have started
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._finders: list[Any] = [
                FaceDetection(LEAST_SCORE, model_selection=model) for model in (SHORT_RANGE, FULL_RANGE)
            ]
            self._mesh = _Mesh()
            self.find(black_HW3)
            self._mesh.run(black_HW3, Region(32, 32, 64, 0))
        self._seen_face = False

    def find(self, frame_HW3: np.ndarray) -> list[Region]:
        """Where faces may be in an RGB uint8 frame, best first: those that one of the two models scores LEAST_SCORE."""
        frame_HW3 = np.ascontiguousarray(frame_HW3)
        height, width = frame_HW3.shape[:2]
        found = [finder.process(frame_HW3).detections or [] for finder in self._finders]
        return distinct([_region(detection, width, height) for detections in found for detection in detections])

    def landmarks(self, frame_HW3: np.ndarray, region: Region) -> np.ndarray | None:
        """Landmarks (478, 3) float32 px of the face in a region of an RGB uint8 frame, or None without a face.

        Pixels are areas: x runs from 0 at the frame's left edge to W at its right edge. z is away from the camera and
        relative to the head; MediaPipe states it in units of the picture's width, in portrait too. The lips' x and y
        are refined by a part of the network of their own, their z is the whole mesh's; the five points of an iris share
        one z.
        """
        # Its parts log as they first run, the last of them at the first face.
        with contextlib.nullcontext() if self._seen_face else quiet():
            points_N3 = self._mesh.run(np.ascontiguousarray(frame_HW3), region)
        self._seen_face = self._seen_face or points_N3 is not None
        return points_N3


class _Mesh:
    """MediaPipe's graph of the face mesh on one region of a picture."""

    def __init__(self) -> None:
        import mediapipe
        from google.protobuf import text_format
        from mediapipe.framework import calculator_pb2
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings import calculator_graph, resource_util

        resource_util.set_resource_dir(str(Path(mediapipe.__file__).parents[1]))
        config = text_format.Parse(MESH_GRAPH, calculator_pb2.CalculatorGraphConfig())
        self._graph: Any = calculator_graph.CalculatorGraph(graph_config=config)
        self._answers: list[Any] = []
        self._time = 0
        self._graph.observe_output_stream(
            "landmarks",
            lambda _, packet: self._answers.append(None if packet.is_empty() else packet_getter.get_proto(packet)),
            True,
        )
        self._graph.start_run({"with_attention": packet_creator.create_bool(True)})

    def run(self, frame_HW3: np.ndarray, region: Region) -> np.ndarray | None:
        """Landmarks (478, 3) float32 px, or None where the mesh says that there is no face."""
        from mediapipe.framework.formats import rect_pb2
        from mediapipe.python import packet_creator
        from mediapipe.python._framework_bindings import image_frame

        height, width = frame_HW3.shape[:2]
        rect = rect_pb2.NormalizedRect(
            x_center=region.x / width,
            y_center=region.y / height,
            width=region.side / width,
            height=region.side / height,
            rotation=region.turn,
        )
        picture = packet_creator.create_image_frame(image_format=image_frame.ImageFormat.SRGB, data=frame_HW3)
        self._time += 1
        self._answers.clear()
        self._graph.add_packet_to_input_stream("image", picture.at(self._time))
        self._graph.add_packet_to_input_stream("region", packet_creator.create_proto(rect).at(self._time))
        self._graph.wait_until_idle()
        if not self._answers or self._answers[0] is None:
            return None
        points = np.array([(p.x, p.y, p.z) for p in self._answers[0].landmark], np.float32)
        assert points.shape == (COUNT, 3)
        return points * np.array([width, height, width], np.float32)


def _region(detection: Any, width: int, height: int) -> Region:
    """The region of one of MediaPipe's detections, as its own mesh takes it."""
    box, eyes = detection.location_data.relative_bounding_box, detection.location_data.relative_keypoints[:2]
    left, right = eyes
    return Region(
        x=(box.xmin + box.width / 2) * width,
        y=(box.ymin + box.height / 2) * height,
        side=MARGIN * max(box.width * width, box.height * height),
        turn=math.atan2((right.y - left.y) * height, (right.x - left.x) * width),
        score=detection.score[0],
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: MediaPipe's C++ logs before its log levels can be set."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
