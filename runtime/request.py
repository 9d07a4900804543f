"""What a call asks for: its arguments in their groups, before a model has a say in them."""

import dataclasses
import functools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .denoise.variation import Variation
from .errors import Argument, Message, PromptError, SettingError, did_you_mean, shown
from .families import FAMILIES, GROUPS
from .families.family import Family
from .options import groups
from .options.groups import (
    Answer,
    Control,
    Enlarging,
    Noise,
    Picture,
    Prompting,
    Reuse,
    Sampling,
    Size,
)
from .options.option import declared, gathered

# What torch.Generator.manual_seed takes.
_SEEDS = range(-(2**63), 2**64)
# The seed that stands for any, as in every program of this field.
RANDOM = -1


# Each image is a job of its own, made before any is painted.
_MOST_IMAGES = 10_000


@dataclass(frozen=True)
class Job:
    """One image; without a negative prompt that is None."""

    prompt: str
    negative: str | None
    seed: int
    variation: Variation | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of a call, group by group."""

    prompting: Prompting
    sampling: Sampling
    noise: Noise
    picture: Picture
    control: Control
    size: Size
    reuse: Reuse
    enlarging: Enlarging
    answer: Answer
    family_options: Any

    @classmethod
    def of(cls, family: Family, usual: Reuse, arguments: Mapping[str, Any]) -> "Request":
        """The arguments of a call, by the names that the groups declare; None is not given.

        None for the option of another kind of model is fine too, so that one call serves several.

        usual: what a profile keeps from step to step, where the call does not say.
        Raises TypeError for an argument that there is not, SettingError for one of another kind of
        model or one that diffusers has otherwise, and for a value of another type than is declared,
        or none of the choices.
        """
        given = {
            name: value
            for name, value in arguments.items()
            # What is refused below: no prompt, and a name that is none.
            if value is not None or name == "prompt" or name not in _every_name()
        }
        _refuse_other_kinds(family, given)
        found = gathered((*groups.CALL, family.options), given)
        for group in found.values():
            _check_choices(group)
        asked = {name: value for name, value in vars(found[Reuse]).items() if value is not None}
        return cls(
            prompting=found[Prompting],
            sampling=found[Sampling],
            noise=found[Noise],
            picture=found[Picture],
            control=found[Control],
            size=found[Size],
            reuse=dataclasses.replace(usual, **asked),
            enlarging=found[Enlarging],
            answer=found[Answer],
            family_options=found[family.options],
        )

    def jobs(self) -> list[Job]:
        """The images, in order: each prompt as often as it is asked for; seeds are drawn here."""
        prompts, times = self.prompts, self.prompting.num_images_per_prompt
        if not 1 <= times <= _MOST_IMAGES // len(prompts):
            raise SettingError(
                Message(
                    "{num_images_per_prompt} is {0}; give 1 or more, and at most {1} images in a "
                    "call",
                    times,
                    _MOST_IMAGES,
                )
            )
        noise = self.noise
        seeds = seeds_of(
            noise.seed,
            variation_seed=noise.variation_seed,
            variation_strength=noise.variation_strength,
            count=len(prompts) * times,
        )
        pairs = zip(prompts, self.negative_prompts, strict=True)
        texts = [pair for pair in pairs for _ in range(times)]
        return [Job(*pair, *numbers) for pair, numbers in zip(texts, seeds, strict=True)]

    @property
    def prompts(self) -> list[str]:
        prompt = self.prompting.prompt
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not 1 <= len(texts) <= _MOST_IMAGES:
            raise PromptError(
                Message(
                    "{prompt} is a list of {0} texts; give at least one, and at most {1}",
                    len(texts),
                    _MOST_IMAGES,
                )
            )
        return texts

    @property
    def negative_prompts(self) -> list[str | None]:
        """One for each prompt, as in diffusers: the same for all, or a list as long as theirs."""
        negative, count = self.prompting.negative_prompt, len(self.prompts)
        if negative is None or isinstance(negative, str):
            return [negative] * count
        if len(negative) != count:
            raise SettingError(
                Message(
                    "{negative_prompt} is a list of {0} for {1} prompts; give one text for all of "
                    "them, or one for each",
                    len(negative),
                    count,
                )
            )
        return list(negative)


def consecutive(seed: int | None, count: int, name: str = "seed") -> list[int]:
    """`count` seeds from `seed` on; None and -1 draw the first, short enough to be typed again."""
    first = secrets.randbelow(2**32 - count) if seed in (None, RANDOM) else seed
    if not isinstance(first, int) or first not in _SEEDS or first + count - 1 not in _SEEDS:
        raise SettingError(
            Message("{0} is {1}; give a whole number from -2^63 to 2^64 - 1", Argument(name), seed)
        )
    return list(range(first, first + count))


def seeds_of(
    seed: int | None, *, variation_seed: int | None, variation_strength: float, count: int
) -> list[tuple[int, Variation | None]]:
    """Seed and variation of each of `count` images; of the two seeds one counts up.

    Without variation the seed does. With it all images share the seed, and are its variations.
    """
    if not 0 <= variation_strength <= 1:
        raise SettingError(
            Message("{variation_strength} is {0:g}; give 0 to 1", variation_strength)
        )
    if not variation_strength:
        return [(one, None) for one in consecutive(seed, count)]
    (shared,) = consecutive(seed, 1)
    others = consecutive(variation_seed, count, "variation_seed")
    return [(shared, Variation(other, float(variation_strength))) for other in others]


@functools.cache
def _every_name() -> frozenset[str]:
    return frozenset(name for group in GROUPS for name in declared(group))


def _refuse_other_kinds(family: Family, given: Mapping[str, Any]) -> None:
    known = declared(family.options)
    for other in FAMILIES:
        for name in given.keys() & declared(other.options).keys() - known.keys():
            raise SettingError(
                Message(
                    "{0} is for {1}; {2} is none", Argument(name), other.name, family.bundle.name
                )
            )


def _check_choices(group: Any) -> None:
    for name, one in declared(group.__class__).items():
        value = getattr(group, name)
        if one.choices is None or value is None or name == "scheduler":
            continue  # a scheduler's name is checked where one is made of it
        if value not in one.choices():
            raise SettingError(
                Message(
                    "{0} is {1!r}; choose from: {2}{3}",
                    Argument(name),
                    shown(value),
                    ", ".join(one.choices()),
                    did_you_mean(str(value), one.choices()),
                )
            )
