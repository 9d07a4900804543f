"""Stable Diffusion 3's prompt: two CLIPs side by side, T5 behind them, and a pooled vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engines.protocol import Graph
from .chunks import ChunkedText
from .encoder import Array, TextEncoder
from .t5 import t5_encoder
from .xl import PairedText, penultimate, pooled


@dataclass(frozen=True)
class TripleText:
    """A text as the three text encoders read it.

    clips: in chunks of both CLIPs'. t5: in chunks of T5's; None where the model is without it.
    """

    clips: PairedText
    t5: ChunkedText | None

    @property
    def length(self) -> int:
        """Chunks of whichever has more: the other is padded to as many."""
        return max(self.clips.length, self.t5.length if self.t5 else 0)

    @property
    def tokens(self) -> int:
        """By whichever tokenizer makes more of them."""
        return max(self.clips.tokens, self.t5.tokens if self.t5 else 0)

    @property
    def dropped(self) -> Sequence[str]:
        return [*self.clips.dropped, *(self.t5.dropped if self.t5 else ())]


class TripleTextEncoder:
    """Token by token: both CLIPs' values, padded with zeros to T5's width; after them T5's tokens.

    first, second: give "text_embeds", the pooled output projected, beside their layers.
    third: T5's; None puts zeros in the place of its tokens, as diffusers does.
    width: values of a token, as the denoiser takes them.
    max_sequence_length: T5's tokens of a chunk.
    """

    def __init__(
        self,
        first: Graph,
        second: Graph,
        third: Graph | None,
        *,
        width: int,
        max_sequence_length: int,
    ) -> None:
        self._first = TextEncoder(first, penultimate)
        self._second = TextEncoder(second, penultimate)
        self._third = t5_encoder(third) if third else None
        self._width = width
        self._max_sequence_length = max_sequence_length

    def encode(
        self, text: TripleText, length: int, clip_skip: int | None = None
    ) -> Mapping[str, Array]:
        """encoder_hidden_states: (1, length x (77 + max_sequence_length), width).

        clip_skip: layers before CLIP's penultimate, which is the one that is trained on.
        """
        firsts, seconds = text.clips.first.padded(length), text.clips.second.padded(length)
        first = self._first.embedding(firsts, clip_skip)
        second = self._second.embedding(seconds, clip_skip)
        clip = np.concatenate([first, second], axis=2)
        clip = np.pad(clip, ((0, 0), (0, 0), (0, self._width - clip.shape[2])))
        # The first chunk's, as in webui: it has the words that a prompt begins with.
        vectors = pooled(self._first, firsts[0]), pooled(self._second, seconds[0])
        return {
            "encoder_hidden_states": np.concatenate([clip, self._t5(text.t5, length)], axis=1),
            "pooled_projections": np.concatenate(vectors, axis=1),
        }

    def _t5(self, text: ChunkedText | None, length: int) -> Array:
        if self._third is None or text is None:
            return np.zeros((1, length * self._max_sequence_length, self._width), np.float32)
        return self._third.embedding(text.padded(length))
