"""What is to become of a model's weights, and under which names graphs hold them."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError

Array = NDArray[np.float32]
Change = Callable[[Array], Array]
"""A weight in PyTorch's layout, float32, to what takes its place."""
Changes = Mapping[str, Change]
"""Parameter name, as in `unet.state_dict()`, to its change.

A bias is changed by adding to it, whether its layer has one or not: "to_q.bias" is given zeros and
gives what is added.
"""
Shapes = Mapping[str, tuple[int, ...]]
"""Name of a weight to its shape in PyTorch's layout."""
Values = Callable[[str], Array]
"""A weight's name to its numbers, in PyTorch's layout."""

BIAS, WEIGHT = ".bias", ".weight"

_WRAPPERS = re.compile(r"^(self\.)?(model\.)?(text_model\.)?")
_STORED = re.compile(r"(_compressed|\.float16)$")
_PARAMETER = re.compile(r"[\w.]+\.weight")
# OpenVINO's converter folds the weight of a LayerNorm into a constant without a name.
_LAYER_NORM = re.compile(r"__module\.([\w.]+)/aten::layer_norm/Multiply(_\d+)?")
# Quantizers give the weights of 8 bits names of their own; the operation still tells the layer.
# pleinair-quantize computes the two halves of a gated projection apart.
_LAYER = re.compile(r"__module\.([\w.]+)/aten::(?:linear|_convolution)/\w+?(?:/half_([01]))?")


class Held(NamedTuple):
    """How a graph holds a parameter.

    transposed: a matrix, (in, out). spread: a norm's vector, with axes of length 1.
    half: which half of the rows the graph holds; None is all of them.
    """

    name: str
    transposed: bool = False
    spread: bool = False
    half: int | None = None

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """In PyTorch's layout."""
        if self.spread:
            return (int(np.prod(stored, dtype=np.int64)),)
        return stored[::-1] if self.transposed else stored

    def unpacked(self, stored: NDArray[Any]) -> Array:
        """What is stored, in PyTorch's layout and float32; AdapterError of what are no floats."""
        if stored.dtype.kind != "f":
            raise AdapterError(
                f"{self.name} is stored as {stored.dtype}, which cannot be changed afterwards; "
                "export the model with --lora"
            )
        weight = stored.astype(np.float32)
        return weight.reshape(-1) if self.spread else weight.T if self.transposed else weight

    def part(self, weight: Array) -> Array:
        """What the graph holds of a parameter in PyTorch's layout, or of its bias."""
        return weight if self.half is None else np.split(weight, 2)[self.half]


def held(constant: str, consumer: str, operator: str) -> Held | None:
    """Which parameter a graph's constant is, by PyTorch's name; None where that is lost.

    constant: the constant's own name. OpenVINO's converter keeps PyTorch's, behind "self."; so
        does torch.onnx, but for the weights of linear layers and of group norms.
    consumer, operator: name and kind of the node that reads it. torch.onnx transposes a linear
        layer's weight and calls it "onnx::MatMul_123"; the node still tells the layer:
        "/down_blocks.0/attentions.0/proj_in/MatMul".
    Wrappers that exporters put around a model ("model.", "text_model.") are taken off.
    """
    name = _STORED.sub("", constant)
    if _PARAMETER.fullmatch(name):
        return Held(_WRAPPERS.sub("", name))
    if operator == "Multiply" and (found := _LAYER_NORM.fullmatch(consumer)):
        return Held(_WRAPPERS.sub("", f"{found[1]}{WEIGHT}"), spread=True)
    if operator in ("MatMul", "Mul") and name.startswith("onnx::") and consumer.startswith("/"):
        parameter = layer_path(consumer) + WEIGHT
        return Held(parameter, transposed=operator == "MatMul", spread=operator == "Mul")
    return None


def held_in_8_bits(consumer: str, operator: str) -> Held | None:
    """Which parameter the weight of 8 bits is that a node reads; None where that is lost.

    consumer, operator: name and kind of the node, as for `held`.
    """
    if found := _LAYER.fullmatch(consumer):
        half = None if found[2] is None else int(found[2])
        return Held(_WRAPPERS.sub("", f"{found[1]}{WEIGHT}"), half=half)
    if operator in ("MatMul", "Conv", "Convolution") and consumer.startswith("/"):
        parameter = layer_path(consumer.removesuffix("/WithoutBiases")) + WEIGHT
        return Held(parameter, transposed=operator == "MatMul")
    return None


def parameter_of(name: str) -> str:
    """The weight that a change is about, or whose bias it is about."""
    return name.removesuffix(BIAS) + WEIGHT if name.endswith(BIAS) else name


def require_held(changes: Changes, held: Collection[str]) -> None:
    """AdapterError where a graph in 8 bits does not name all weights that are to be changed."""
    for name in map(parameter_of, changes):
        if name not in held:
            raise AdapterError(
                f"the graph in 8 bits does not name the weight {name}, so LoRA files cannot change "
                "it; make it anew, with pleinair-quantize --overwrite, or take profile exact"
            )


def layer_path(node: str) -> str:
    """The layer of a node of torch.onnx, such as mid_block.conv of "/model/mid_block/conv/Conv"."""
    return _WRAPPERS.sub("", ".".join(node.removesuffix("_output_0").split("/")[1:-1]))


def changed(held: Held, stored: NDArray[Any], change: Change) -> NDArray[Any]:
    """The stored weight after its change, computed in float32 and kept in its number type.

    Raises AdapterError where the weight is not stored as floats, or the result leaves their range.
    """
    weight = change(held.unpacked(stored))
    weight = weight.reshape(stored.shape) if held.spread else weight
    with np.errstate(over="ignore"):
        weight = np.ascontiguousarray(weight.T if held.transposed else weight, stored.dtype)
    if not np.isfinite(weight).all():
        raise AdapterError(
            f"{held.name} leaves the range of {stored.dtype} when it is changed; "
            "use a smaller weight"
        )
    return weight


def added(held: Held, bias: str, size: int, change: Change, dtype: np.dtype[Any]) -> NDArray[Any]:
    """What is added to the bias beside a weight of so many rows; errors as in `changed`."""
    whole = np.zeros(size if held.half is None else 2 * size, dtype)
    return held.part(changed(Held(bias), whole, change))


def bias_shape(held: Held, operator: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which a vector is added to what an operation gives, after its weight's."""
    if held.spread:
        return stored
    channels_first = operator in ("Conv", "Convolution", "GroupNormalization")
    return (-1, *[1] * 2) if channels_first else (-1,)
