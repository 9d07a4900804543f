"""Stable Diffusion XL's prompt: two text encoders side by side, and a pooled vector."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ..engines.protocol import Graph
from ..errors import BundleError, EngineError, Message, SettingError
from .chunks import Chunk, ChunkedText
from .encoder import Array, Outputs, TextEncoder
from .tokenizer import ClipTokenizer

_STATE = "hidden_states."


class XLTextEncoder:
    """CLIP's text model beside OpenCLIP's; the refiner has the second alone.

    second: gives "text_embeds", the pooled output projected, beside its layers.
    first: None for the refiner.
    padded: a chunk as the second's tokenizer pads it.
    """

    def __init__(
        self,
        second: Graph,
        first: Graph | None = None,
        padded: Callable[[Chunk], Chunk] = lambda chunk: chunk,
    ) -> None:
        self._second = TextEncoder(second, penultimate)
        self._first = TextEncoder(first, penultimate) if first else None
        self._padded = padded

    def encode(
        self, text: ChunkedText, length: int, clip_skip: int | None = None
    ) -> Mapping[str, Array]:
        """clip_skip: layers before the penultimate, which is the one that XL was trained on."""
        chunks = text.padded(length)
        embedding = self._second.embedding([self._padded(chunk) for chunk in chunks], clip_skip)
        if self._first is not None:
            first = self._first.embedding(chunks, clip_skip)
            embedding = np.concatenate([first, embedding], axis=2)
        # The first chunk's, as in webui: it has the words that a prompt begins with.
        vector = pooled(self._second, self._padded(chunks[0]))
        return {"encoder_hidden_states": embedding, "text_embeds": vector}


def pooled(encoder: TextEncoder, chunk: Chunk) -> Array:
    """A chunk's pooled output, projected: float32, (1, projection_dim)."""
    outputs = encoder.outputs(chunk)
    if "text_embeds" not in outputs:
        raise EngineError("this model's text encoder gives no text_embeds; export it anew")
    return outputs["text_embeds"]


def penultimate(outputs: Outputs, clip_skip: int | None) -> Array:
    """The raw state of the layer `clip_skip` before the last but one."""
    layers = sum(name.startswith(_STATE) for name in outputs) - 1
    if layers < 1:
        raise EngineError(
            "this model's text encoder hands out its last layer alone; export it anew"
        )
    chosen = layers - 1 - (clip_skip or 0)
    # State 0 is the embedding: before every layer it is no text encoder any more.
    if (clip_skip and chosen < 1) or chosen >= layers:
        raise SettingError(
            Message("{clip_skip} is {0}; this model takes 0 to {1}", clip_skip, max(layers - 2, 0))
        )
    return outputs[f"{_STATE}{chosen}"]


def repadding(first: ClipTokenizer, second: ClipTokenizer) -> Callable[[Chunk], Chunk]:
    """From a chunk that `first` framed to the same for `second`, which pads with another token.

    Raises BundleError where they differ in more than that: chunks are cut once, for both.
    """
    if (first.bos, first.eos, first.max_length) != (second.bos, second.eos, second.max_length):
        raise BundleError(
            "tokenizer and tokenizer_2 have other marks or lengths; take both from one model"
        )

    def padded(chunk: Chunk) -> Chunk:
        ids = chunk.ids[0].tolist()
        while ids[-1] == first.pad and ids[-1] != first.eos:
            ids.pop()
        while ids[-1] == first.eos:
            ids.pop()
        return dataclasses.replace(chunk, ids=second.framed(ids[1:]))

    return padded
