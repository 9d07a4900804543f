"""Stable Diffusion XL's prompt: two text encoders side by side, and a pooled vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engines.protocol import Graph
from ..errors import BundleError, EngineError, Message, SettingError
from .chunks import Chunk, ChunkedText
from .encoder import Array, Outputs, TextEncoder
from .tokenizer import ClipTokenizer

_STATE = "hidden_states."


@dataclass(frozen=True)
class PairedText:
    """A text as two CLIPs read it, each by its own tokenizer.

    They differ in the token that they pad with, which is one in a prompt too ("!" of OpenCLIP's),
    and may know different added tokens.
    """

    first: ChunkedText
    second: ChunkedText

    @property
    def length(self) -> int:
        """Chunks of whichever has more: the other is padded to as many."""
        return max(self.first.length, self.second.length)

    @property
    def tokens(self) -> int:
        """By whichever tokenizer makes more of them."""
        return max(self.first.tokens, self.second.tokens)

    @property
    def dropped(self) -> Sequence[str]:
        return list(dict.fromkeys((*self.first.dropped, *self.second.dropped)))


class XLTextEncoder:
    """CLIP's text model beside OpenCLIP's."""

    def __init__(self, first: Graph, second: Graph) -> None:
        self._first = TextEncoder(first, penultimate)
        self._second = PooledTextEncoder(second)

    def encode(
        self, text: PairedText, length: int, clip_skip: int | None = None
    ) -> Mapping[str, Array]:
        """clip_skip: layers before the penultimate, which is the one that XL was trained on."""
        first = self._first.embedding(text.first.padded(length), clip_skip)
        second = self._second.encode(text.second, length, clip_skip)
        embedding = np.concatenate([first, second["encoder_hidden_states"]], axis=2)
        return {**second, "encoder_hidden_states": embedding}


class PooledTextEncoder:
    """OpenCLIP's text model alone, with its pooled output: XL's second, all that its refiner has.

    graph: gives "text_embeds", the pooled output projected, beside its layers.
    """

    def __init__(self, graph: Graph) -> None:
        self._encoder = TextEncoder(graph, penultimate)

    def encode(
        self, text: ChunkedText, length: int, clip_skip: int | None = None
    ) -> Mapping[str, Array]:
        chunks = text.padded(length)
        return {
            "encoder_hidden_states": self._encoder.embedding(chunks, clip_skip),
            # The first chunk's, as in webui: it has the words that a prompt begins with.
            "text_embeds": pooled(self._encoder, chunks[0]),
        }


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


def check_pair(first: ClipTokenizer, second: ClipTokenizer) -> None:
    """Raise BundleError where a model's two tokenizers have other marks or lengths."""
    if (first.bos, first.eos, first.max_length) != (second.bos, second.eos, second.max_length):
        raise BundleError(
            "tokenizer and tokenizer_2 have other marks or lengths; take both from one model"
        )
