"""Kinds of models, a file each: what differs between them stands there and nowhere else."""

from pathlib import Path

from ..errors import BundleError, shown
from ..model import catalog
from ..model.bundle import Bundle
from ..options.groups import CALL
from .family import Family, in_channels, latent_channels
from .instruction import Instruction
from .stable_diffusion import StableDiffusion
from .stable_diffusion_3 import StableDiffusion3
from .upscaler import Upscaler
from .xl import StableDiffusionXL

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusion3,
    Upscaler,
    Instruction,
)
"""All kinds: each is told by the `_class_name` of model_index.json, and by `Family.fits`."""

GROUPS: tuple[type, ...] = (*CALL, *(family.options for family in FAMILIES))
"""All groups of options that a call may have, of whichever family."""


def open_model(path: str | Path, tokenizer: str | Path | None = None) -> Family:
    """The model of a folder, a catalog name or a hub id that is on this machine.

    tokenizer: another folder with the tokenizer's files, for folders that lack them.
    Raises BundleError where it is not there, not whole, or of a kind that is not known.
    """
    return of(Bundle.open(catalog.find(path), tokenizer))


def of(bundle: Bundle) -> Family:
    """The model of a folder that has been read; BundleError where it is of no kind known here."""
    named = [family for family in FAMILIES if family.named(bundle.index)]
    for family in named:
        if family.fits(bundle):
            found = family(bundle)
            found.check_inputs()
            return found
    if not named:
        raise _unknown(bundle.path, bundle.index.get("_class_name"))
    latents, denoiser = latent_channels(bundle), named[0].denoiser
    known = "; ".join(
        f"{family.name}: {' or '.join(map(str, family.channels(latents)))}" for family in named
    )
    raise BundleError(
        f"{bundle.path / denoiser}: takes {in_channels(bundle, denoiser)} channels, the VAE has "
        f"{latents}; only these can be painted with: {known}"
    )


def check_named(path: Path, index: dict[str, object]) -> None:
    """Raise BundleError where a model_index.json is of no kind known here.

    The folder at `path` may not be whole yet.
    """
    if not any(family.named(index) for family in FAMILIES):
        raise _unknown(path, index.get("_class_name"))


def _unknown(path: Path, class_name: object) -> BundleError:
    known, kind = ", ".join(family.name for family in FAMILIES), shown(class_name or "nameless")
    return BundleError(
        f"{path / 'model_index.json'}: a {kind} model; only those of these "
        f"kinds can be opened: {known}"
    )
