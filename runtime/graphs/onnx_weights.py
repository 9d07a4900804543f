"""The weights of an ONNX file, found by PyTorch's names and replaced."""

from collections.abc import Iterator
from pathlib import Path

from ..errors import AdapterError
from . import protobuf
from .changes import Changes, Shapes, changed, parameter_name
from .onnx_graph import INITIALIZER, NODE, Node, OnnxGraph, Tensor, not_whole


def shapes(path: Path) -> Shapes:
    """The named weights of an ONNX file in PyTorch's layout; their data are not read."""
    graph = OnnxGraph.open(path)
    try:
        named = _named(graph)
    except (ValueError, IndexError, KeyError) as error:
        raise not_whole(path, error) from error
    return {
        name: tuple(tensor.dims[::-1] if transposed else tensor.dims)
        for name, (tensor, transposed) in named.items()
    }


def widened_bytes(path: Path) -> int:
    """Bytes of all initializers, those in half precision as float32; none is loaded."""
    graph = OnnxGraph.open(path)
    try:
        return sum(tensor.widened for tensor in _tensors(graph))
    except (ValueError, IndexError, KeyError) as error:
        raise not_whole(path, error) from error


def change(graph: OnnxGraph, changes: Changes) -> OnnxGraph:
    """The graph with changed weights; each keeps the number type it is stored in.

    Raises AdapterError where a weight is not there or is quantized.
    """
    try:
        named = _named(graph)
    except (ValueError, IndexError, KeyError) as error:
        raise not_whole(graph.path, error) from error
    weights = dict(graph.weights)
    for name, made in changes.items():
        if name not in named:
            raise AdapterError(f"{graph.path}: has no weight {name}; export the model anew")
        tensor, transposed = named[name]
        try:
            stored = weights.get(tensor.name)  # of an edit before this one
            if stored is None:
                stored = tensor.values(graph.path.parent)
        except (OSError, ValueError) as error:
            raise AdapterError(f"{graph.path}: unreadable weight {name}: {error}") from error
        weights[tensor.name] = changed(name, stored, transposed, made)
    parts: list[bytes | memoryview] = []
    for number, _, value, raw in graph.fields():
        stored_as = Tensor.parse(value) if number == INITIALIZER else None
        if stored_as is not None and stored_as.name in weights:
            stub = stored_as.stub(weights[stored_as.name].shape)
            parts.append(protobuf.field(INITIALIZER, stub))
        else:
            parts.append(raw)
    return OnnxGraph(graph.content, graph.path, weights).rewritten(parts)


def _tensors(graph: OnnxGraph) -> Iterator[Tensor]:
    return (Tensor.parse(value) for number, _, value, _ in graph.fields() if number == INITIALIZER)


def _named(graph: OnnxGraph) -> dict[str, tuple[Tensor, bool]]:
    """Parameter name -> its initializer, and whether that is transposed."""
    nodes = [Node.parse(value) for number, _, value, _ in graph.fields() if number == NODE]
    casts = {
        name: node.outputs[0] for node in nodes if node.operator == "Cast" for name in node.inputs
    }
    readers = {name: node for node in nodes for name in node.inputs}
    found = {}
    for tensor in _tensors(graph):
        reader = readers.get(casts.get(tensor.name, tensor.name), Node())
        meant = parameter_name(tensor.name, reader.name, reader.operator)
        if meant is not None:
            found[meant[0]] = tensor, meant[1]
    return found
