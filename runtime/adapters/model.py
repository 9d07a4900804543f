"""A model's adapters: what becomes of the weights of each of its graphs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import AdapterError
from ..graphs.changes import Array, Change, Changes, require_held
from ..graphs.weights import ChangedWeights, shapes, shapes_in_8_bits
from . import fitting
from .inversion import Words
from .lora import Lora
from .peft import settings_beside


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


def changed_weights(
    graphs: Mapping[str, Path],
    files: Mapping[str, Path],
    loras: Sequence[Lora] = (),
    words: Words | None = None,
) -> dict[str, ChangedWeights]:
    """Part -> the edit of its graph, for the graphs of one model that LoRA and other files touch.

    graphs: as in `changes`, in floats. files: part -> the graph that is painted with; where that
        is another one, it has weights of 8 bits.
    Raises AdapterError as `changes`, and where such a graph lacks a weight that is to be changed.
    """
    found = {}
    for part, made in changes(graphs, loras, words).items():
        asked = _asked(loras, words if part.startswith("text_encoder") else None)
        if files[part] == graphs[part]:
            found[part] = ChangedWeights(made, asked=asked)
        else:
            try:
                require_held(made, shapes_in_8_bits(files[part]))
            except AdapterError as error:
                raise AdapterError(f"{files[part]}: {error}") from None
            found[part] = ChangedWeights(made, graphs[part], asked)
    return found


def _asked(loras: Sequence[Lora], words: Words | None) -> Any:
    """Which files they are, whether they are still the same, and how much is added of each."""
    asked: list[Any] = []
    for one in loras:
        asked.append([one.weight, _facts(one.path, settings_beside(one.path))])
    for word in words.embeddings if words else ():
        asked.append([word.word, _facts(word.path)])
    return asked


def _facts(*files: Path | None) -> list[list[Any]]:
    found = []
    for file in files:
        if file and file.exists():
            state = file.stat()
            found.append([str(file.resolve()), state.st_size, state.st_mtime_ns])
    return found


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
