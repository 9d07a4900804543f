"""Weights put into an ONNX graph that was traced without them, one by one."""

from collections.abc import Collection, Iterator, Mapping
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
    turned = {output for one in placed for output in one.transposes}
    nodes = [*casts, *(node for node in model.graph.node if node.output[0] not in turned)]
    for repeated, kept in ((model.graph.input, inputs), (model.graph.node, nodes)):
        del repeated[:]
        repeated.extend(kept)
    onnx_file.save(model, folder, external)


@dataclass(frozen=True)
class _Placed:
    """A weight as a graph has it.

    transposes: outputs of nodes that turn a linear layer's matrix, which is done here instead.
    """

    weight: StoredWeight
    name: str
    transposes: Collection[str] = ()

    def values(self, kind: str) -> np.ndarray:
        values = self.weight.read().numpy()
        return np.ascontiguousarray(values.T if self.transposes else values, kind)


def _placed(model: onnx.ModelProto, weights: Mapping[str, StoredWeight]) -> Iterator[_Placed]:
    """What nodes read of the weights; of one that the graph has no use for, nothing."""
    readers: dict[str, list[onnx.NodeProto]] = {name: [] for name in weights}
    for node in model.graph.node:
        for name in {*node.input} & weights.keys():
            readers[name].append(node)
    turned: dict[str, str] = {}
    for name, nodes in readers.items():
        outputs = [node.output[0] for node in nodes if node.op_type == "Transpose"]
        if outputs:
            # As torch calls what it turns itself; by that a LoRA's layers are found.
            yield _Placed(weights[name], f"onnx::{name}", outputs)
            turned |= dict.fromkeys(outputs, f"onnx::{name}")
        if len(outputs) < len(nodes):
            yield _Placed(weights[name], name)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = turned.get(name, name)
