"""One pass of a call before it is a plan."""

from dataclasses import dataclass

from ..denoise.control import Controls
from ..denoise.feature_cache import Caching
from ..families.family import Family
from ..images.enlarging import Enlargement
from ..images.original import Original
from ..request import Request
from ..text.known_words import KnownWords


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A model, what one pass asks of it, and the pictures of that pass.

    format: of the graphs that paint.
    known_words: of a model that knows some words alone.
    original: the picture that the pass starts from, where it is at hand.
    enlargement: how a picture that is still to come is enlarged first.
    controls: of ControlNets; None has none.
    caching: of deep features or predictions; None keeps none.
    """

    family: Family
    format: str
    known_words: KnownWords | None
    request: Request
    original: Original | None
    enlargement: Enlargement | None
    controls: Controls | None
    caching: Caching | None

    @property
    def pictured(self) -> bool:
        """Whether the pass starts from a picture, at hand or still to come."""
        return self.original is not None or self.enlargement is not None
