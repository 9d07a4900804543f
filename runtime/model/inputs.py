"""The inputs of a denoiser's graph, held against what it is going to be given."""

from collections.abc import Sequence
from pathlib import Path

from ..engines.protocol import Shapes
from ..errors import BundleError, shown
from ..graphs import ports


def check(path: Path, given: Shapes, *, timestep: str, sample: str) -> None:
    """Raise BundleError where a denoiser's graph takes other inputs than these and a timestep.

    given: by the graph's own names, of a batch of one and any size in pixels; a size of 0 is not
        known. Sizes of rows, columns and tokens may be fixed at others: that is for the engine.
    """
    found = ports.inputs(path)
    if not found:
        return  # no graph that can be read: the engine says so
    wanted = {*given, timestep}
    if missing := sorted(wanted - found.keys()):
        raise BundleError(
            f"{path}: has no input {missing[0]}; it has {shown(', '.join(sorted(found)), 300)}: "
            "the graph is not of the expected kind"
        )
    if more := sorted(found.keys() - wanted):
        raise BundleError(
            f"{path}: wants {shown(', '.join(more), 300)}, which this kind of model is not given; "
            "it cannot be painted with"
        )
    for name, shape in given.items():
        where = 1 if name == sample else -1  # channels, or values
        fixed = found[name]
        if fixed is None:
            continue
        if len(fixed) != len(shape) or (
            len(shape) > 1 and shape[where] and fixed[where] not in (None, shape[where])
        ):
            raise BundleError(
                f"{path}: its input {name} has the shape {_written(fixed)}, not "
                f"{_written(shape)}; take all parts from one model"
            )
    batch, one = found[sample], found[timestep] or ()
    if any(size not in (None, 1, batch[0] if batch else 1) for size in one):
        raise BundleError(
            f"{path}: takes a timestep of shape {_written(one)}, not one number; "
            "convert the model anew"
        )


def _written(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape[:8]) + "]"
