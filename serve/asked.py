"""What a client wants painted, in Pleinair's own terms, whichever API it came by."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
    number: of pictures; they are painted from `seed`, `seed + 1`, …
    seed: None draws one when the job is made.
    """

    model: str | None = None
    profile: str | None = None
    loras: Sequence[Weighted] = ()
    controlnets: Sequence[Weighted] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1
    seed: int | None = None

    def settled(self, model: str) -> "Asked":
        """The same of a named model, with a seed that is drawn where none was given."""
        drawn = self.seed is None or self.seed == -1
        seed = secrets.randbelow(_SEEDS) if drawn else self.seed
        return replace(self, model=model, seed=seed)
