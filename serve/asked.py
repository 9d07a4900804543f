"""What a client wants painted, in Pleinair's own terms, whichever API it came by."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pleinair.runtime.text.networks import loras_named

Weighted = tuple[str, float]
"""A file's name, as the server lists it, and how much of it."""

_SEEDS = 2**32
"""A seed is drawn from so many: other programs read no larger ones."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Pictures to paint.

    model: by the name that the server lists; None is its first.
    profile: None is the server's. loras, controlnets: by the names that the server lists.
    arguments: of a call, by the names that runtime/options declares; pictures are PIL pictures.
        `<lora:name:0.8>` in the prompt is one of `loras`. `image` may be a list, and `mask_image`
        one as long: each is painted from in turn, equally often.
    number: of pictures, 1 or more; they are painted from `seed`, `seed + 1`, …, of several images
        each from `seed` on.
    seed: None and -1 draw one when the job is made.
    """

    model: str | None = None
    profile: str | None = None
    loras: Sequence[Weighted] = ()
    controlnets: Sequence[Weighted] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1
    seed: int | None = None

    def settled(self, model: str) -> "Asked":
        """The same of a named model, with a seed drawn where none was given, and no tags left.

        Raises PromptError for a tag `<lora:…>` that cannot be read.
        """
        arguments, loras = dict(self.arguments), [*self.loras]
        prompt = arguments.get("prompt")
        if isinstance(prompt, str) and arguments.get("syntax", "webui") == "webui":
            arguments["prompt"], named = loras_named(prompt)
            loras += named
        if arguments.get("variation_strength"):
            arguments["variation_seed"] = _drawn(arguments.get("variation_seed"))
        return replace(
            self, model=model, seed=_drawn(self.seed), arguments=arguments, loras=tuple(loras)
        )

    @property
    def of_each(self) -> int:
        """How many pictures are painted from each image; all of them where there are not several.

        The first from each has an index that is a multiple of it.
        """
        images = self._by_image.get("image")
        return max(1, self.number // len(images)) if images else self.number

    @property
    def _by_image(self) -> dict[str, list[Any]]:
        """The arguments that differ from image to image; none where there are not several."""
        if not isinstance(self.arguments.get("image"), list):
            return {}
        both = {name: self.arguments.get(name) for name in ("image", "mask_image")}
        return {name: pictures for name, pictures in both.items() if isinstance(pictures, list)}

    def call(self, index: int) -> dict[str, Any]:
        """The arguments of the call that paints one of the pictures, as one that paints all would.

        Its seed counts up; of variations, which share theirs, the variation's does.
        """
        arguments, seed = dict(self.arguments), self.seed
        if self._by_image:
            image, index = divmod(index, self.of_each)
            arguments |= {name: pictures[image] for name, pictures in self._by_image.items()}
        varied = arguments.get("variation_seed")
        if arguments.get("variation_strength") and isinstance(varied, int):
            arguments["variation_seed"] = varied + index
        elif seed is not None:
            seed += index
        return {**arguments, "seed": seed}


def _drawn(seed: Any) -> Any:
    return secrets.randbelow(_SEEDS) if seed in (None, -1) else seed
