"""A call's plan: what will be computed, checked without work, then painted."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .denoise.control import Controls
from .denoise.feature_cache import Caching, Evaluation
from .denoise.guidance import CONDITIONAL, Guidance, is_conditional
from .denoise.span import Span
from .families.family import Family
from .families.settings import Settings
from .images.enlarging import Enlargement
from .images.fitting import Size as Pixels
from .images.original import Original
from .model.tiles import Tiles
from .output import PipelineOutput
from .request import Job, Request
from .text.prompt import TokenizedPrompt

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a call will compute, checked: `paint()` does it, `str(plan)` says it.

    settings: size, steps, guidance and the like, with the model's defaults.
    decoder: the part that makes pixels of latents.
    jobs: the images, in order.
    prompts: text -> its tokens, the negative prompts' among them.
    tiles, vae_tiles: what is denoised at once, and what the VAE is given at once.
    caching: of deep features or predictions; None keeps none.
    controls: of ControlNets; None has none.
    original: the picture that the call starts from.
    enlargement: how that is enlarged first.
    visible: width and height of what comes back; what is painted may be a little larger.
    latents: start noise for every image.
    timesteps: which of the scheduler's timesteps are taken.
    then: the second pass, which enlarges each picture of this one.
    """

    request: Request
    settings: Settings
    decoder: str
    jobs: Sequence[Job]
    prompts: Mapping[str, TokenizedPrompt]
    tiles: Tiles
    vae_tiles: Tiles
    caching: Caching | None
    controls: Controls | None
    original: Original | None
    enlargement: Enlargement | None
    visible: Pixels
    latents: Array | None
    span: Span
    timesteps: range
    safety: str
    then: "Plan | None"
    carry_out: Callable[["Plan"], PipelineOutput]

    def paint(self) -> PipelineOutput:
        """Compute it; raises EngineError where the machine cannot."""
        return self.carry_out(self)

    def onto(self, picture: Image.Image, jobs: Sequence[Job], family: Family) -> "Plan":
        """The plan of an enlarging pass, with the picture that it enlarges."""
        assert self.enlargement is not None
        original = Original(self.enlargement.canvas(picture), None, "stretch", False)
        canvas = family.canvas(original, self.settings.width, self.settings.height)
        settings = replace(self.settings, canvas=canvas)
        return replace(self, original=original, settings=settings, jobs=jobs)

    def texts(self, job: Job) -> tuple[str, str | None]:
        """An image's prompt, and its negative prompt as far as a branch sees it; None is none."""
        return job.prompt, job.negative if self.settings.guidance.guides else ""

    @property
    def evaluations(self) -> dict[str, int]:
        """How often the denoiser is asked for the first image: in full, and its shallow part.

        Other images differ where something is kept and prompts change at other steps.
        """
        guidance, counts = self.guidance, Counter({"full": 0, "shallow": 0})
        kept: dict[tuple[str, ...], Any] = {}  # batch -> the texts that its features are of
        for number, texts in zip(range(len(self.timesteps)), self._texts, strict=False):
            evaluation = Evaluation(number, len(self.timesteps))
            full = self.caching is None or self.caching.computes(evaluation)
            stands = {batch for batch, of in kept.items() if of == _seen(batch, texts) and not full}
            asked = guidance.batches
            if not guidance.acts(*evaluation) or (guidance.kept and stands >= set(asked)):
                asked = ((CONDITIONAL,),)
            for branches in asked:
                batch = guidance.batch_of(branches)
                if batch not in stands:
                    counts["full"] += len(self.tiles.windows)
                elif not (self.caching and self.caching.keeps_prediction):
                    counts["shallow"] += len(self.tiles.windows)
                kept[batch] = _seen(batch, texts)
        return {name: count for name, count in counts.items() if count}

    @property
    def guidance(self) -> Guidance:
        """That of the first image: with a branch for each prompt that AND joins in its own."""
        prompt = self.prompts[self.jobs[0].prompt]
        return self.settings.guidance.joined([part.weight for part in prompt.parts])

    @property
    def _texts(self) -> list[dict[str, int]]:
        """For each step the number of the text that each branch of the first image sees."""
        prompt, negative = (self.prompts[text or ""] for text in self.texts(self.jobs[0]))
        parts, branches = iter(prompt.parts), self.guidance.branches
        told = [next(parts) if is_conditional(branch) else negative for branch in branches]
        each = zip(*(one.order for one in told), strict=True)
        return [dict(zip(branches, texts, strict=True)) for texts in each]

    def __str__(self) -> str:
        settings, size = self.settings, f"{self.settings.width}x{self.settings.height}"
        batches = {"full": self.guidance.batches[0], "shallow": self.guidance.between}
        asked = ", ".join(
            f"{count} {name} of {_counted(len(batches[name]), 'branch', 'branches')}"
            for name, count in self.evaluations.items()
        )
        words = (
            f"{_counted(len(self.jobs), 'picture')} of {size}, "
            f"{_counted(len(self.timesteps), 'step')}, guidance scale "
            f"{settings.guidance_scale:g}; evaluations for each: {asked}"
        )
        return f"{words}; then {self.then}" if self.then else words


def _seen(batch: Sequence[str], texts: Mapping[str, int]) -> list[int]:
    """The numbers of the texts that a batch of branches sees."""
    return [texts[branch] for branch in batch]


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
