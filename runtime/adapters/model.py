"""A model's adapters: what becomes of the weights of each of its graphs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ..graphs.changes import Array, Change, Changes
from ..graphs.weights import shapes
from . import fitting
from .inversion import Words
from .lora import Lora


def changes(
    graphs: Mapping[str, Path], loras: Sequence[Lora] = (), words: Words | None = None
) -> dict[str, Changes]:
    """Part -> changes, for the graphs of one model that the files touch.

    graphs: part -> its `.xml` or `.onnx`, of the text encoders and the denoiser.
    Nothing is compiled and no weight is loaded. Raises AdapterError, naming layers and the kinds
    of model, where a file does not fit.
    """
    taught = words if words is not None and words.embeddings else None
    if not loras and taught is None:
        return {}
    weights = {part: shapes(path) for part, path in graphs.items()}
    added = fitting.changes(loras, weights)
    rows = taught.changes(weights) if taught else {}
    return {part: _both(added.get(part, {}), rows.get(part, {})) for part in {*added, *rows}}


def _both(added: Changes, taught: Changes) -> Changes:
    """LoRA first: a file that changes the embedding matrix knows nothing of the words' rows."""
    chained = {
        name: partial(_one_after_the_other, added[name], taught[name])
        for name in added
        if name in taught
    }
    return {**added, **taught, **chained}


def _one_after_the_other(first: Change, second: Change, weight: Array) -> Array:
    return second(first(weight))
