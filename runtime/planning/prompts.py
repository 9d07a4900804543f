"""The prompts of a pass, read: their tokens, unknown words named, AND's parts checked."""

from collections.abc import Sequence
from typing import Any

from ..errors import PromptError, SettingError
from ..families.settings import Settings
from ..request import Job
from ..text.prompt import TokenizedPrompt, joined, tokenized
from .draft import Draft


def read_prompts(
    draft: Draft, settings: Settings, jobs: Sequence[Job], steps: int
) -> dict[str, TokenizedPrompt]:
    """Text -> its tokens, of prompts and the negative prompts that act, for so many steps."""
    negatives = [""]
    if settings.guidance.guides:
        negatives = [job.negative or "" for job in jobs]
    prompts = _tokenized(draft, [*(job.prompt for job in jobs), *negatives], steps)
    if any(prompt.others for prompt in prompts.values()):
        _check_joins(draft, settings)
    if any(prompts[text].others for text in negatives):
        raise PromptError("negative_prompt is the prompt itself, which AND joins; give another")
    return prompts


def _tokenized(draft: Draft, texts: Sequence[str], steps: int) -> dict[str, TokenizedPrompt]:
    """Text -> its tokens; one line names the words that the model does not know."""
    request, known = draft.request, draft.known_words
    syntax = request.prompting.syntax
    unknown: list[str] = []

    def reader(text: str) -> Any:
        if known:
            unknown.extend(known.unknown(text, syntax=syntax))
        return draft.family.read(
            text,
            syntax=syntax,
            long_prompt=request.prompting.long_prompt,
            options=request.family_options,
        )

    asked = set(request.prompts)
    found = {
        text: (joined if text in asked else tokenized)(reader, text, steps, syntax)
        for text in dict.fromkeys(texts)
    }
    if known:
        known.warn(unknown)
    return found


def _check_joins(draft: Draft, settings: Settings) -> None:
    """Raise SettingError where prompts that AND joins cannot be painted."""
    guidance, name = settings.guidance, draft.family.bundle.name
    if not guidance.joins:
        raise SettingError(
            f"AND joins prompts by guidance, and {name} is not guided by a prompt alone at "
            f"guidance_scale {settings.guidance_scale:g}; give another guidance_scale (of an "
            "enlarging pass enlarge_guidance_scale), write one prompt, or take AND as text by "
            'syntax "plain"'
        )
    if (guidance.start, guidance.stop) != (0.0, 1.0):
        raise SettingError(
            "AND joins prompts by guidance, which guidance_start and guidance_stop leave out "
            "of some steps; leave them out, or write one prompt"
        )
