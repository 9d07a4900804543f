"""What the rows of a batch have in common, computed once for as long as it is the same.

The branches that guidance compares see the same latents at the same timestep, and differ in the
prompt alone. So up to where a UNet first reads the prompt, a batch of two is one thing computed
twice: in Stable Diffusion 1 the first convolution, ResNet and self-attention, at the highest
resolution.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .onnx_graph import OnnxGraph


@dataclass(frozen=True)
class SharedRows:
    """The inputs `same` have one row, which stands for all; what depends on them alone has one too.

    ONNX Runtime is given that row as often as the batch has rows, by `engines.onnxruntime`.
    """

    same: tuple[str, ...]

    @property
    def key(self) -> Any:
        return ["shared rows", sorted(self.same)]

    def openvino(self, model: Any) -> Any:
        single = _of_one_row(model)
        return model if single is None else _shared(model, single, set(self.same))

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        return graph


def _of_one_row(model: Any) -> Any:
    """The same graph for a batch of one; None where its exporter has fixed another."""
    single = model.clone()
    shapes = {port: list(port.get_shape()) for port in single.inputs}
    try:
        single.reshape({port: [1, *shape[1:]] for port, shape in shapes.items() if shape})
    except RuntimeError:
        return None
    return single


def _shared(batch: Any, single: Any, same: set[str]) -> Any:
    """The graph `batch`, which takes from `single` whatever depends on the inputs `same` alone.

    Both are the same graph, for a batch of all rows and of one; both are used up.
    """
    import openvino

    nodes, parameters = batch.get_ordered_ops(), batch.get_parameters()
    singles = {_name(node): node for node in single.get_ordered_ops()}  # a clone keeps the names
    for node in [*nodes, *singles.values()]:
        _fix_shape(node)
    shared = {_name(end) for end in parameters if end.output(0).get_names() & same}
    different = {_name(end) for end in parameters} - shared
    widened: dict[tuple[str, int], Any] = {}
    for node in nodes:
        sources = [(port, port.get_source_output()) for port in node.inputs()]
        makers = {_name(source.get_node()) for _, source in sources}
        if not makers & different and node.get_type_name() != "Result":
            shared |= {_name(node)} if makers & shared else set()
            continue
        different.add(_name(node))
        for port, source in sources:
            output = _name(source.get_node()), source.get_index()
            if output[0] in shared:
                if output not in widened:
                    widened[output] = _for_all(source, singles[output[0]].output(output[1]))
                port.replace_source_output(widened[output])
    taken = [end if _name(end) in different else singles[_name(end)] for end in parameters]
    return openvino.Model(batch.get_results(), taken, batch.get_friendly_name())


def _for_all(batch: Any, single: Any) -> Any:
    """The output `single` as often as the rows of `batch` are each one of its own."""
    from openvino import opset13 as opset

    times = batch.get_shape()[0] // single.get_shape()[0] if batch.get_shape() else 1
    return opset.concat([single] * times, 0).output(0) if times > 1 else single


def _fix_shape(node: Any) -> None:
    """Where a shape is asked for: say it, so that each graph keeps to its batch."""
    from openvino import opset13 as opset
    from openvino.utils import replace_node

    if node.get_type_name() == "ShapeOf":
        element = node.get_output_element_type(0).to_dtype()
        replace_node(node, opset.constant(np.array(node.get_input_shape(0), element)))


def _name(node: Any) -> str:
    return str(node.get_friendly_name())
