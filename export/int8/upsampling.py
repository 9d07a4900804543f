"""Upsampling by two and the 3x3 convolution after it, as one transposed convolution.

Of the nine neighbours that such a convolution sees most are copies of one another: each of the four
new pixels has 2x2 different ones. Weights of copies may be added beforehand [as Shi et al. 2016,
arXiv 1609.07009, for sub-pixel convolutions], which leaves 16 products a pixel where 36 were. Of
the VAE decoder's work at 512x512, upsamplers are 28 %.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .stored import stored

# Along one dimension pixel i becomes 2i and 2i + 1. Of a row of three weights, the first is of what
# comes before a new pixel: tap k of the four reaches from old pixel i to new pixel 2i + k - 1.
_TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)


def transpose_upsamplers(model: Any) -> int:
    """Replace them in an openvino.Model, where they always double rows and columns; how many."""
    from openvino import opset13 as opset

    found = list(_upsamplers(model))
    for enlarged, convolution in found:
        weights = stored(convolution).data.astype(np.float32)
        taps = np.einsum("au,oiuv,bv->ioab", _TAPS, weights, _TAPS)
        transposed = opset.convolution_backprop_data(
            enlarged.input(0).get_source_output(),
            opset.constant(np.ascontiguousarray(taps, np.float32)),
            strides=[2, 2],
            pads_begin=[1, 1],
            pads_end=[1, 1],
        )
        transposed.friendly_name = convolution.friendly_name
        for reader in convolution.output(0).get_target_inputs():
            reader.replace_source_output(transposed.output(0))
    model.validate_nodes_and_infer_types()
    return len(found)


def sign_inputs(model: Any) -> None:
    """Round what transposed convolutions read to signed numbers, with zero as zero.

    OpenVINO computes them in 8 bits with such alone, and in floating point otherwise.
    """
    from openvino import opset13 as opset

    for transposed in model.get_ordered_ops():
        if transposed.get_type_name() != "ConvolutionBackpropData":
            continue
        rounded = transposed.input(0).get_source_output().get_node()
        if rounded.get_type_name() != "FakeQuantize":
            continue
        ends = [rounded.input(i).get_source_output().get_node().data for i in (1, 2)]
        most = np.maximum(*np.abs(ends))
        low, high = opset.constant(most * np.float32(-128 / 127)), opset.constant(most)
        source = rounded.input(0).get_source_output()
        signed = opset.fake_quantize(source, low, high, low, high, 256)
        transposed.input(0).replace_source_output(signed.output(0))


def _upsamplers(model: Any) -> Iterator[tuple[Any, Any]]:
    """What doubles a feature map by copying pixels, and the convolution that reads it."""
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "Convolution":
            continue
        enlarged = convolution.input(0).get_source_output().get_node()
        plain = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
        shape = convolution.input(1).get_partial_shape()
        if (
            plain.items() <= convolution.get_attributes().items()
            and list(shape.to_shape())[2:] == [3, 3]
            and stored(convolution) is not None
            and _doubles(enlarged)
        ):
            yield enlarged, convolution


def _doubles(node: Any) -> bool:
    """Whether it always does, by copying; older kinds of the operation say less and are left."""
    plain = {
        "mode": "nearest",
        "shape_calculation_mode": "scales",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    if node.get_type_name() != "Interpolate" or not plain.items() <= node.get_attributes().items():
        return False
    scales = stored(node)
    return scales is not None and scales.data.tolist() in ([2, 2], [1, 1, 2, 2])
