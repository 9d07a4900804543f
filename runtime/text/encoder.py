"""CLIP's text model: a prompt's embedding, which a denoiser attends to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Graph
from ..errors import EngineError, Message, SettingError
from .chunks import Chunk, ChunkedText

Array = NDArray[np.float32]


Outputs = dict[str, Array]
Layer = Callable[[Outputs, int | None], Array]
"""The embedding among a graph's outputs, for a clip_skip."""


class Encoder(Protocol):
    """From texts to what a denoiser is told of them."""

    def encode(self, text: Any, length: int, clip_skip: int | None = None) -> Mapping[str, Array]:
        """The denoiser's inputs for a text padded to `length`, a row each, by their names.

        Raises SettingError where the model has fewer layers than clip_skip asks for.
        """
        ...


class TextEncoder:
    """A text model; what it has read once it remembers, so keep one object a call.

    layer: None is CLIP's last.
    keep_mean: scale an embedding with weights so that its mean is what it was without, as webui
        does for CLIP.
    """

    def __init__(self, graph: Graph, layer: Layer | None = None, *, keep_mean: bool = True) -> None:
        self._graph = graph
        self._layer = layer or _last
        self._keep_mean = keep_mean
        self._outputs: dict[bytes, dict[str, Array]] = {}

    def encode(
        self, text: ChunkedText, length: int, clip_skip: int | None = None
    ) -> Mapping[str, Array]:
        return {"encoder_hidden_states": self.embedding(text.padded(length), clip_skip)}

    def embedding(self, chunks: Sequence[Chunk], clip_skip: int | None = None) -> Array:
        """Of a text's chunks side by side: float32, (1, chunks x max_length, width).

        clip_skip: take the layer this many before the last; None or 0 is the last.
        """
        return np.concatenate([self._chunk(chunk, clip_skip) for chunk in chunks], axis=1)

    def outputs(self, chunk: Chunk) -> Outputs:
        """All that the graph gives for a chunk."""
        key = chunk.ids.tobytes()
        if key not in self._outputs:
            self._outputs[key] = self._graph({"input_ids": chunk.ids})
        return self._outputs[key]

    def _chunk(self, chunk: Chunk, clip_skip: int | None) -> Array:
        embedding = self._layer(self.outputs(chunk), clip_skip)
        if (chunk.weights == 1).all():
            return embedding
        return _weighted(embedding, chunk.weights, self._keep_mean)


def check_clip_skip(
    clip_skip: int | None, configs: Iterable[Mapping[str, Any]], *, left: int
) -> None:
    """Raise SettingError where one of CLIP's text models has too few layers for a clip_skip.

    configs: their config.json; those that do not say how many layers there are are passed over.
    left: layers that no clip_skip can leave out.
    """
    depths = [config.get("num_hidden_layers") for config in configs]
    layers = [depth for depth in depths if isinstance(depth, int)]
    if clip_skip is None or not layers:
        return
    most = max(min(layers) - left, 0)
    if not isinstance(clip_skip, int) or not 0 <= clip_skip <= most:
        raise SettingError(
            Message("{clip_skip} is {0}; this model takes 0 to {1}", clip_skip, most)
        )


def _weighted(embedding: Array, weights: NDArray[np.float64], keep_mean: bool) -> Array:
    """Rows times their weights; to keep the mean, then all times one number.

    So webui does it: the denoiser was trained on embeddings of one scale.
    """
    weighted = embedding * weights[None, :, None]
    mean = weighted.mean()
    if keep_mean and mean:
        weighted *= embedding.mean(dtype=np.float64) / mean
    return weighted.astype(np.float32)


def _last(outputs: Outputs, clip_skip: int | None) -> Array:
    return _skipped(outputs, clip_skip) if clip_skip else next(iter(outputs.values()))


def _skipped(outputs: dict[str, Array], clip_skip: int) -> Array:
    """An earlier layer's state after the final layer norm, which our exporter puts in the graph."""
    skips = [name for name in outputs if name.startswith("clip_skip.")]
    if not skips:
        raise EngineError(
            "this model's text encoder hands out its last layer alone; export it anew"
        )
    if f"clip_skip.{clip_skip}" not in outputs:
        raise SettingError(
            Message("{clip_skip} is {0}; this model takes 0 to {1}", clip_skip, len(skips))
        )
    return outputs[f"clip_skip.{clip_skip}"]
