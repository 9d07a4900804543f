"""A VAE decoder's upsamplers as transposed convolutions, before it is quantized.

Of the decoder's work at 512x512, upsamplers are 28 %. It always doubles; a UNet fits the size of a
skip connection, and its upsamplers are transposed when a size is known (`graphs.upsampling`).
"""

from typing import Any

import numpy as np

from pleinair.runtime.graphs.stored import stored
from pleinair.runtime.graphs.upsampling import signed, taps, transposed, upsamplers


def transpose_upsamplers(model: Any) -> int:
    """Replace them in an openvino.Model, where they always double rows and columns; how many."""
    from openvino import opset13 as opset

    found = [
        one
        for one in upsamplers(model)
        if one.rounding is None and one.doubles and stored(one.convolution) is not None
    ]
    for one in found:
        weights = stored(one.convolution).data.astype(np.float32)
        source = one.enlarging.input(0).get_source_output()
        one.replace(transposed(source, opset.constant(taps(weights))))
    model.validate_nodes_and_infer_types()
    return len(found)


def sign_inputs(model: Any) -> None:
    """Round what transposed convolutions read to signed numbers, with zero as zero."""
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "ConvolutionBackpropData":
            continue
        rounding = convolution.input(0).get_source_output().get_node()
        if rounding.get_type_name() == "FakeQuantize":
            source = rounding.input(0).get_source_output()
            convolution.input(0).replace_source_output(signed(rounding, source).output(0))
