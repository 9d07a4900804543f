"""What the UNet attends to, step by step: prompt and negative prompt, of one length."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from . import LONG_PROMPTS, SYNTAXES
from .chunks import Chunk, chunks_of, empty_chunk
from .encoder import Encoder
from .schedule import texts_by_step
from .tokenizer import ClipTokenizer

log = logging.getLogger("pleinair")

Array: TypeAlias = NDArray[np.float32]
Join: TypeAlias = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt before any computing.

    texts: the chunks of each different text that it is in the course of a picture.
    order: for each step the number of its text.
    empty: the chunk that pads it to the length of another prompt.
    """

    texts: Sequence[Sequence[Chunk]]
    order: Sequence[int]
    empty: Chunk

    @property
    def length(self) -> int:
        """Chunks of the longest text."""
        return max(len(chunks) for chunks in self.texts)


@dataclass(frozen=True)
class Conditioning:
    """Embeddings for each step of a picture.

    embeddings: the different ones, float32 (batch, tokens, width), all of one shape; the batch is
        what guidance compares, 1 without it.
    order: for each step the number of its embedding.
    pooled: beside each embedding the same prompts in one vector each, (batch, width); empty where
        the UNet asks for none.
    constants: what else the UNet is told, the same in all steps: input -> (batch, width).
    """

    embeddings: Sequence[Array]
    order: Sequence[int]
    pooled: Sequence[Array] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.embeddings[0].shape

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the UNet's inputs in every step."""
        return {name: value.shape for name, value in self.inputs(0).items()}

    def at(self, step: int) -> Array:
        """The embedding for a step, counted from 0."""
        return self.embeddings[self.order[step]]

    def inputs(self, step: int) -> dict[str, Array]:
        """The UNet's inputs for a step, by their names."""
        pooled = {"text_embeds": self.pooled[self.order[step]]} if self.pooled else {}
        return {"encoder_hidden_states": self.at(step), **pooled, **self.constants}


def tokenized(
    tokenizer: ClipTokenizer,
    prompt: str,
    steps: int,
    syntax: str = "webui",
    long_prompt: str = "chunk",
) -> TokenizedPrompt:
    """Read a prompt for a picture of `steps` steps: schedule, weights, tokens, chunks.

    syntax: "webui" or "plain", see `text.SYNTAXES`.
    long_prompt: "chunk", "stop" or "truncate", see `text.LONG_PROMPTS`. One line is logged
        where there is more than one chunk.
    Raises PromptError where "stop" has to, and SettingError for another word.
    """
    for name, value, known in (
        ("syntax", syntax, SYNTAXES),
        ("long_prompt", long_prompt, LONG_PROMPTS),
    ):
        if value not in known:
            raise SettingError(f"{name} is {value!r}; choose from: {', '.join(known)}")
    by_step = texts_by_step(prompt, steps) if syntax == "webui" else [prompt] * steps
    number = {text: i for i, text in enumerate(dict.fromkeys(by_step))}
    texts = [chunks_of(tokenizer, text, syntax, long_prompt) for text in number]
    read = TokenizedPrompt(texts, [number[text] for text in by_step], empty_chunk(tokenizer))
    if read.length > 1:
        log.info("prompt is read in %d chunks of %d tokens", read.length, tokenizer.room)
    return read


def condition(
    encoder: Encoder,
    prompt: TokenizedPrompt,
    negative: TokenizedPrompt | None,
    join: Join | None,
    clip_skip: int | None = None,
) -> Conditioning:
    """Encode a prompt, and the negative one where there is guidance; each chunk only once.

    Both were read for the same steps. The shorter is padded with the encoding of the empty text,
    as webui pads, and so is each text of a prompt that changes: the UNet keeps one shape.
    negative: None is zeros, which Stable Diffusion XL was trained to take for no prompt at all.
    join: makes one batch of the prompt's and the negative prompt's embedding, as the guidance
        wants it; None where nothing guides, and the negative prompt is left out.
    clip_skip is for the prompt alone, as in diffusers.
    Raises SettingError where the model has fewer layers than clip_skip asks for.
    """
    if join is None:
        own = _encoded(encoder, prompt, prompt.length, clip_skip)
        return Conditioning(own, prompt.order, _pooled(encoder, prompt))
    if negative is None:
        own = _encoded(encoder, prompt, prompt.length, clip_skip)
        batches = [join(embedding, np.zeros_like(embedding)) for embedding in own]
        pooled = [join(vector, np.zeros_like(vector)) for vector in _pooled(encoder, prompt)]
        return Conditioning(batches, prompt.order, pooled)
    length = max(prompt.length, negative.length)
    own = _encoded(encoder, prompt, length, clip_skip)
    against = _encoded(encoder, negative, length, None)
    pairs = list(zip(prompt.order, negative.order, strict=True))
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    batches = [join(own[ours], against[theirs]) for ours, theirs in number]
    own, against = _pooled(encoder, prompt), _pooled(encoder, negative)
    pooled = [join(own[ours], against[theirs]) for ours, theirs in number] if own else []
    return Conditioning(batches, [number[pair] for pair in pairs], pooled)


def _pooled(encoder: Encoder, prompt: TokenizedPrompt) -> list[Array]:
    """A vector for each text; none where the encoder has none."""
    vectors = [encoder.pooled(chunks) for chunks in prompt.texts]
    return [vector for vector in vectors if vector is not None]


def _encoded(
    encoder: Encoder, prompt: TokenizedPrompt, length: int, clip_skip: int | None
) -> list[Array]:
    return [
        encoder.encode([*chunks, *[prompt.empty] * (length - len(chunks))], clip_skip)
        for chunks in prompt.texts
    ]
