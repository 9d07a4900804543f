"""Pictures and masks to start from, small and the same in every run."""

import numpy as np
from PIL import Image, ImageDraw


def painting(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    """Mode RGB: colours that flow into one another, with grain, so that no two dots are alike."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))


def hole(width: int = 64, height: int = 64) -> Image.Image:
    """A mask, mode L: a white disc and a white corner on black."""
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    draw.ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    draw.rectangle((0, 0, width // 5, height // 6), fill=255)
    return mask
