"""The weights of an OpenVINO model, found by PyTorch's names and replaced in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError
from .changes import (
    BIAS,
    Array,
    Change,
    Changes,
    Held,
    Shapes,
    Values,
    added,
    bias_shape,
    changed,
    held,
    parameter_of,
)
from .mapped import alone, release, spans


@dataclass(frozen=True)
class Weight:
    """A constant, and the operation that reads it."""

    constant: Any
    reader: Any
    held: Held

    @property
    def stored(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.constant.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape(self.stored)


def shapes(path: Path) -> Shapes:
    """The named weights of an IR file; read_model maps them, so none is loaded."""
    return {weight.held.name: weight.shape for weight in weights(read(path))}


def values(path: Path) -> Values:
    """The numbers of the named weights of an IR file."""
    stored = path.with_suffix(".bin")
    with alone(stored):
        others = spans(stored)
        model = read(path)
        mapped = spans(stored) - others
    found = {weight.held.name: weight for weight in weights(model)}

    def value(name: str) -> Array:
        weight = found[name]
        unpacked = weight.held.unpacked(weight.constant.data)
        for span in mapped:  # the constants, which are held here, keep it so
            release(*span)
        return unpacked

    return value


def read(path: Path) -> Any:
    import openvino

    try:
        with alone(path.with_suffix(".bin")):
            return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise AdapterError(f"{path}: OpenVINO cannot read it: {error}") from error


def change(model: Any, changes: Changes) -> None:
    """Replace weights, and add to biases, of an openvino.Model that is not compiled yet.

    A weight keeps the number type it is stored in. The constants are new ones, so OpenVINO's
    CACHE_DIR, whose key is a hash of the whole model, keeps each combination of changes apart.
    Raises AdapterError where a weight is not there or is quantized.
    """
    found: dict[str, list[Weight]] = {}  # a layer that is called twice may be there twice
    for weight in weights(model):
        found.setdefault(weight.held.name, []).append(weight)
    for name, made in changes.items():
        parameter = parameter_of(name)
        if parameter not in found:
            raise AdapterError(f"the graph has no weight {parameter}; export the model anew")
        for weight in found[parameter]:
            if name.endswith(BIAS):
                add_bias(weight, name, made)
            else:
                replace(weight.constant, changed(weight.held, weight.constant.data, made))
    model.validate_nodes_and_infer_types()


def replace(constant: Any, values: NDArray[Any]) -> None:
    """Put a new constant in the place of another; it reads the array where that lies."""
    from openvino import opset13 as opset

    new = opset.constant(np.ascontiguousarray(values), shared_memory=True)
    new.friendly_name = constant.friendly_name
    constant.output(0).replace(new.output(0))


def add_bias(weight: Weight, name: str, made: Change) -> None:
    """Add a vector to what the operation gives that reads the weight."""
    from openvino import opset13 as opset

    given = weight.reader.output(0)
    readers, names = given.get_target_inputs(), given.get_names()
    dtype = given.get_element_type().to_dtype()
    vector = added(weight.held, name, weight.shape[0], made, dtype)
    shape = bias_shape(weight.held, weight.reader.get_type_name(), weight.stored)
    total = opset.add(given, opset.constant(vector.reshape(shape))).output(0)
    for reader in readers:
        reader.replace_source_output(total)
    given.set_names(set())  # an output of the model is known by them
    total.set_names(names)


def weights(model: Any) -> Iterator[Weight]:
    """Those of an openvino.Model whose constants or readers are named as PyTorch names them."""
    for op in model.get_ops():
        if op.get_type_name() != "Constant":
            continue
        for reader in _readers(op):
            found = held(op.friendly_name, reader.friendly_name, reader.get_type_name())
            if found is not None:
                yield Weight(op, reader, found)


def _readers(op: Any) -> Iterator[Any]:
    """Who reads a constant, straight or by way of its conversion from half precision."""
    for target in op.output(0).get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "Convert":
            yield from _readers(node)
        else:
            yield node
