"""Prompts to conditioning: each text is encoded once, and told to the branches that see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..denoise.conditioning import Conditioning, Inputs, Schedule
from ..denoise.guidance import Guidance, is_conditional
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
    prompt: each of those that AND joins in it gets a branch of its own.
    negative: None is zeros, which some models were trained to take for no prompt at all.
    guidance: of one prompt.
    extra_inputs: what a branch is told beside its text.
    clip_skip is for the prompt alone, as in diffusers.
    Raises SettingError where the model has fewer layers than clip_skip asks for.
    """
    guidance = guidance.joined([part.weight for part in prompt.parts])
    against = negative if guidance.guides else None
    length = max(prompt.length, against.length if against else 0)

    def encoded(part: TokenizedPrompt, skip: int | None = None) -> _Told:
        return _Told([encoder.encode(text, length, skip) for text in part.texts], part.order)

    prompts = [encoded(part, clip_skip) for part in prompt.parts]
    without = encoded(against) if against else _zeros(prompts[0])
    each = iter(prompts)
    told = {
        branch: next(each) if is_conditional(branch) else without for branch in guidance.branches
    }
    steps = list(zip(*(one.order for one in told.values()), strict=True))
    number = {texts: i for i, texts in enumerate(dict.fromkeys(steps))}
    conditionings = [
        Conditioning(
            {
                branch: {**one.texts[text], **extra_inputs(branch)}
                for (branch, one), text in zip(told.items(), texts, strict=True)
            },
            dict(zip(told, texts, strict=True)),
        )
        for texts in number
    ]
    return Schedule(conditionings, [number[texts] for texts in steps], guidance)


@dataclass(frozen=True)
class _Told:
    """What a branch is told: its texts, encoded, and for each step the number of its text."""

    texts: Sequence[Inputs]
    order: Sequence[int]


def _zeros(of: _Told) -> _Told:
    nothing = {name: np.zeros_like(value) for name, value in of.texts[0].items()}
    return _Told([nothing], [0] * len(of.order))
