"""The weights of an ONNX graph in 8 bits, changed in floats and rounded anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .changes import (
    BIAS,
    WEIGHT,
    Array,
    Changes,
    Shapes,
    Values,
    changed,
    held_in_8_bits,
    parameter_of,
    require_held,
)
from .onnx_graph import NODE, Node, OnnxGraph, Tensor, reading
from .onnx_weights import Weight, named, parts, tensors
from .rounding import SMOOTHING, rounded
from .workers import each

_LAYERS = ("MatMul", "Conv")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear", "Cast")
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class _Graph:
    """An ONNX graph by its names: nodes by what they give, initializers by their own."""

    opened: OnnxGraph
    makers: Mapping[str, Node]
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, graph: OnnxGraph) -> "_Graph":
        nodes = [Node.parse(value) for number, _, value, _ in graph.fields() if number == NODE]
        makers = {output: node for node in nodes for output in node.outputs}
        return cls(graph, makers, {tensor.name: tensor for tensor in tensors(graph)})

    def values(self, name: str) -> NDArray[Any]:
        return self.tensors[name].values(self.opened.path)

    def dequantized(self, name: str) -> tuple[str, ...] | None:
        """Numbers, steps and zeros of a tensor that is stored so; None of any other."""
        node = self.makers.get(name)
        while node is not None and node.operator == "Cast":
            node = self.makers.get(node.inputs[0])
        stored = node is not None and {*node.inputs} <= self.tensors.keys()
        return node.inputs if stored and node and node.operator == "DequantizeLinear" else None

    def factors(self, reader: Node) -> Array | None:
        """SmoothQuant's, a column of the weight each: activations are divided by them before."""
        node = self.makers.get(reader.inputs[0])
        while node is not None and node.operator in _ROUNDING:
            node = self.makers.get(node.inputs[0])
        if node is None or node.operator != "Mul" or not node.name.endswith(SMOOTHING):
            return None
        stored = next(name for name in node.inputs if name in self.tensors)
        return np.asarray(1 / self.values(stored).ravel(), np.float32)


@dataclass(frozen=True)
class _Bias:
    """A bias in whole numbers, as operations on such take it: in steps of their products.

    inputs: the steps of what the weight is multiplied with.
    """

    numbers: str
    steps: str
    value: NDArray[np.float64]
    inputs: NDArray[np.float64]

    @classmethod
    def of(cls, graph: _Graph, name: str, steps: Array) -> "_Bias | None":
        """That of an operation whose weight has these steps; None where it is in floats."""
        stored = graph.dequantized(name)
        if stored is None:
            return None
        products = graph.values(stored[1])
        value = graph.values(stored[0]).astype(np.float64) * products
        return cls(stored[0], stored[1], value, products.astype(np.float64) / steps)

    @property
    def least(self) -> Array:
        """Steps of the weight, so large that the bias is no larger than 32 bits hold."""
        return np.asarray(np.abs(self.value) / self.inputs / _LARGEST, np.float32)

    def anew(self, steps: Array, added: Array | None) -> dict[str, NDArray[Any]]:
        """Its initializers beside a weight of these steps."""
        products = np.asarray(self.inputs * steps, np.float32)
        whole = np.rint((self.value if added is None else self.value + added) / products)
        numbers = np.clip(whole, -_LARGEST, _LARGEST).astype(np.int32)
        return {self.numbers: numbers, self.steps: products}


@dataclass(frozen=True)
class _Held:
    """A weight, in floats, or as numbers * steps, or as (numbers - zeros) * steps.

    stored: names of numbers, steps and zeros; () of one in floats.
    """

    weight: Weight
    factors: Array | None
    stored: tuple[str, ...] = ()
    bias: _Bias | None = None

    def anew(self, graph: _Graph, value: Array, added: Array | None) -> dict[str, NDArray[Any]]:
        """Its initializers where the parameter has this value, and something is added to the bias.

        That is left to others where the bias is in floats.
        """
        held, tensor = self.weight.held, self.weight.tensor
        if self.factors is not None:
            value = value * self.factors.reshape(-1, *[1] * (value.ndim - 2))
        if not self.stored:
            return {tensor.name: changed(held, self.weight.stored(graph.opened), lambda _: value)}
        least = None if self.bias is None else self.bias.least
        made = rounded(value, graph.values(self.stored[0]), least)
        turned = made.numbers.T if held.transposed else made.numbers
        found = dict(zip(self.stored, (np.ascontiguousarray(turned), made.steps), strict=False))
        if made.zeros is not None:
            found[self.stored[2]] = made.zeros
        return found if self.bias is None else found | self.bias.anew(made.steps, added)


def shapes(path: Path) -> Shapes:
    """The weights that can be changed in an ONNX file with weights of 8 bits."""
    with reading(path):
        found = _all(_Graph.of(OnnxGraph.open(path)))
    return {name: one.weight.shape for name, one in found.items()}


def change(graph: OnnxGraph, changes: Changes, exact: Values) -> OnnxGraph:
    """The graph with changed weights, in which they have 8 bits.

    exact: the weights that it was quantized from. Raises AdapterError where one is not there.
    """
    with reading(graph.path):
        opened = _Graph.of(graph)
        found = _all(opened)
    require_held(changes, found)
    names = dict.fromkeys(parameter_of(name) for name in changes)
    biases = []

    def anew(name: str) -> dict[str, NDArray[Any]]:
        one, bias = found[name], name.removesuffix(WEIGHT) + BIAS
        value = exact(name)
        shift = changes[bias](np.zeros(len(value), np.float32)) if bias in changes else None
        return one.anew(opened, changes[name](value) if name in changes else value, shift)

    new: dict[str, NDArray[Any]] = {}
    for made in each(anew, names):
        new |= made
    for name in changes:
        one = found[parameter_of(name)]
        if name.endswith(BIAS) and one.bias is None:
            biases += one.weight.added_to(name, changes[name])
    weights = {name: values for name, values in new.items() if values.ndim > 1}
    vectors = {name: values for name, values in new.items() if values.ndim < 2}
    with reading(graph.path):
        changed_graph = OnnxGraph(graph.content, graph.path, {**graph.weights, **weights})
        return changed_graph.rewritten(parts(graph, changed_graph.weights, biases, vectors))


def _all(graph: _Graph) -> dict[str, _Held]:
    """Parameter -> where the graph holds it."""
    found = {
        name: _Held(weight, graph.factors(weight.readers[0]))
        for name, weight in named(graph.opened).items()
    }
    for reader in graph.makers.values():
        stored = graph.dequantized(reader.inputs[1]) if reader.operator in _LAYERS else None
        held = stored and held_in_8_bits(reader.name, reader.operator)
        if held and stored:
            numbers, steps = graph.tensors[stored[0]], graph.values(stored[1])
            weight = Weight(numbers, held, (reader,), graph.tensors[stored[1]].type)
            bias = _Bias.of(graph, reader.inputs[2], steps) if len(reader.inputs) > 2 else None
            found[held.name] = _Held(weight, graph.factors(reader), stored, bias)
    return found
