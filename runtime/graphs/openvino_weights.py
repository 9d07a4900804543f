"""The weights of an OpenVINO model, found by PyTorch's names and replaced in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterError
from .changes import Changes, Shapes, changed, parameter_name


@dataclass(frozen=True)
class _Weight:
    constant: Any
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(int(size) for size in self.constant.shape)
        return shape[::-1] if self.transposed else shape


def shapes(path: Path) -> Shapes:
    """The named weights of an IR file; read_model maps them, so none is loaded."""
    import openvino

    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise AdapterError(f"{path}: OpenVINO cannot read it: {error}") from error
    return {name: weight.shape for name, weight in _weights(model)}


def change(model: Any, changes: Changes) -> None:
    """Replace weights of an openvino.Model that is not compiled yet.

    A weight keeps the number type it is stored in. The constants are new ones, so OpenVINO's
    CACHE_DIR, whose key is a hash of the whole model, keeps each combination of changes apart.
    Raises AdapterError where a weight is not there or is quantized.
    """
    from openvino import opset13 as opset

    weights = dict(_weights(model))
    for name, made in changes.items():
        if name not in weights:
            raise AdapterError(f"the graph has no weight {name}; export the model anew")
        old, transposed = weights[name].constant, weights[name].transposed
        new = opset.constant(changed(name, old.data, transposed, made))
        new.friendly_name = old.friendly_name
        old.output(0).replace(new.output(0))
    model.validate_nodes_and_infer_types()


def _weights(model: Any) -> Iterator[tuple[str, _Weight]]:
    for op in model.get_ops():
        if op.get_type_name() != "Constant":
            continue
        for consumer in _consumers(op):
            found = parameter_name(
                op.friendly_name, consumer.friendly_name, consumer.get_type_name()
            )
            if found is not None:
                yield found[0], _Weight(op, found[1])


def _consumers(op: Any) -> Iterator[Any]:
    """Who reads a constant, straight or by way of its conversion from half precision."""
    for target in op.output(0).get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "Convert":
            yield from _consumers(node)
        else:
            yield node
