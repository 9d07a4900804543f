"""Stable Diffusion 3's prompt: two CLIPs side by side, T5 behind them, and a pooled vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..engines.protocol import Graph
from .chunks import Chunk, ChunkedText
from .encoder import Array, TextEncoder
from .t5 import t5_encoder
from .xl import penultimate, pooled


@dataclass(frozen=True)
class TripleText:
    """A text as the three text encoders read it.

    clip: in chunks of CLIP's. t5: in chunks of T5's; None where the model is without it.
    """

    clip: ChunkedText
    t5: ChunkedText | None

    @property
    def length(self) -> int:
        """Chunks of whichever has more: the other is padded to as many."""
        return max(self.clip.length, self.t5.length if self.t5 else 0)


class TripleTextEncoder:
    """Token by token: both CLIPs' values, padded with zeros to T5's width; after them T5's tokens.

    first, second: give "text_embeds", the pooled output projected, beside their layers.
    third: T5's; None puts zeros in the place of its tokens, as diffusers does.
    padded: a chunk as the second's tokenizer pads it.
    width: values of a token, as the denoiser takes them.
    max_sequence_length: T5's tokens of a chunk.
    """

    def __init__(
        self,
        first: Graph,
        second: Graph,
        third: Graph | None,
        *,
        padded: Callable[[Chunk], Chunk],
        width: int,
        max_sequence_length: int,
    ) -> None:
        self._first = TextEncoder(first, penultimate)
        self._second = TextEncoder(second, penultimate)
        self._third = t5_encoder(third) if third else None
        self._padded = padded
        self._width = width
        self._max_sequence_length = max_sequence_length

    def encode(
        self, text: TripleText, length: int, clip_skip: int | None = None
    ) -> Mapping[str, Array]:
        """encoder_hidden_states: (1, length x (77 + max_sequence_length), width).

        clip_skip: layers before CLIP's penultimate, which is the one that is trained on.
        """
        chunks = text.clip.padded(length)
        repadded = [self._padded(chunk) for chunk in chunks]
        first = self._first.embedding(chunks, clip_skip)
        second = self._second.embedding(repadded, clip_skip)
        clip = np.concatenate([first, second], axis=2)
        clip = np.pad(clip, ((0, 0), (0, 0), (0, self._width - clip.shape[2])))
        # The first chunk's, as in webui: it has the words that a prompt begins with.
        vectors = pooled(self._first, chunks[0]), pooled(self._second, repadded[0])
        return {
            "encoder_hidden_states": np.concatenate([clip, self._t5(text.t5, length)], axis=1),
            "pooled_projections": np.concatenate(vectors, axis=1),
        }

    def _t5(self, text: ChunkedText | None, length: int) -> Array:
        if self._third is None or text is None:
            return np.zeros((1, length * self._max_sequence_length, self._width), np.float32)
        return self._third.embedding(text.padded(length))
