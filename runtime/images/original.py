"""The picture that a call starts from, with its mask, and the canvas they are laid on."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from ..errors import Message, SettingError
from ..options.groups import PictureSource
from .fitting import Fit, Size, paintable
from .masks import Mask
from .reading import over, read

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """What the model is given of a picture.

    pixels: float32 (1, 3, height, width), -1 to 1.
    mask: float32 (1, 1, height, width), 1 where it is painted anew, else 0; None is no mask.
    """

    pixels: Array
    mask: Array | None

    @property
    def masked_pixels(self) -> Array:
        """The pixels with the mask cut out, as the inpainting UNets were trained to see them."""
        assert self.mask is not None
        return self.pixels * (1 - self.mask)

    def latent_mask(self, factor: int) -> Array:
        """The mask of the latents, a `factor` smaller, by the nearest dot."""
        assert self.mask is not None
        return self.mask[:, :, ::factor, ::factor]


@dataclass(frozen=True)
class Original:
    """A picture, mode RGB, and what is to become of it.

    resize: how it comes to the size painted, one of `fitting.WAYS`.
    keep_unmasked: what the mask leaves alone comes back as it was, at the picture's own size.
    """

    picture: Image.Image
    mask: Mask | None
    resize: str
    keep_unmasked: bool

    @classmethod
    def read(
        cls,
        image: PictureSource | None,
        mask_image: PictureSource | None,
        *,
        mask_invert: bool,
        mask_blur: float,
        resize: str,
        keep_unmasked: bool,
    ) -> "Original | None":
        """None without an image. Raises SettingError for a mask or option that has nothing to
        act on, and where picture or mask cannot be read.
        """
        if image is None and mask_image is not None:
            raise SettingError(
                Message("{mask_image} marks a part of {image}, and there is none; give {image}")
            )
        if mask_image is None and (mask_invert or mask_blur or keep_unmasked):
            raise SettingError(
                Message(
                    "{mask_invert}, {mask_blur} and {keep_unmasked} act on a mask; give "
                    "{mask_image}"
                )
            )
        if image is None:
            return None
        picture = read(image)
        mask = None
        if mask_image is not None:
            mask = Mask.read(mask_image, picture, mask_invert, mask_blur)
        return cls(over(picture, "white"), mask, resize, keep_unmasked)

    def size(self, multiple: int) -> Size:
        """Width and height to paint where none are asked for: its own, rounded down."""
        return paintable(self.picture.size, multiple)

    def canvas(
        self,
        size: Size,
        factor: int,
        filter: Image.Resampling = Image.Resampling.LANCZOS,
    ) -> Canvas:
        """Picture and mask at the size painted.

        factor: pixels a latent cell spans; a mask that marks no cell is refused with SettingError.
        """
        fit = Fit.of(self.picture.size, size, self.resize)
        dots = np.asarray(fit.lay(self.picture, filter), np.float32).transpose(2, 0, 1)[None]
        canvas = Canvas(2 * (dots / 255) - 1, None)
        if self.mask is None:
            return canvas
        grey = np.asarray(fit.lay(self.mask.grey), np.float32)[None, None]
        canvas = Canvas(canvas.pixels, (grey / 255 >= 0.5).astype(np.float32))
        if not canvas.latent_mask(factor).any():
            raise SettingError(
                Message(
                    "{mask_image} marks nothing: white is painted anew, black stays; make it "
                    "larger, or turn it round with {mask_invert}"
                )
            )
        return canvas

    def around(self, painted: Image.Image) -> Image.Image:
        """The picture with the masked part from a painted canvas; the rest is as it was."""
        assert self.mask is not None
        fit = Fit.of(self.picture.size, painted.size, self.resize)
        weights = self.mask.weights.resize(self.picture.size, Image.Resampling.NEAREST)
        weights = ImageChops.darker(weights, fit.covered())
        return Image.composite(fit.lift(painted), self.picture, weights)
