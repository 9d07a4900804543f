"""The families of models that can be exported: one file a family, one line of `FAMILIES` each."""

from collections.abc import Iterator

from pleinair.runtime.errors import SourceError, shown

from ..reading import State
from . import stable_diffusion, stable_diffusion_3, upscaler, xl
from .family import Family, Index
from .original import Original

FAMILIES = [
    stable_diffusion.FAMILY,
    upscaler.FAMILY,
    xl.FAMILY,
    stable_diffusion_3.FAMILY,
]

NAMES = ", ".join(family.name for family in FAMILIES)


def of(index: Index, origin: str) -> Family:
    """Return the family of a checkpoint with this model_index.json.

    Raises `SourceError`, which begins with `origin`, where no family has its pipeline's class, or
    where it has networks of other classes than the family.
    """
    kind = index.get("_class_name")
    for family in FAMILIES:
        if kind in family.pipelines:
            family.check(index, origin)
            return family
    raise SourceError(
        f"{origin}: a {shown(kind or 'nameless pipeline')} cannot be exported; {NAMES} can"
    )


def originals() -> Iterator[tuple[Family, Original]]:
    """Give every kind of single file in the original layout, with its family."""
    for family in FAMILIES:
        for original in family.originals:
            yield family, original


def detect(state: State) -> tuple[Family, Original]:
    """Tell of which family and kind a single file is, by its tensors under their original names."""
    return next(pair for pair in originals() if pair[1].fits(state))


def prefixes(submodel: str) -> tuple[str, ...]:
    """How the names of a sub-model's weights may begin in a single file."""
    found = (original.prefixes.get(submodel) for _, original in originals())
    return tuple(dict.fromkeys(prefix for prefix in found if prefix is not None))
