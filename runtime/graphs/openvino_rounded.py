"""The weights of an OpenVINO model in 8 bits, changed in floats and rounded anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .changes import (
    BIAS,
    Array,
    Changes,
    Shapes,
    Values,
    changed,
    held_in_8_bits,
    parameter_of,
    require_held,
)
from .openvino_weights import Weight, add_bias, read, replace, weights
from .rounding import SMOOTHING, rounded
from .workers import each

_LAYERS = ("MatMul", "Convolution")
_WIDENING = ("Convert", "Subtract", "Multiply")
"""What rounded activations go through before they are multiplied, as ONNX files have it."""


@dataclass(frozen=True)
class _Held:
    """A weight, in floats, or as numbers * steps, or as (numbers - zeros) * steps."""

    weight: Weight
    steps: Any = None
    zeros: Any = None

    def anew(self, value: Array) -> list[tuple[Any, NDArray[Any]]]:
        """Its constants, and what takes their places where the parameter has this value."""
        held, constant = self.weight.held, self.weight.constant
        part = held.part(value)
        factors = _factors(self.weight.reader)
        if factors is not None:
            part = part * factors.reshape(-1, *[1] * (part.ndim - 2))
        if self.steps is None:
            return [(constant, changed(held, constant.data, lambda _: part))]
        made = rounded(part, constant.data)
        numbers = made.numbers.T if held.transposed else made.numbers
        found = [(constant, numbers), (self.steps, made.steps)]
        return found if made.zeros is None else [*found, (self.zeros, made.zeros)]


def shapes(path: Any) -> Shapes:
    """The weights that can be changed in an IR file with weights of 8 bits."""
    return {name: found[0].weight.shape for name, found in _all(read(path)).items()}


def change(model: Any, changes: Changes, exact: Values) -> None:
    """Replace weights, and add to biases, of an openvino.Model with weights of 8 bits.

    exact: the weights that it was quantized from. Raises AdapterError where one is not there.
    """
    found = _all(model)
    require_held(changes, found)
    merged = [name for name in changes if not name.endswith(BIAS)]

    def anew(name: str) -> list[tuple[Any, NDArray[Any]]]:
        value = changes[name](exact(name))
        return [pair for one in found[name] for pair in one.anew(value)]

    for pairs in each(anew, merged):
        for constant, values in pairs:
            kind = constant.get_element_type().to_dtype()
            replace(constant, values.astype(kind, copy=False).reshape(list(constant.shape)))
    for name in changes:
        for one in found[parameter_of(name)] if name.endswith(BIAS) else ():
            add_bias(one.weight, name, changes[name])
    model.validate_nodes_and_infer_types()


def _all(model: Any) -> dict[str, list[_Held]]:
    """Parameter -> where the model holds it; halves of one are held apart."""
    found: dict[str, list[_Held]] = {}
    for weight in weights(model):
        if weight.constant.get_element_type().is_real():
            found.setdefault(weight.held.name, []).append(_Held(weight))
    for one in _rounded(model):
        found.setdefault(one.weight.held.name, []).append(one)
    return found


def _rounded(model: Any) -> Iterator[_Held]:
    """Weights of 8 bits: a constant, its conversion, perhaps less its zeros, times its steps."""
    for op in model.get_ops():
        if op.get_type_name() != "Constant" or op.data.dtype not in (np.int8, np.uint8):
            continue
        centred = _reader(op, ("Subtract",), 0)
        scaled = _reader(centred or op, ("Multiply",), 0)
        reader = scaled and _reader(scaled, _LAYERS, 1)
        if reader is None:
            continue
        steps, zeros = _constant(scaled, 1), centred and _constant(centred, 1)
        held = held_in_8_bits(reader.friendly_name, reader.get_type_name())
        if held is not None and steps is not None:
            yield _Held(Weight(op, reader, held), steps, zeros)


def _reader(node: Any, kinds: tuple[str, ...], index: int) -> Any:
    """The one operation of these kinds that reads a node as its input of that index."""
    targets = list(node.output(0).get_target_inputs())
    if len(targets) != 1:
        return None
    reader = targets[0].get_node()
    if reader.get_type_name() == "Convert":
        return _reader(reader, kinds, index)
    found = reader.get_type_name() in kinds and targets[0].get_index() == index
    return reader if found else None


def _constant(node: Any, index: int) -> Any:
    """The constant that is an input of a node, perhaps in another form; None where it is none."""
    source = node.input(index).get_source_output().get_node()
    while source.get_type_name() in ("Convert", "Reshape"):
        source = _source(source)
    return source if source.get_type_name() == "Constant" else None


def _factors(reader: Any) -> Array | None:
    """SmoothQuant's, a column of the weight each: activations are divided by them before."""
    node = _source(reader)
    while node.get_type_name() in _WIDENING and not _smooths(node):
        node = _source(node)
    if node.get_type_name() == "FakeQuantize":
        node = _source(node)
    constant = _constant(node, 1) if _smooths(node) else None
    return None if constant is None else np.asarray(1 / constant.data.ravel(), np.float32)


def _smooths(node: Any) -> bool:
    return node.get_type_name() == "Multiply" and bool(node.friendly_name.endswith(SMOOTHING))


def _source(node: Any) -> Any:
    return node.input(0).get_source_output().get_node()
