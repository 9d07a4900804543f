"""A tiny autoencoder (diffusers' AutoencoderTiny, as TAESD), exported beside a model's own VAE.

Only its decoder becomes a graph: it shows what is being painted, or paints the last picture fast.
It takes the latents that the UNet gives, scaled as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub import selection

from . import hub
from .families.beside import TINY_VAE
from .reading import State
from .source import is_hub_id, read
from .weights import find_weights, read_weights


@dataclass(frozen=True)
class TinyVae:
    """A folder with `config.json` and weights, and where it is from."""

    folder: Path
    record: dict[str, Any]

    def config(self, submodel: str) -> dict[str, Any]:
        return read(self.folder / "config.json")

    def weights(self, submodel: str) -> State:
        return read_weights(find_weights(self.folder))

    def require_fit(self, vae: dict[str, Any]) -> None:
        """Raise `SourceError` unless it is for the latents and pictures of this VAE's config."""
        config = self.config("tiny_vae")
        if config.get("_class_name") != TINY_VAE.class_name:
            raise SourceError(
                f"{self.folder}: a {config.get('_class_name')}; a tiny VAE is an AutoencoderTiny"
            )
        ours, theirs = _scale(config), _scale(vae)
        if ours != theirs:
            raise SourceError(
                f"{self.folder}: makes {ours[1]}x{ours[1]} pixels of {ours[0]} channels, the "
                f"model's VAE {theirs[1]}x{theirs[1]} of {theirs[0]}; take the one for this model"
            )


def open_tiny_vae(source: str | Path) -> TinyVae:
    """Find the folder, fetching it first when `source` is a hub id such as madebyollin/taesd.

    Raises `SourceError` when it is neither, or cannot be fetched.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return TinyVae(path, {"kind": "folder", "name": path.resolve().name})
    if not is_hub_id(source):
        raise SourceError(f"{source} is neither the folder of a tiny VAE nor a hub id (owner/name)")
    folder, commit = hub.fetch(str(source), None, _files)
    return TinyVae(folder, {"kind": "hub", "name": str(source), "revision": commit})


def _files(names: list[str], repo_id: str, index: Mapping[str, Any]) -> list[str]:
    chosen: list[str] = selection.alone(names, repo_id)
    return chosen


def _scale(config: dict[str, Any]) -> tuple[int, int]:
    """Channels of the latents, and how many pixels a side one cell of them becomes."""
    if config.get("_class_name") == TINY_VAE.class_name:
        levels = len(config.get("num_decoder_blocks", [3, 3, 3, 1]))
        factor = config.get("upsampling_scaling_factor", 2)
        return config.get("latent_channels", 4), factor ** (levels - 1)
    return config.get("latent_channels", 4), 2 ** (len(config["block_out_channels"]) - 1)
