"""Running small pretrained networks on one CPU core: ONNX through OpenCV, TFLite through LiteRT."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from crowdmesh._native import native_stderr_hidden
from crowdmesh.errors import AssetError


class OnnxNetwork:
    """An ONNX network with one input and one output. Not to be shared between threads."""

    def __init__(self, path: Path) -> None:
        try:
            self._net = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise AssetError(
                f"OpenCV {cv2.__version__} cannot load the network {path}; install OpenCV 5.0 or newer"
            ) from error

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Output array for one input array of the network's own shape and type."""
        self._net.setInput(batch)
        return self._net.forward()


class TfliteNetwork:
    """A TFLite network with one input and any number of outputs. Not to be shared between threads."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with native_stderr_hidden():
            self._interpreter = Interpreter(str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, batch: np.ndarray) -> list[np.ndarray]:
        """Output arrays, in the order the file lists them, for one input array of the network's own shape and type."""
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probability of a logit, float64, safe for any size."""
    return 1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -60.0, 60.0)))
