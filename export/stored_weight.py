"""Weights that stay in the checkpoint's file until a network computes with them.

As float32 a UNet of Stable Diffusion XL has 10 GB. So its module has the large weights on the meta
device, where they are a shape alone; each layer reads its own when it is called and forgets them
afterwards, and a graph's file is written weight by weight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .pages import MappedFiles, release

# Layers that nothing reads the weights of but their own call.
_LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding)

Change = Callable[[np.ndarray], np.ndarray]


class StoredWeight(nn.Parameter):
    """A parameter without values, which knows where they are.

    source: as the checkpoint stores it; it may be mapped.
    change: what a LoRA makes of it, in float32.
    rounded: to what float16 has, after that.
    """

    source: Tensor
    change: Change | None
    rounded: bool
    _is_mapped: bool

    def __new__(cls, source: Tensor, files: MappedFiles) -> "StoredWeight":
        empty = torch.empty(source.shape, dtype=torch.float32, device="meta")
        made: StoredWeight = torch.Tensor._make_subclass(cls, empty, False)
        made.source, made.change, made.rounded = source, None, False
        made._is_mapped = files.hold(source)
        return made

    def read(self) -> Tensor:
        """Its values as float32, in memory of their own."""
        values = self.source.to(torch.float32, copy=True)
        if self._is_mapped:
            release(self.source)
        if self.change is not None:
            values = torch.from_numpy(np.ascontiguousarray(self.change(values.numpy())))
        return values.half().float() if self.rounded else values


def can_stay(layer: nn.Module, name: str) -> bool:
    """Whether the parameter of that name may be a `StoredWeight`."""
    return type(layer) in _LAYERS and name == "weight"


def read_when_called(module: nn.Module) -> None:
    """Let each layer of a network have the values of its weights while it computes."""
    for layer in module.modules():
        for name, parameter in layer._parameters.items():
            if isinstance(parameter, StoredWeight):
                call = _Call(name, parameter)
                layer.register_forward_pre_hook(call.begins)
                layer.register_forward_hook(call.ends)


def stored_weights(module: nn.Module) -> dict[str, StoredWeight]:
    """The weights of a network that are not in memory, by name; one that layers share, once."""
    named = module.named_parameters()
    return {name: weight for name, weight in named if isinstance(weight, StoredWeight)}


@dataclass
class _Call:
    """A layer's call: its weight is there from beginning to end, unless a tracer put another."""

    name: str
    weight: StoredWeight
    values: nn.Parameter | None = None

    def begins(self, layer: nn.Module, inputs: Any) -> None:
        if layer._parameters[self.name] is self.weight:
            self.values = nn.Parameter(self.weight.read(), requires_grad=False)
            layer._parameters[self.name] = self.values

    def ends(self, layer: nn.Module, inputs: Any, outputs: Any) -> None:
        if layer._parameters[self.name] is self.values:
            layer._parameters[self.name], self.values = self.weight, None
