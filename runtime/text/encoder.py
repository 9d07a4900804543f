"""A prompt's embedding: what the UNet attends to."""

import logging

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Graph
from ..errors import EngineError, SettingError
from .tokenizer import ClipTokenizer

log = logging.getLogger("pleinair")

_HIDDEN = "hidden_states."


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
        last = next(iter(outputs.values()))
        return _skip_layers(outputs, last, clip_skip) if clip_skip else last


def _skip_layers(
    outputs: dict[str, NDArray[np.float32]], last: NDArray[np.float32], clip_skip: int
) -> NDArray[np.float32]:
    layers = sorted(
        (name for name in outputs if name.startswith(_HIDDEN)),
        key=lambda name: int(name.removeprefix(_HIDDEN)),
    )
    if not layers:
        raise EngineError("clip_skip needs the text encoder's hidden states; export the model anew")
    if not 0 <= clip_skip < len(layers):
        raise SettingError(f"clip_skip is {clip_skip}; this model takes 0 to {len(layers) - 1}")
    gain, bias = _final_norm(outputs[layers[-1]], last)
    return _normalized(outputs[layers[-1 - clip_skip]]) * gain + bias


def _final_norm(
    before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and bias of the text model's last layer norm, one a channel.

    Earlier layers go through the same norm (as diffusers has it), but graphs hold its weights
    under no common name. It is affine in each channel, so its values before and after, over all
    tokens, give the two numbers by least squares.
    """
    x = _normalized(before).astype(np.float64)[0]
    y = after.astype(np.float64)[0]
    x_mean, y_mean = x.mean(0), y.mean(0)
    gain = ((x - x_mean) * (y - y_mean)).sum(0) / np.square(x - x_mean).sum(0)
    return gain.astype(np.float32), (y_mean - gain * x_mean).astype(np.float32)


def _normalized(hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = hidden.mean(-1, keepdims=True)
    variance = hidden.var(-1, keepdims=True)
    normalized: NDArray[np.float32] = (hidden - mean) / np.sqrt(variance + 1e-5)
    return normalized
