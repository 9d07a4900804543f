"""Endless batches of icons on coloured grounds, for the autoencoder."""

import numpy as np
import torch

from . import WORK
from .captions import BACKGROUNDS

OTHERS_SHARE = 0.2
FREE_COLOUR_SHARE = 0.1
CROP = 32


def composite(rgba: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Lay premultiplied RGBA bytes (B, 64, 64, 4) on colours (B, 3) in 0..255; (B, 3, 64, 64) in
    -1..1."""
    rgba = rgba.float().permute(0, 3, 1, 2)
    ground = colour[:, :, None, None] * (1.0 - rgba[:, 3:] / 255.0)
    return (rgba[:, :3] + ground) / 127.5 - 1.0


class Pictures:
    """Subjects mostly, with some other icons and some colours that captions do not name."""

    def __init__(self) -> None:
        icons = np.load(WORK / "icons.npz")
        subjects = icons["subjects"]
        self.subjects = torch.from_numpy(subjects.reshape(-1, *subjects.shape[3:]))
        self.others = torch.from_numpy(icons["others"])
        self.colours = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)
        self.random = torch.Generator()

    def seed(self, seed: int) -> None:
        self.random.manual_seed(seed)

    def batch(self, size: int) -> torch.Tensor:
        """float32 (size, 3, 64, 64) in -1..1."""
        strangers = round(size * OTHERS_SHARE)
        rgba = torch.cat(
            [self._pick(self.subjects, size - strangers), self._pick(self.others, strangers)]
        )
        named = self._pick(self.colours, size)
        free = 255.0 * torch.rand(size, 3, generator=self.random)
        use_free = torch.rand(size, 1, generator=self.random) < FREE_COLOUR_SHARE
        return composite(rgba, torch.where(use_free, free, named))

    def crops(self, size: int) -> torch.Tensor:
        """float32 (size, 3, 32, 32) in -1..1, random parts of pictures.

        The autoencoder looks at neighbourhoods, so parts teach it nearly as much as wholes at a
        quarter of the cost.
        """
        pixels = self.batch(size)
        corners = torch.randint(pixels.shape[-1] - CROP + 1, (size, 2), generator=self.random)
        return torch.stack(
            [
                picture[:, top : top + CROP, left : left + CROP]
                for picture, (top, left) in zip(pixels, corners.tolist(), strict=True)
            ]
        )

    def _pick(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        return rows[torch.randint(len(rows), (count,), generator=self.random)]
