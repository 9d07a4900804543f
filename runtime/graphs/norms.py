"""Group norms in whatever order of memory the convolutions around them have.

OpenVINO computes a group norm on (batch, groups, what is in a group), for which a feature map must
lie channel by channel. Convolutions in 8 and in 16 bits keep pixel by pixel, so that before each
norm everything is turned around, and after it again: of the 8-bit VAE decoder's time a sixth. Sums
over rows and columns are read in either order, and with them a norm is a factor and a summand a
channel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .onnx_graph import OnnxGraph


@dataclass(frozen=True)
class NormsByMoments:
    """Group norms are computed by their moments."""

    @property
    def key(self) -> Any:
        return "norms by moments"

    def openvino(self, model: Any) -> Any:
        norm_by_moments(model)
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        """ONNX Runtime keeps every feature map channel by channel."""
        return graph


def norm_by_moments(model: Any) -> int:
    """Compute the group norms of an openvino.Model's feature maps so, any size; how many.

    [Wu & He 2018, "Group Normalization", arXiv 1803.08494, eq. 1 to 3], the variance as the mean of
    squares less the square of the mean: the digits that this loses are beyond those of 8 bits.
    """
    norms = [
        op
        for op in model.get_ordered_ops()
        if op.get_type_name() == "GroupNormalization" and len(op.input(0).get_partial_shape()) == 4
    ]
    for norm in norms:
        moved = _by_moments(norm)
        moved.friendly_name = norm.friendly_name
        for reader in norm.output(0).get_target_inputs():
            reader.replace_source_output(moved.output(0))
    model.validate_nodes_and_infer_types()
    return len(norms)


def _by_moments(norm: Any) -> Any:
    from openvino import opset13 as opset

    def integers(*numbers: int) -> Any:
        return opset.constant(np.array(numbers, np.int64))

    x, gain, bias = (port.get_source_output() for port in norm.inputs())
    groups, epsilon = (norm.get_attributes()[name] for name in ("num_groups", "epsilon"))
    channels = x.get_partial_shape()[1].get_length()
    space, a_channel = integers(2, 3), integers(-1, channels, 1, 1)
    grouped = integers(0, groups, channels // groups)

    def of_groups(moments: Any) -> Any:
        """The mean within each group, for each of its channels."""
        parted = opset.reshape(moments, grouped, special_zero=True)
        mean = opset.reduce_mean(parted, integers(2), keep_dims=True)
        spread = opset.broadcast(mean, opset.shape_of(parted))
        return opset.reshape(spread, a_channel, special_zero=False)

    sizes = opset.gather(opset.shape_of(x), space, integers(0))
    count = opset.convert(opset.reduce_prod(sizes, integers(0)), np.float32)
    length = opset.reduce_l2(x, space, keep_dims=True)
    mean = of_groups(opset.reduce_mean(x, space, keep_dims=True))
    squares = of_groups(opset.divide(opset.multiply(length, length), count))
    variance = opset.relu(opset.subtract(squares, opset.multiply(mean, mean)))
    deviation = opset.sqrt(opset.add(variance, np.float32(epsilon)))
    gain, bias = (opset.reshape(one, a_channel, special_zero=False) for one in (gain, bias))
    factor = opset.divide(gain, deviation)
    summand = opset.subtract(bias, opset.multiply(mean, factor))
    return opset.add(opset.multiply(x, factor), summand)
