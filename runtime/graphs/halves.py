"""What guidance compares, computed once for as long as it is the same.

Both halves see the same latents at the same timestep, and differ in the prompt alone. So up to
where a UNet first reads the prompt, a batch of two is one thing computed twice: in Stable Diffusion
1 the first convolution, ResNet and self-attention, at the highest resolution. Asked for with a
sample of one row beside prompts of several, a graph has that part for one row, then for all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Shapes = Mapping[str, Sequence[int]]


def rows_of(shapes: Shapes) -> int:
    """The batch: the rows of the inputs that have most."""
    return max((shape[0] for shape in shapes.values()), default=1)


def in_rows(shapes: Shapes, rows: int) -> dict[str, tuple[int, ...]]:
    """The same shapes, in a batch of so many."""
    return {name: (rows, *shape[1:]) for name, shape in shapes.items()}


def share_openvino(several: Any, one: Any, told: Sequence[str]) -> Any:
    """An openvino.Model that computes once what does not depend on the inputs `told` of each row.

    several, one: the same graph twice, with its shapes known: in a batch of all rows, and of one.
    Both are used up.
    """
    import openvino

    nodes, ends = several.get_ordered_ops(), several.get_parameters()
    singles = dict(zip(map(_name, nodes), one.get_ordered_ops(), strict=True))
    for node in [*nodes, *singles.values()]:
        _fix_shape(node)
    prompted = {_name(end) for end in ends if end.output(0).get_names() & set(told)}
    shared = {_name(end) for end in ends} - prompted
    handed: dict[tuple[str, int], Any] = {}
    for node in nodes:
        sources = [(port, port.get_source_output()) for port in node.inputs()]
        makers = {_name(source.get_node()) for _, source in sources}
        if not makers & prompted and node.get_type_name() != "Result":
            shared |= {_name(node)} if makers & shared else set()
            continue
        prompted.add(_name(node))
        for port, source in sources:
            place = _name(source.get_node()), source.get_index()
            if place[0] in shared:
                if place not in handed:
                    handed[place] = _for_all(source, singles[place[0]].output(place[1]))
                port.replace_source_output(handed[place])
    taken = [end if _name(end) in prompted else singles[_name(end)] for end in ends]
    return openvino.Model(several.get_results(), taken, several.get_friendly_name())


def _for_all(several: Any, one: Any) -> Any:
    """The output `one` as often as the rows of `several` are its own."""
    from openvino import opset13 as opset

    times = several.get_shape()[0] // one.get_shape()[0] if several.get_shape() else 1
    return opset.concat([one] * times, 0).output(0) if times > 1 else one


def _fix_shape(node: Any) -> None:
    """Where a shape is asked for: say it, so that each graph keeps to its own batch."""
    from openvino import opset13 as opset
    from openvino.utils import replace_node

    if node.get_type_name() == "ShapeOf":
        element = node.get_output_element_type(0).to_dtype()
        replace_node(node, opset.constant(np.array(node.get_input_shape(0), element)))


def _name(node: Any) -> str:
    return str(node.get_friendly_name())
