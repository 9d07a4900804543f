"""Weights put into an ONNX graph that was traced without them, one by one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import onnx_file
from .stored_weight import StoredWeight


def put(
    model: onnx.ModelProto, weights: Mapping[str, StoredWeight], half: bool, folder: Path
) -> None:
    """Give a graph its weights, by the names of the inputs that stand for them, and save it.

    half: stored as float16, with a Cast to float32 at the head of the graph.
    """
    placed = list(_placed(model, weights))
    size = sum(one.weight.numel() for one in placed) * (2 if half else 4)
    external = onnx_file.is_large(model, more=size)
    casts = []
    for one in placed:
        name = f"{one.name}.float16" if half else one.name
        tensor = numpy_helper.from_array(one.values("<f2" if half else "<f4"), name)
        if external:
            onnx_file.append(tensor, folder)
        model.graph.initializer.append(tensor)
        if half:
            casts.append(helper.make_node("Cast", [name], [one.name], to=TensorProto.FLOAT))
    inputs = [given for given in model.graph.input if given.name not in weights]
    nodes = [*casts, *(node for node in model.graph.node if node.name not in _turned(placed))]
    for repeated, kept in ((model.graph.input, inputs), (model.graph.node, nodes)):
        del repeated[:]
        repeated.extend(kept)
    onnx_file.save(model, folder, external)


@dataclass(frozen=True)
class _Placed:
    """A weight as a graph has it.

    transpose: name of the node that turns a linear layer's matrix, which is done here instead.
    """

    weight: StoredWeight
    name: str
    transpose: str = ""

    def values(self, kind: str) -> np.ndarray:
        values = self.weight.read().numpy()
        return np.ascontiguousarray(values.T if self.transpose else values, kind)


def _turned(placed: list[_Placed]) -> set[str]:
    return {one.transpose for one in placed if one.transpose}


def _placed(model: onnx.ModelProto, weights: Mapping[str, StoredWeight]) -> Iterator[_Placed]:
    """What nodes read of the weights; of one that the graph has no use for, nothing."""
    readers: dict[str, list[onnx.NodeProto]] = {name: [] for name in weights}
    for node in model.graph.node:
        for name in {*node.input} & weights.keys():
            readers[name].append(node)
    for name, nodes in readers.items():
        for node in nodes:
            if node.op_type == "Transpose":
                # The name that torch gives to what it turns itself, and LoRA files are fitted by.
                turned = f"onnx::{name}"
                yield _Placed(weights[name], turned, node.name)
                _rename(model, node.output[0], turned)
        if any(node.op_type != "Transpose" for node in nodes):
            yield _Placed(weights[name], name)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
