"""The weights of an OpenVINO model, found by PyTorch's names and replaced in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterError
from .changes import BIAS, WEIGHT, Change, Changes, Held, Shapes, added, bias_shape, changed, held


@dataclass(frozen=True)
class _Weight:
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
    import openvino

    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise AdapterError(f"{path}: OpenVINO cannot read it: {error}") from error
    return {weight.held.name: weight.shape for weight in _weights(model)}


def change(model: Any, changes: Changes) -> None:
    """Replace weights, and add to biases, of an openvino.Model that is not compiled yet.

    A weight keeps the number type it is stored in. The constants are new ones, so OpenVINO's
    CACHE_DIR, whose key is a hash of the whole model, keeps each combination of changes apart.
    Raises AdapterError where a weight is not there or is quantized.
    """
    weights: dict[str, list[_Weight]] = {}  # a layer that is called twice may be there twice
    for weight in _weights(model):
        weights.setdefault(weight.held.name, []).append(weight)
    for name, made in changes.items():
        parameter = name.removesuffix(BIAS) + WEIGHT if name.endswith(BIAS) else name
        if parameter not in weights:
            raise AdapterError(f"the graph has no weight {parameter}; export the model anew")
        for weight in weights[parameter]:
            if name.endswith(BIAS):
                _add(weight, name, made)
            else:
                _replace(weight, made)
    model.validate_nodes_and_infer_types()


def _replace(weight: _Weight, made: Change) -> None:
    from openvino import opset13 as opset

    old = weight.constant
    new = opset.constant(changed(weight.held, old.data, made))
    new.friendly_name = old.friendly_name
    old.output(0).replace(new.output(0))


def _add(weight: _Weight, name: str, made: Change) -> None:
    """Add a vector to what the operation gives that reads the weight."""
    from openvino import opset13 as opset

    given = weight.reader.output(0)
    readers, names = given.get_target_inputs(), given.get_names()
    vector = added(name, weight.shape[0], made, given.get_element_type().to_dtype())
    shape = bias_shape(weight.held, weight.reader.get_type_name(), weight.stored)
    total = opset.add(given, opset.constant(vector.reshape(shape))).output(0)
    for reader in readers:
        reader.replace_source_output(total)
    given.set_names(set())  # an output of the model is known by them
    total.set_names(names)


def _weights(model: Any) -> Iterator[_Weight]:
    for op in model.get_ops():
        if op.get_type_name() != "Constant":
            continue
        for reader in _readers(op):
            found = held(op.friendly_name, reader.friendly_name, reader.get_type_name())
            if found is not None:
                yield _Weight(op, reader, found)


def _readers(op: Any) -> Iterator[Any]:
    """Who reads a constant, straight or by way of its conversion from half precision."""
    for target in op.output(0).get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "Convert":
            yield from _readers(node)
        else:
            yield node
