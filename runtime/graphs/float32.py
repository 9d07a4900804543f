"""What 16 bits would spoil, kept in float32 in a graph that otherwise computes in fewer bits.

bfloat16 has 8 bits of a number: between 512 and 1024 it counts in fours. OpenVINO keeps in float32
what carries a mark, which it loses where OpenVINO replaces an operation by another. So what is kept
is first put in operations that OpenVINO leaves as they are.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import moments
from .onnx_graph import OnnxGraph

_MARKED = """<?xml version="1.0"?>
<net name="marked" version="11">
<layers>
<layer id="0" name="x" type="Parameter" version="opset1">
<data shape="1" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>1</dim></port></output>
</layer>
<layer id="1" name="y" type="Sin" version="opset1">
<rt_info><attribute name="precise" version="0"/></rt_info>
<input><port id="0" precision="FP32"><dim>1</dim></port></input>
<output><port id="1" precision="FP32"><dim>1</dim></port></output>
</layer>
<layer id="2" name="z" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim></port></input>
</layer>
</layers>
<edges>
<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/>
</edges>
</net>
"""
"""A graph with the mark: OpenVINO's Python reads and copies marks, but has no way to make one."""


@dataclass(frozen=True)
class KeptInFloat32:
    """Angles of sines and cosines, and the moments of group norms, are computed in float32.

    The angles are those of timesteps and of XL's sizes, up to the sine: what follows is at most 1.
    The moments are those of the 8-bit graphs, whose variance is a difference of two near numbers.
    """

    @property
    def key(self) -> Any:
        return "angles and moments in float32"

    def openvino(self, model: Any) -> Any:
        keep_angles(model)
        moments.rewrite(model, _keep)
        model.validate_nodes_and_infer_types()
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        """ONNX Runtime computes in the number types that the graph declares."""
        return graph


@dataclass(frozen=True)
class Exact:
    """All of a graph is computed in float32: engines look for this one when they compile."""

    @property
    def key(self) -> Any:
        return "float32"

    def openvino(self, model: Any) -> Any:
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        return graph


EXACT = Exact()


def keep_angles(model: Any) -> None:
    """Mark sines, cosines, and all that their angles are made of."""
    waiting = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Sin", "Cos")]
    seen: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node.get_name() in seen or node.get_type_name() in ("Parameter", "Constant"):
            continue
        seen.add(node.get_name())
        waiting += [port.get_source_output().get_node() for port in node.inputs()]
        if node.get_output_element_type(0).is_real():
            _keep(_plain(node))


def _plain(node: Any) -> Any:
    """The node, or what stands in its place where OpenVINO would replace it and lose the mark."""
    from openvino import opset13 as opset

    shape = node.get_output_partial_shape(0)
    if node.get_type_name() not in ("Unsqueeze", "Squeeze", "Broadcast") or shape.is_dynamic:
        return node
    x, sizes = node.input_value(0), list(shape.to_shape())
    if node.get_type_name() == "Broadcast":
        plain = opset.multiply(x, np.ones(sizes, np.float32))
    else:
        plain = opset.reshape(x, np.array(sizes, np.int64), special_zero=False)
    if list(plain.get_output_shape(0)) != sizes:
        return node  # a Broadcast along named axes
    plain.set_friendly_name(f"{node.get_friendly_name()}, plain")
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(plain.output(0))
    return plain


def _keep(node: Any) -> Any:
    """The node, marked."""
    for name, mark in _marks():
        node.set_rt_info(mark, name)
    return node


@functools.cache
def _marks() -> tuple[tuple[str, Any], ...]:
    """OpenVINO's mark, by the name that this version has for it."""
    import openvino

    model = openvino.Core().read_model(_MARKED.encode(), openvino.Tensor(np.zeros(1, np.uint8)))
    marked = next(node for node in model.get_ops() if node.get_type_name() == "Sin")
    return tuple(marked.get_rt_info().items())
