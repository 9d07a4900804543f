"""The tiles of a pass: of the denoiser, and of the VAE."""

import math

from ..errors import Message, SettingError
from ..families.settings import Settings
from ..model.tiles import Tiles
from .draft import Draft
from .sizes import checked_side

# Pixels that the VAE is given whole unless told otherwise: its widest layers take 1 KB for each.
_WHOLE = 1024 * 1024


def denoiser_tiles(draft: Draft, settings: Settings) -> Tiles:
    """The tiles that are denoised together; one where none are asked for."""
    tiles, family = _asked(draft, settings), draft.family
    side = max(tiles.tile) * family.space.factor
    if family.largest is not None and side > family.largest:
        raise SettingError(
            Message(
                "{0} paints at most {1} pixels a side at once, and {2} are asked for; give a "
                "smaller {width} and {height}, or {tile} to paint in parts",
                family.bundle.name,
                family.largest,
                side,
            )
        )
    return tiles


def vae_tiles(draft: Draft, tiles: Tiles) -> Tiles:
    """What the VAE is given; by diffusers' rule all at once where a tile of its holds it."""
    space, tiling = draft.family.space, draft.request.size.vae_tiling
    side = space.sample_size // space.factor
    if len(tiles.windows) > 1 or max(tiles.size) <= side:
        return tiles
    large = math.prod(tiles.size) * space.factor**2 > _WHOLE
    if tiling == "on" or (tiling == "auto" and large):
        return Tiles.as_diffusers(tiles.size, side)
    return tiles


def _asked(draft: Draft, settings: Settings) -> Tiles:
    """Tiles as `tile` and `tile_overlap` ask for them, whatever the denoiser takes."""
    size, multiple, factor = draft.request.size, draft.family.multiple, draft.family.space.factor
    grid = settings.height // factor, settings.width // factor
    overlap = size.tile_overlap
    if size.tile is None:
        if overlap is not None:
            raise SettingError(
                Message("{tile_overlap} says how far tiles overlap; give {tile}, their size")
            )
        return Tiles.covering(grid)
    side = checked_side("tile", size.tile, multiple)
    most = side // 2 // multiple * multiple
    overlap = side // 4 // multiple * multiple if overlap is None else overlap
    if overlap not in range(0, most + 1, multiple):
        raise SettingError(
            Message(
                "{tile_overlap} is {0}; give a multiple of {1} from 0 to {2}, half of a tile "
                "of {3}",
                overlap,
                multiple,
                most,
                side,
            )
        )
    return Tiles.covering(grid, side // factor, overlap // factor)
