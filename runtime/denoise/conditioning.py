"""What the denoiser is told, branch by branch and step by step."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .guidance import Guidance

Array: TypeAlias = NDArray[np.float32]
Inputs: TypeAlias = Mapping[str, Array]
"""Name of an input of the denoiser -> its value, of one row."""


@dataclass(frozen=True)
class Conditioning:
    """What the branches are told in one step.

    branches: branch -> inputs; all branches have the same inputs, of the same shapes.
    keys: branch -> another one whenever its inputs change in the course of a picture.
    """

    branches: Mapping[str, Inputs]
    keys: Mapping[str, Hashable]

    def batch(self, branches: Sequence[str]) -> dict[str, Array]:
        """The inputs for a batch of these branches, a row each."""
        rows = [self.branches[branch] for branch in branches]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def key(self, branches: Sequence[str]) -> Hashable:
        """Another one whenever the inputs of that batch change in the course of a picture."""
        return tuple(self.keys[branch] for branch in branches)

    def shapes(self, branches: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Of those inputs."""
        return {name: value.shape for name, value in self.batch(branches).items()}


@dataclass(frozen=True)
class Schedule:
    """The conditionings of a picture: prompts may change while it is painted.

    each: the different ones. order: for each step the number of its one.
    guidance: how the predictions of their branches are combined.
    """

    each: Sequence[Conditioning]
    order: Sequence[int]
    guidance: Guidance = Guidance()  # noqa: RUF009 (frozen)

    def at(self, step: int) -> Conditioning:
        """That of a step, counted from 0 over all steps that were asked for."""
        return self.each[self.order[step]]
