"""A network in ONNX that the user brings, on one thread of the processor; what it takes and gives is checked first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mytalk.command import UserError


class OnnxNetwork:
    """Takes float32 of one shape, (batch, ...), and gives (batch, features), or (batch, frames, features)."""

    def __init__(self, path: Path, name: str, shape: Sequence[int | None], frames: bool = False):
        """`shape`: of one input, without the batch; None: the count of frames, of each of which it gives features.

        Raises UserError where it takes or gives something else.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            taken, given = self._session.get_inputs(), self._session.get_outputs()
            one_each = len(taken) == len(given) == 1
            sizes = [size if isinstance(size, int) else None for size in taken[0].shape[1:]]
            if not one_each or sizes != list(shape) or len(given[0].shape) != 2 + frames:
                words = ", ".join("frames" if size is None else str(size) for size in shape)
                gives = "(batch, frames, features)" if frames else "(batch, features)"
                raise ValueError(f"it must take (batch, {words}) and give {gives}")
        except Exception as error:  # onnxruntime raises classes of its own, which it does not export
            raise UserError(f"{path} is no {name} in ONNX: {str(error).splitlines()[0]}") from None
        self._taken = taken[0].name

    def run(self, one: np.ndarray) -> np.ndarray:
        """What it gives for one input, (features,) or (frames, features) float64."""
        return self._session.run(None, {self._taken: np.ascontiguousarray(one[None], np.float32)})[0][0].astype(float)
