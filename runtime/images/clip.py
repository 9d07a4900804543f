"""A picture made ready for CLIP's vision model, in Pillow and numpy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from PIL import Image

from ..errors import BundleError
from ..files import conform

Array: TypeAlias = NDArray[np.float32]

# OpenAI's, for configs that leave them out.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


_FILE = "feature_extractor/preprocessor_config.json"
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
_Number: TypeAlias = Annotated[float, Meta(ge=-10, le=10)]
_Positive: TypeAlias = Annotated[float, Meta(ge=1e-3, le=10)]


class Edge(Struct, forbid_unknown_fields=True):
    """What the shorter side is resized to; CLIP knows no other way to say a size."""

    shortest_edge: _Side


class Sides(Struct):
    """What is cut out."""

    height: _Side
    width: _Side


class PreprocessorConfig(Struct):
    """transformers' CLIPImageProcessor; resample: the number of one of Pillow's filters."""

    size: _Side | Edge = 224
    crop_size: _Side | Sides = 224
    resample: Annotated[int, Meta(ge=0, le=5)] = int(Image.Resampling.BICUBIC)
    image_mean: tuple[_Number, _Number, _Number] = _MEAN
    image_std: tuple[_Positive, _Positive, _Positive] = _DEVIATION
    rescale_factor: float = 1 / 255
    do_resize: bool = True
    do_center_crop: bool = True
    do_rescale: bool = True
    do_normalize: bool = True


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
        stated = conform(config, PreprocessorConfig, _FILE)
        for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            if not getattr(stated, step):
                raise BundleError(f"{_FILE}: {step} is off; convert anew")
        if not math.isclose(stated.rescale_factor, 1 / 255, rel_tol=1e-3):
            raise BundleError(f"{_FILE}: rescale_factor is not 1/255; convert anew")
        edge, crop = stated.size, stated.crop_size
        sides = (crop.height, crop.width) if isinstance(crop, Sides) else (crop, crop)
        return cls(
            edge.shortest_edge if isinstance(edge, Edge) else edge,
            sides,
            stated.resample,
            stated.image_mean,
            stated.image_std,
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
