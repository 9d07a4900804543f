"""A graph to trace: its module, the names of its ends, the inputs it is tried with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
Ends = dict[str, dict[int, str]]
"""Name of an input or output -> its free dimensions, {axis: name}."""


@dataclass(frozen=True)
class Graph:
    """One graph, ready to be traced.

    module: called with `inputs` by name; gives a tensor, or a tuple of one for each of `outputs`.
    inputs, outputs: the names of its ends, with their free dimensions.
    cases: sets of inputs on which the exported graph is compared with the module; the first one is
        what tracing sees.
    scalars: inputs of one number a batch, all the same, that are one float without dimensions in
        ONNX, as optimum has them there.
    """

    name: str
    module: nn.Module
    inputs: Ends
    outputs: Ends
    cases: Sequence[Callable[[], Inputs]]
    scalars: frozenset[str] = frozenset()

    def example(self) -> Inputs:
        return self.cases[0]()


class Wrapper(nn.Module):
    """A network, called `model` in the names of what is traced, behind a `forward` of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model


def normal(*shape: int) -> Tensor:
    """Standard normal numbers that are the same in every run: a manifest can be repeated."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
