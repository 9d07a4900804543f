"""What a request is counted as, for programs that keep accounts."""

from collections.abc import Sequence
from dataclasses import dataclass

from pleinair.runtime import Plan


@dataclass(frozen=True)
class Usage:
    """Tokens, each 0 or more.

    text: of the prompt and the negative prompt, as the model's tokenizer makes them.
    image: of the picture sent. painted: of what comes back. A picture has as many tokens as its
        latents have places: 4096 for 512x512 with Stable Diffusion.
    """

    text: int = 0
    image: int = 0
    painted: int = 0

    @classmethod
    def of(cls, plan: Plan) -> "Usage":
        """That of a plan's first picture."""
        return cls(
            text=sum(prompt.tokens for prompt in plan.prompts.values()),
            image=0 if plan.original is None else _places(plan),
            painted=_places(plan.then or plan),
        )

    @classmethod
    def total(cls, each: Sequence["Usage"], pictures: int) -> "Usage":
        """That of a request: the prompt counts once. pictures: painted from each of the images."""
        return cls(
            text=max((one.text for one in each), default=0),
            image=sum(one.image for one in each),
            painted=sum(one.painted for one in each) * pictures,
        )


def _places(plan: Plan) -> int:
    rows, columns = plan.tiles.size
    return int(rows) * int(columns)
