"""Guidance: which branches the denoiser is asked, in which steps, and how they are combined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import Argument, Message, SettingError
from ..graphs.scales import MOST

Array: TypeAlias = NDArray[np.float32]
Predictions: TypeAlias = Mapping[str, Array]
"""Branch -> the denoiser's prediction for it, (1, channels, rows, columns)."""

# Branches: what the denoiser is told. With the prompt (and all else); without it, or with the
# negative prompt instead; with the picture that is edited, but without the instruction.
CONDITIONAL = "conditional"
UNCONDITIONAL = "unconditional"
PICTURE_ALONE = "picture alone"


def is_conditional(branch: str) -> bool:
    """Whether it is told the prompt, or one of several that are joined."""
    return branch.startswith(CONDITIONAL)


@dataclass(frozen=True)
class Guidance:
    """How the predictions of several branches become one.

    branches: in the order of the batch in which they are asked.
    combine: what is made of their predictions.
    blind: the branches that see zeros in place of what stands beside the latents.
    start, stop: shares of the evaluations between which guidance acts; outside, the conditional
        branch is the prediction [Kynkäänniemi et al. 2024, arXiv 2404.07724].
    kept: what guidance adds is found in evaluations of the whole denoiser alone, and kept for those
        of its shallow part, which the conditional branch alone is asked. With the depths frozen it
        changes little, and half of the work remains [Lv et al. 2024, FasterCache, arXiv 2410.19355,
        keep what is between the branches].
    steered: whether ControlNets steer, whose graphs take batches of one size.
    """

    branches: tuple[str, ...] = (CONDITIONAL,)
    combine: Callable[[Predictions], Array] = lambda predictions: predictions[CONDITIONAL]
    blind: frozenset[str] = frozenset()
    start: float = 0.0
    stop: float = 1.0
    kept: bool = False
    steered: bool = False

    @property
    def guides(self) -> bool:
        """Whether there is more than one branch to compare."""
        return len(self.branches) > 1

    @property
    def joins(self) -> bool:
        """Whether several prompts can stand in the place of one."""
        return set(self.branches) == {UNCONDITIONAL, CONDITIONAL}

    def joined(self, weights: Sequence[float]) -> "Guidance":
        """The same with a branch for each of several prompts in the place of the conditional one.

        Together they predict what the unconditional branch does, and what each adds to it times its
        weight [Liu et al. 2022, eq. 11, arXiv 2206.01714].
        """
        if len(weights) == 1:
            return self
        others = [f"{CONDITIONAL} {number}" for number in range(2, len(weights) + 1)]
        branches = (CONDITIONAL, *others)

        def combine(predictions: Predictions) -> Array:
            without = predictions[UNCONDITIONAL]
            together = without.copy()
            for branch, weight in zip(branches, weights, strict=True):
                together += np.float32(weight) * (predictions[branch] - without)
            return self.combine({**predictions, CONDITIONAL: together})

        return replace(self, branches=(UNCONDITIONAL, *branches), combine=combine)

    @property
    def apart(self) -> bool:
        """Whether branches are asked one by one: now all of them, now the conditional one alone.

        One graph for a batch of one serves both.
        """
        always = (self.start, self.stop) == (0.0, 1.0)
        return self.guides and (not always or (self.kept and self.steered))

    @property
    def batches(self) -> tuple[tuple[str, ...], ...]:
        """The branches as they are asked together."""
        return tuple((branch,) for branch in self.branches) if self.apart else (self.branches,)

    @property
    def between(self) -> tuple[str, ...]:
        """The branches that are asked together of the denoiser's shallow part."""
        return (CONDITIONAL,) if self.guides and self.kept else self.batches[0]

    def batch_of(self, branches: Sequence[str]) -> tuple[str, ...]:
        """The batch in which the whole denoiser is asked these branches."""
        return next(batch for batch in self.batches if set(branches) <= set(batch))

    @property
    def shares_sample(self) -> bool:
        """Whether the branches of a batch see the same latents and are told different things."""
        return self.guides and not self.apart and not self.blind

    def acts(self, evaluation: int, total: int) -> bool:
        """Whether it does in this evaluation, by diffusers' rule (guiders, `_is_cfg_enabled`)."""
        if not self.guides:
            return False
        return int(self.start * total) <= evaluation < int(self.stop * total)


def classifier_free(scale: float) -> Guidance:
    """Away from the negative prompt, towards the prompt [Ho & Salimans 2022, eq. 6].

    At a scale of 1 the unconditional branch cancels out, and below it models that are distilled to
    need no guidance are meant: then there is none.
    """
    if checked(scale, "guidance_scale") <= 1:
        return Guidance()

    def combine(predictions: Predictions) -> Array:
        without, prompted = predictions[UNCONDITIONAL], predictions[CONDITIONAL]
        combined: Array = without + scale * (prompted - without)
        return combined

    return Guidance((UNCONDITIONAL, CONDITIONAL), combine)


def instructed(scale: float, picture_scale: float) -> Guidance:
    """Two scales, for the instruction and for the picture [Brooks et al. 2023, eq. 3]."""
    checked(picture_scale, "image_guidance_scale")
    if checked(scale, "guidance_scale") <= 1 or picture_scale < 1:
        return Guidance()

    def combine(predictions: Predictions) -> Array:
        both, picture = predictions[CONDITIONAL], predictions[PICTURE_ALONE]
        neither = predictions[UNCONDITIONAL]
        combined: Array = neither + scale * (both - picture)
        return combined + picture_scale * (picture - neither)

    branches = (CONDITIONAL, PICTURE_ALONE, UNCONDITIONAL)
    return Guidance(branches, combine, blind=frozenset({UNCONDITIONAL}))


def rescaled(guidance: Guidance, share: float) -> Guidance:
    """Guidance whose result varies as much as the conditional branch, as far as `share` says.

    Strong guidance widens the values, and so burns colours out [Lin et al. 2024, arXiv 2305.08891,
    eq. 15 and 16]. share: 0 leaves it as it is, 1 gives it the conditional branch's deviation.
    """
    if not 0 <= share <= 1:
        raise SettingError(Message("{guidance_rescale} is {0:g}; give 0 to 1", share))
    if not share:
        return guidance

    def combine(predictions: Predictions) -> Array:
        combined = guidance.combine(predictions)
        prompted, guided = predictions[CONDITIONAL].std(), combined.std()
        if not guided:
            return combined
        narrowed: Array = combined * (share * (prompted / guided) + (1 - share))
        return narrowed

    return replace(guidance, combine=combine)


def checked(scale: float, name: str) -> float:
    """The scale; SettingError, by its argument's name, where it is none."""
    if not 0 <= scale <= MOST:
        raise SettingError(Message("{0} is {1:g}; give 0 to {2:g}", Argument(name), scale, MOST))
    return scale


def scale_embedding(scale: float, width: int) -> Array:
    """A guidance scale as a denoiser that was distilled with it takes it: float32, (1, width).

    Sines and cosines of 1000 (scale - 1), as for timesteps [Meng et al. 2023; Luo et al. 2023]:
    their w is 0 where Ho & Salimans' scale, which users give, is 1.
    """
    half = width // 2
    step = np.log(np.float32(10000)) / np.float32(half - 1)
    frequencies = np.exp(np.arange(half, dtype=np.float32) * -step)
    angles = np.float32(scale - 1) * np.float32(1000) * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2, np.float32)])
    return waves[None].astype(np.float32)
