"""Group norms by their moments, as `norms` writes them, found and written anew.

They are written in operations that any precision of float32 can do: sums over rows
and columns, mean and variance of each group, a factor and a summand for each channel.

What was added to a feature map channel by channel just before, as ResNets add the embedding of the
timestep, goes into these: the moments of a sum follow from those of the map, which is then not
written a second time. It also leaves OpenVINO no such sum to lay out, which it does in one way when
it compiles a graph and in another when it reads a compiled one: rounded to 16 bits, the pictures of
a second start were not those of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Keep = Callable[[Any], Any]
_OF_CHANNELS = ("ReduceL2", "ReduceMean")
"""What gives the moments of each channel."""


@dataclass(frozen=True)
class Moments:
    """A group norm of the feature map `x`; each is an openvino.Output.

    length, mean: of each of its channels. offset: a summand a channel that it is to have before.
    result: the last operation, which adds a summand a channel.
    """

    x: Any
    length: Any
    mean: Any
    offset: Any
    gain: Any
    bias: Any
    epsilon: Any
    groups: int
    result: Any


def rewrite(model: Any, keep: Keep) -> int:
    """Write all group norms by moments anew, with `keep` around what is small; how many there are.

    keep: marks an operation and returns it.
    """
    found = [norm for node in model.get_ordered_ops() if (norm := _found(node)) is not None]
    for norm in found:
        rewritten = _rewritten(norm, keep)
        rewritten.set_friendly_name(norm.result.get_friendly_name())
        for reader in norm.result.output(0).get_target_inputs():
            reader.replace_source_output(rewritten.output(0))
    return len(found)


def _found(result: Any) -> Moments | None:
    """The norm that ends with the operation `result`; None where none does."""
    try:
        scaled, summand = _sources(result, "Add")
        x, factor = _sources(scaled, "Multiply")
        gain, deviation = _sources(factor, "Divide")
        (under_root,) = _sources(deviation, "Sqrt")
        variance, epsilon = _sources(under_root, "Add")
        bias, shifted = _sources(summand, "Subtract")
        mean, again = _sources(shifted, "Multiply")
        (difference,) = _sources(variance, "Relu")
        squares, _ = _sources(difference, "Subtract")
        divided, groups = _spread(squares)
        squared, _ = _sources(divided, "Divide")
        length, _ = _sources(squared, "Multiply")
        means, _ = _spread(mean)
    except ValueError:
        return None
    kinds = length.get_node().get_type_name(), means.get_node().get_type_name()
    if kinds != _OF_CHANNELS or again != factor:
        return None
    if any(port.get_node().input_value(0) != x for port in (length, means)):
        return None
    if any(port.get_partial_shape().is_dynamic for port in (x, gain, bias)):
        return None
    x, length, means, offset = _without_offset(x, length, means)
    return Moments(x, length, means, offset, gain, bias, epsilon, groups, result)


def _without_offset(x: Any, length: Any, mean: Any) -> tuple[Any, Any, Any, Any]:
    """What `x` was before a summand a channel, its moments, and the summand.

    Where it had none, or others than the norm read it: all as it is, and None.
    """
    from openvino import opset13 as opset

    sizes = list(x.get_shape())
    of_channels = [*sizes[:2], 1, 1]
    summands = x.get_node().input_values() if x.get_node().get_type_name() == "Add" else []
    offset = next((one for one in summands if _has_shape(one, of_channels)), None)
    readers = sorted(port.get_node().get_type_name() for port in x.get_target_inputs())
    of_norm = [kind for kind in readers if kind != "ShapeOf"] == ["Multiply", *_OF_CHANNELS]
    if offset is None or not of_norm or of_channels == sizes:
        return x, length, mean, None
    before = summands[1] if offset == summands[0] else summands[0]
    space = np.array([2, 3], np.int64)
    length = opset.reduce_l2(before, space, keep_dims=True).output(0)
    return before, length, opset.reduce_mean(before, space, keep_dims=True).output(0), offset


def _has_shape(port: Any, shape: list[int]) -> bool:
    partial = port.get_partial_shape()
    return partial.is_static and list(partial.to_shape()) == shape


def _sources(of: Any, kind: str) -> tuple[Any, ...]:
    """What an operation of a kind reads; ValueError where it is of another."""
    node = of if hasattr(of, "get_type_name") else of.get_node()
    if node.get_type_name() != kind:
        raise ValueError(kind)
    return tuple(node.input_values())


def _spread(of: Any) -> tuple[Any, int]:
    """What is averaged in groups and spread over their channels, and how many groups there are."""
    spread, _ = _sources(of, "Reshape")
    mean, _ = _sources(spread, "Broadcast")
    parted, _ = _sources(mean, "ReduceMean")
    moments, _ = _sources(parted, "Reshape")
    return moments, parted.get_partial_shape()[1].get_length()


def _rewritten(norm: Moments, keep: Keep) -> Any:
    """The same, all that is small kept; no operation that OpenVINO would write as another."""
    from openvino import opset13 as opset

    batch, channels, rows, columns = norm.x.get_shape()
    parts = np.array([batch, norm.groups, channels // norm.groups], np.int64)
    of_parts = np.array([1, *parts[1:]], np.int64)
    of_channels = np.array([batch, channels, 1, 1], np.int64)

    def parted(moments: Any, shape: Any) -> Any:
        return keep(opset.reshape(moments, shape, special_zero=False))

    def mean_of(moments: Any) -> Any:
        return keep(opset.reduce_mean(moments, np.array([2], np.int64), keep_dims=True))

    def product(one: Any, other: Any) -> Any:
        return keep(opset.multiply(one, other))

    def total(one: Any, other: Any) -> Any:
        return keep(opset.add(one, other))

    area = np.float32(rows * columns)
    length, means = parted(norm.length, parts), parted(norm.mean, parts)
    squared = product(length, length)
    if norm.offset is not None:
        offset = parted(norm.offset, parts)
        # Of a number x and the offset o, both summed: (x + o)^2 = x^2 + o (2x + o).
        shifted = total(means, offset)
        more = product(offset, total(means, shifted))
        means, squared = shifted, total(squared, product(more, area))
    mean, squares = mean_of(means), mean_of(squared)
    # Times the area: divided by it, a mean would take the quotient into itself, unmarked.
    variance = keep(opset.relu(total(squares, product(product(mean, mean), -area))))
    held = total(variance, product(norm.epsilon, area))
    scale = product(keep(opset.power(held, np.float32(-0.5))), np.sqrt(area))
    factor = product(parted(norm.gain, of_parts), scale)
    # And no difference but the last: it would become a sum with a product, unmarked.
    unbias = opset.multiply(norm.bias, np.float32(-1))
    if norm.offset is not None:
        mean = total(mean, product(offset, np.float32(-1)))
    less = total(product(mean, factor), parted(unbias, of_parts))
    factor, less = (parted(one, of_channels) for one in (factor, less))
    return opset.subtract(opset.multiply(norm.x, factor), less)
