"""A picture made ready for CLIP's vision model, in Pillow and numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import BundleError

Array: TypeAlias = NDArray[np.float32]

# OpenAI's, for configs that leave them out.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipPreprocessor:
    """transformers' CLIPImageProcessor: shortest edge, centre, mean and deviation.

    edge: the shorter side is resized to this, with Pillow's filter number `resample`.
    crop: height and width that are cut from the centre.
    """

    edge: int
    crop: tuple[int, int]
    resample: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ClipPreprocessor":
        """From a preprocessor_config.json, of which older ones say sizes as one number.

        Raises BundleError where it asks for something that CLIP's checkers never do.
        """
        steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
        left_out = [step for step in steps if not config.get(step, True)]
        if left_out:
            raise BundleError(f"preprocessor_config.json: {left_out[0]} is off; convert anew")
        edge, crop = config.get("size", 224), config.get("crop_size", 224)
        if isinstance(edge, Mapping):
            edge = edge.get("shortest_edge", 224)
        sides = (crop["height"], crop["width"]) if isinstance(crop, Mapping) else (crop, crop)
        return cls(
            edge,
            sides,
            config.get("resample", Image.Resampling.BICUBIC),
            tuple(config.get("image_mean", _MEAN)),
            tuple(config.get("image_std", _DEVIATION)),
        )

    def __call__(self, picture: Image.Image) -> Array:
        """float32, (1, 3, *crop), of a picture of any size, mode RGB."""
        width, height = picture.size
        short = min(width, height)
        size = self.edge * width // short, self.edge * height // short
        picture = picture.resize(size, self.resample)
        top, left = (size[1] - self.crop[0]) // 2, (size[0] - self.crop[1]) // 2
        picture = picture.crop((left, top, left + self.crop[1], top + self.crop[0]))
        dots = np.asarray(picture, np.float32) / 255
        mean, deviation = (np.asarray(v, np.float32) for v in (self.mean, self.deviation))
        dots = (dots - mean) / deviation
        return np.ascontiguousarray(dots.transpose(2, 0, 1)[None], np.float32)
