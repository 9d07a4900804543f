"""How much one request may ask for, and of what kind: checked here for every API."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pleinair.runtime import Plan
from pleinair.runtime.errors import did_you_mean, shown
from pleinair.runtime.families import GROUPS
from pleinair.runtime.options.option import Option, declared

from .asked import Asked
from .errors import Refusal, TooLarge

NOT_SERVED = {
    "seed",
    "num_images_per_prompt",
    "output_type",
    "latents",
    "denoising_start",
    "denoising_end",
}
"""Arguments of a call that stand elsewhere in what is asked, or are for programs alone."""

SERVED: dict[str, Option] = {
    name: one for group in GROUPS for name, one in declared(group).items() if name not in NOT_SERVED
}
"""The arguments of a call that a client may give."""

PICTURES = ("image", "mask_image", "control_image")
_STEPS = ("num_inference_steps", "enlarge_steps")
_HUGE = 10**9
_SEEDS = range(-(2**63), 2**64)
"""What a call takes as a seed."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The largest request that is taken.

    pixels: of a picture, sent or painted. steps: of each pass. number: of pictures.
    prompt: characters of a text.
    """

    pixels: int = 4 * 1024 * 1024
    steps: int = 150
    number: int = 10
    prompt: int = 10_000

    def check(self, asked: Asked) -> None:
        """Refuse, before any work, what is too much, or what no client may ask for."""
        if not 1 <= asked.number <= self.number:
            raise Refusal(
                f"{asked.number} pictures are asked for; ask for 1 to {self.number}", param="number"
            )
        _check_images(asked)
        if asked.seed is not None and not (
            asked.seed in _SEEDS and asked.seed + asked.number - 1 in _SEEDS
        ):
            raise Refusal(
                f"seed is {shown(str(asked.seed))}; give a whole number from -2^63 to 2^64 - 1",
                param="seed",
            )
        for name, value in asked.arguments.items():
            if name not in SERVED:
                near = did_you_mean(name, SERVED)
                raise Refusal(f"there is no argument {shown(name)!r}{near}", param=shown(name))
            self._check_value(name, value)
        self._check_size(asked.arguments)

    def check_plan(self, plan: Plan) -> None:
        """Refuse a picture that is too large, or has too many steps."""
        if len(plan.timesteps) > self.steps:
            raise self._too_many_steps(len(plan.timesteps))
        for width, height in ((plan.settings.width, plan.settings.height), plan.visible):
            self._check_pixels(width * height, "width", f"{width}x{height}")
        if plan.then:
            self.check_plan(plan.then)

    def _check_value(self, name: str, value: Any) -> None:
        if name in PICTURES:
            self._check_pictures(name, value)
        elif isinstance(value, str) and len(value) > self.prompt:
            raise TooLarge(
                f"{name} is {len(value)} characters long, and at most {self.prompt} may be",
                param=name,
            )
        elif name in ("prompt", "negative_prompt") and not isinstance(value, str | None):
            raise Refusal(f"{name} is {shown(value)}; give one text", param=name)
        elif name in _STEPS and isinstance(value, int) and value > self.steps:
            raise self._too_many_steps(value, name)

    def _check_pictures(self, name: str, value: Any) -> None:
        """A text would be a path: pictures come as pictures, or not at all."""
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Image.Image):
                self._check_pixels(one.width * one.height, name, f"{one.width}x{one.height}")
            elif one is not None and not (name == "mask_image" and one == "alpha"):
                raise Refusal(f"{name} is no picture; send one", param=name)

    def _check_size(self, arguments: Any) -> None:
        """What is plainly too large is refused before a plan is made of it."""
        times = arguments.get("enlarge")
        times = min(times, _HUGE) if isinstance(times, int | float) and times > 1 else 1
        for sides in _sizes(arguments):
            width, height = (min(side, _HUGE) * times for side in sides)
            self._check_pixels(width * height, "width", f"{width:g}x{height:g}")

    def _check_pixels(self, pixels: float, param: str, size: str) -> None:
        if pixels > self.pixels:
            raise TooLarge(
                f"a picture of {size} is more than {self.pixels} pixels; ask for a smaller one",
                param=param,
            )

    def _too_many_steps(self, steps: int, param: str = "num_inference_steps") -> Refusal:
        return Refusal(
            f"{steps} steps are more than the {self.steps} that this server takes", param=param
        )


def _check_images(asked: Asked) -> None:
    """Refuse several images that cannot be painted from equally often, or masks of other ones."""
    images, masks = (asked.arguments.get(name) for name in ("image", "mask_image"))
    if isinstance(images, list) and (not images or asked.number % len(images)):
        raise Refusal(
            f"image has {len(images)} pictures, and {asked.number} are painted; give one of them",
            param="image",
        )
    if isinstance(images, list) and isinstance(masks, list) and len(masks) != len(images):
        raise Refusal(
            f"mask_image has {len(masks)} pictures, and image {len(images)}; give as many",
            param="mask_image",
        )


def _sizes(arguments: Any) -> Iterator[tuple[int, int]]:
    width, height = arguments.get("width"), arguments.get("height")
    if isinstance(width, int) and isinstance(height, int):
        yield width, height
    images = arguments.get("image")
    for image in images if isinstance(images, list) else [images]:
        if isinstance(image, Image.Image):
            yield image.size
