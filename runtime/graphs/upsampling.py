"""Upsampling by two and the 3x3 convolution after it, as one transposed convolution.

Of the nine neighbours that such a convolution sees most are copies of one another: each of the four
new pixels has 2x2 different ones. Weights of copies may be added beforehand [as Shi et al. 2016,
arXiv 1609.07009, for sub-pixel convolutions], which leaves 16 products a pixel where 36 were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .onnx_graph import OnnxGraph
from .stored import stored

Array: TypeAlias = NDArray[np.float32]

# Along one dimension pixel i becomes 2i and 2i + 1. Of a row of three weights, the first is of what
# comes before a new pixel: tap k of the four reaches from old pixel i to new pixel 2i + k - 1.
_TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)


@dataclass(frozen=True)
class TransposedUpsamplers:
    """Upsamplers in 8 bits are transposed, where they double at the size compiled for.

    Of an odd side they make one pixel less than double, to fit the skip connection; they stay then.
    floats: those in floating point as well, for engines that compute in 16 bits: the sums of
        weights are stored as float16, and kept on disk for every size.
    """

    floats: bool = False

    @property
    def key(self) -> Any:
        return ["transposed upsamplers", self.floats]

    def openvino(self, model: Any) -> Any:
        doubling = [one for one in upsamplers(model) if one.doubles]
        for upsampler in doubling:
            if upsampler.rounding is not None:
                _transpose_rounded(upsampler)
            elif self.floats:
                _transpose_floats(upsampler)
        if doubling:
            model.validate_nodes_and_infer_types()
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        return graph  # ONNX Runtime's ConvTranspose is a matrix product with a scatter


@dataclass(frozen=True)
class Upsampler:
    """A 3x3 convolution that reads what was enlarged by copying pixels.

    enlarging, convolution: the operations. rounding: the FakeQuantize between them, or None.
    """

    enlarging: Any
    convolution: Any
    rounding: Any

    @property
    def doubles(self) -> bool:
        """Whether rows and columns become twice as many; of free sizes by the factors stored."""
        before, after = (
            list(shape)[2:]
            for shape in (
                self.enlarging.get_input_partial_shape(0),
                self.enlarging.get_output_partial_shape(0),
            )
        )
        if all(size.is_static for size in (*before, *after)):
            return [2 * size.get_length() for size in before] == [s.get_length() for s in after]
        scales = stored(self.enlarging)
        by_factors = self.enlarging.get_attributes()["shape_calculation_mode"] == "scales"
        return by_factors and scales is not None and scales.data.tolist() in ([2, 2], [1, 1, 2, 2])

    def replace(self, transposed: Any) -> None:
        """Put a transposed convolution in the place of both."""
        transposed.friendly_name = self.convolution.friendly_name
        for reader in self.convolution.output(0).get_target_inputs():
            reader.replace_source_output(transposed.output(0))


def upsamplers(model: Any) -> Iterator[Upsampler]:
    """Those of an openvino.Model, in order of execution."""
    plain = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
    for convolution in model.get_ordered_ops():
        if convolution.get_type_name() != "Convolution":
            continue
        kernel = list(convolution.input(1).get_partial_shape())[2:]
        if not plain.items() <= convolution.get_attributes().items() or kernel != [3, 3]:
            continue
        enlarging, rounding = convolution.input(0).get_source_output().get_node(), None
        if enlarging.get_type_name() == "FakeQuantize":
            enlarging, rounding = enlarging.input(0).get_source_output().get_node(), enlarging
        if _copies_pixels(enlarging):
            yield Upsampler(enlarging, convolution, rounding)


def transposed(source: Any, weights: Any) -> Any:
    """The transposed convolution of an output of a model with weights of `taps`."""
    from openvino import opset13 as opset

    return opset.convolution_backprop_data(
        source, weights, strides=[2, 2], pads_begin=[1, 1], pads_end=[1, 1]
    )


def taps(weights: Array) -> Array:
    """The 4x4 weights, inputs first, that stand for 3x3 ones, outputs first."""
    tall = np.einsum("au,oiuv->iaov", _TAPS, weights)
    return np.ascontiguousarray(np.einsum("iaov,bv->ioab", tall, _TAPS), np.float32)


def signed(rounding: Any, source: Any) -> Any:
    """A FakeQuantize of a source to signed numbers, with zero as zero, over another one's range.

    OpenVINO computes transposed convolutions in 8 bits with such alone.
    """
    from openvino import opset13 as opset

    ends = [rounding.input(i).get_source_output().get_node().data for i in (1, 2)]
    most = np.maximum(*np.abs(ends))
    low, high = opset.constant(most * np.float32(-128 / 127)), opset.constant(most)
    return opset.fake_quantize(source, low, high, low, high, 256)


def _transpose_rounded(upsampler: Upsampler) -> None:
    """In 8 bits; left as it is where its weights are not stored so."""
    from openvino import opset13 as opset

    weights = _widened(upsampler.convolution.input(1).get_source_output().get_node())
    if weights is None:
        return
    source = upsampler.enlarging.input(0).get_source_output()
    while source.get_node().get_type_name() == "FakeQuantize":
        source = source.get_node().input(0).get_source_output()
    summed = taps(weights)
    scale = np.maximum(np.abs(summed).max((0, 2, 3), keepdims=True) / 127, np.float32(1e-30))
    integers = np.rint(summed / scale).astype(np.int8)
    rounded = opset.multiply(
        opset.convert(opset.constant(integers), np.float32), opset.constant(scale)
    )
    upsampler.replace(transposed(signed(upsampler.rounding, source), rounded))


def _transpose_floats(upsampler: Upsampler) -> None:
    """In floating point; left as it is where its weights are computed, or too large for float16."""
    from openvino import opset13 as opset

    weights = stored(upsampler.convolution)
    if weights is None or weights.get_element_type().is_integral():
        return
    summed = taps(weights.data.astype(np.float32))
    if np.abs(summed).max() > np.finfo(np.float16).max:
        return
    widened = opset.convert(opset.constant(summed.astype(np.float16)), np.float32)
    upsampler.replace(transposed(upsampler.enlarging.input(0).get_source_output(), widened))


def _widened(weights: Any) -> Array | None:
    """8-bit weights times their scales; None for weights that are stored otherwise."""
    if weights.get_type_name() != "Multiply":
        return None
    integers, scale = (_constant(port.get_source_output().get_node()) for port in weights.inputs())
    if integers is None or scale is None or integers.dtype != np.int8:
        return None
    widened: Array = integers.astype(np.float32) * scale.astype(np.float32)
    return widened


def _constant(node: Any) -> NDArray[Any] | None:
    while node.get_type_name() == "Convert":
        node = node.input(0).get_source_output().get_node()
    found: NDArray[Any] | None = node.data if node.get_type_name() == "Constant" else None
    return found


def _copies_pixels(node: Any) -> bool:
    """Whether it enlarges a feature map by copying; older kinds of the operation are left."""
    plain = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    return (
        node.get_type_name() == "Interpolate"
        and plain.items() <= node.get_attributes().items()
        and len(node.get_input_partial_shape(0)) == 4
    )
