"""Prompts to conditioning: each text is encoded once, and told to the branches that see it."""

from collections.abc import Callable

import numpy as np

from ..denoise.conditioning import Conditioning, Inputs, Schedule
from ..denoise.guidance import CONDITIONAL, Guidance
from ..text.encoder import Encoder
from ..text.prompt import TokenizedPrompt


def conditioned(
    encoder: Encoder,
    prompt: TokenizedPrompt,
    negative: TokenizedPrompt | None,
    *,
    guidance: Guidance,
    extra_inputs: Callable[[str], Inputs],
    clip_skip: int | None = None,
) -> Schedule:
    """What the denoiser is told of a prompt and, where branches are compared, of a negative one.

    Both were read for the same steps. The shorter is padded with the encoding of the empty text,
    as webui pads, and so is each text of a prompt that changes: the denoiser keeps one shape.
    negative: None is zeros, which some models were trained to take for no prompt at all.
    extra_inputs: what a branch is told beside its text.
    clip_skip is for the prompt alone, as in diffusers.
    Raises SettingError where the model has fewer layers than clip_skip asks for.
    """
    length = max(prompt.length, negative.length if negative and guidance.guides else 0)
    texts = [encoder.encode(text, length, clip_skip) for text in prompt.texts]
    against: list[Inputs] = []
    pairs = [(text, 0) for text in prompt.order]
    if guidance.guides and negative is not None:
        against = [encoder.encode(text, length) for text in negative.texts]
        pairs = list(zip(prompt.order, negative.order, strict=True))
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    branches = guidance.branches

    def inputs(branch: str, pair: tuple[int, int]) -> Inputs:
        asked = texts[pair[0]]
        if branch != CONDITIONAL:
            asked = against[pair[1]] if against else _zeros(asked)
        return {**asked, **extra_inputs(branch)}

    each = [
        Conditioning(
            {branch: inputs(branch, pair) for branch in branches},
            {branch: pair[branch != CONDITIONAL] for branch in branches},
        )
        for pair in number
    ]
    return Schedule(each, [number[pair] for pair in pairs])


def _zeros(inputs: Inputs) -> Inputs:
    return {name: np.zeros_like(value) for name, value in inputs.items()}
