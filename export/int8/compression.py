"""Weights stored in 8 bits one after another: pages that one was read from can be let go of.

NNCF's pass does it for all of a graph in one call, in which no other Python thread runs: every page
of a mapped file that it reads stays, 5 GB of Stable Diffusion XL's UNet.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import openvino
from openvino import opset13 as opset

from pleinair.runtime.graphs.stored import stored

from .post_training import load


@contextlib.contextmanager
def stored_one_by_one() -> Iterator[None]:
    """Let NNCF store weights of OpenVINO graphs so; the numbers are its own.

    NNCF has no setting for it, so its pass is exchanged inside the block.
    """
    load()
    from nncf.openvino.quantization import quantize_model

    theirs = quantize_model.compress_quantize_weights_transformation

    def one_by_one(model: Any) -> None:
        for node in model.get_ordered_ops():
            if node.get_type_name() == "FakeQuantize" and stored(node, 0) is not None:
                names = node.output(0).get_names()
                result = opset.result(node.output(0))
                theirs(openvino.Model([result], []))
                result.input(0).get_source_output().get_tensor().set_names(names)
        theirs(model)

    quantize_model.compress_quantize_weights_transformation = one_by_one
    try:
        yield
    finally:
        quantize_model.compress_quantize_weights_transformation = theirs
