"""Weights that SmoothQuant multiplies, kept in a file instead of memory.

NNCF holds all of them at once as float32: 10 GB of Stable Diffusion XL's UNet.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleinair.runtime.graphs import mapped

from .post_training import load


class MappedArrays:
    """Arrays one after another in a new file, which is mapped; they take no memory of their own.

    size: bytes of all of them at most.
    """

    _ALIGNMENT = 64

    def __init__(self, file: Path, size: int) -> None:
        self._bytes = np.memmap(file, np.uint8, "w+", shape=(size,))
        if hasattr(os, "posix_fallocate"):
            # A page that finds the disk full when it is written ends the program.
            with file.open("r+b") as opened:
                os.posix_fallocate(opened.fileno(), 0, size)
        self._end = 0

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array, from the file; as it is where the file has no more room."""
        begin = -(-self._end // self._ALIGNMENT) * self._ALIGNMENT
        if begin + array.nbytes > len(self._bytes):
            return array
        self._end = begin + array.nbytes
        kept = self._bytes[begin : self._end].view(array.dtype).reshape(array.shape)
        kept[...] = array
        return kept


_KINDS = {"f16": np.float16, "f32": np.float32}
"""What OpenVINO calls the number types that weights are stored in, and numpy knows."""


@contextlib.contextmanager
def smoothed_in_file(file: Path, size: int) -> Iterator[None]:
    """Let NNCF keep the weights of an OpenVINO graph there, rounded as the graph stores them.

    NNCF asks nobody where to keep them, so what makes them is exchanged inside the block.
    size: bytes of the graph's weights.
    """
    load()
    from nncf.quantization.algorithms.smooth_quant.openvino_backend import OVSmoothQuantAlgoBackend

    theirs = OVSmoothQuantAlgoBackend.weight_update_command

    def update(node: Any, graph: Any, weight: NDArray[Any]) -> Any:
        command = theirs(node, graph, weight)
        constant = node.layer_attributes.constant_attributes[command.target_point.port_id]
        kind = _KINDS.get(constant["dtype"])
        if kind is not None:
            most = np.finfo(kind).max
            command.weight_value = arrays.keep(np.clip(weight, -most, most).astype(kind))
        return command

    OVSmoothQuantAlgoBackend.weight_update_command = staticmethod(update)
    try:
        with mapped.read_once(file):
            arrays = MappedArrays(file, size)
            yield
    finally:
        OVSmoothQuantAlgoBackend.weight_update_command = staticmethod(theirs)
