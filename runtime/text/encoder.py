"""A prompt's embedding: what the UNet attends to."""

import logging

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Graph
from ..errors import EngineError, SettingError
from .tokenizer import ClipTokenizer

log = logging.getLogger("pleinair")


class TextEncoder:
    """CLIP's text model behind its tokenizer."""

    def __init__(self, tokenizer: ClipTokenizer, graph: Graph) -> None:
        self._tokenizer = tokenizer
        self._graph = graph

    def __call__(self, prompt: str, clip_skip: int | None = None) -> NDArray[np.float32]:
        """Embedding of one prompt, float32 of shape (1, tokens, width).

        clip_skip: take the layer this many before the last; None or 0 is the last.
        A prompt that is too long is cut, and the words lost are logged as a warning.
        Raises SettingError where the model has fewer layers than clip_skip asks for.
        """
        tokens = self._tokenizer(prompt)
        if tokens.dropped:
            log.warning(
                "prompt is %d tokens long and %d fit; dropped: %s",
                tokens.count,
                self._tokenizer.max_length,
                tokens.dropped,
            )
        outputs = self._graph({"input_ids": tokens.ids})
        if not clip_skip:
            return next(iter(outputs.values()))
        return _skipped(outputs, clip_skip)


def _skipped(outputs: dict[str, NDArray[np.float32]], clip_skip: int) -> NDArray[np.float32]:
    """An earlier layer's state after the final layer norm, which our exporter puts in the graph."""
    skips = [name for name in outputs if name.startswith("clip_skip.")]
    if not skips:
        raise EngineError(
            "this model's text encoder hands out its last layer alone; export it anew"
        )
    if f"clip_skip.{clip_skip}" not in outputs:
        raise SettingError(f"clip_skip is {clip_skip}; this model takes 0 to {len(skips)}")
    return outputs[f"clip_skip.{clip_skip}"]
