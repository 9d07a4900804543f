"""A network as a tracer takes it: large weights are inputs, behind those of the graph.

A tracer runs the network once and keeps its weights as constants. Here neither it nor what makes a
graph of the trace needs their values: they see one number of each, repeated.
"""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .graphs.graph import Graph
from .stored_weight import StoredWeight, stored_weights


@dataclass(frozen=True)
class Traced:
    """What is traced of a graph.

    module: called with `inputs` and then `stand_ins`, by position.
    weights: the weights that the stand-ins are for, in the same order, by their names in `module`.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    weights: dict[str, StoredWeight]
    stand_ins: tuple[Tensor, ...]


@contextlib.contextmanager
def opened(graph: Graph, inputs: dict[str, Tensor]) -> Iterator[Traced]:
    """The graph's network with its weights open; inside the block it is of no other use."""
    weights = stored_weights(graph.module)
    places = {id(weight): name for name, weight in weights.items()}
    readers = [
        (layer, end, places[id(parameter)])
        for layer in graph.module.modules()
        for end, parameter in layer._parameters.items()
        if id(parameter) in places
    ]

    class Opened(type(graph.module)):  # type: ignore[misc]
        def forward(self, *given: Tensor) -> Any:
            values = dict(zip(weights, given[len(inputs) :], strict=True))
            for layer, end, name in readers:
                layer._parameters[end] = cast(nn.Parameter, values[name])
            return super().forward(*given[: len(inputs)])

    module = copy.copy(graph.module)
    module.__class__ = Opened
    stand_ins = tuple(torch.zeros(()).expand(weight.shape) for weight in weights.values())
    try:
        yield Traced(module, tuple(inputs.values()), weights, stand_ins)
    finally:
        for layer, end, name in readers:
            layer._parameters[end] = weights[name]
