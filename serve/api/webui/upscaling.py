"""Pictures made larger without being asked for anew: webui's extras."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pleinair.runtime.errors import shown
from pleinair.runtime.images.fitting import Fit, Size

from ...asked import Asked
from ...errors import TooLarge
from ...models import Models
from ...settings import Settings
from .errors import Unprocessable
from .fields import Extras
from .painting import family_of

NONE = "None"
_FILTERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}


def listed(model: str) -> list[dict[str, Any]]:
    """As webui lists them: two filters, and the model, which paints the detail."""
    return [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
        for name in (NONE, *_FILTERS, model)
    ]


@dataclass(frozen=True)
class Larger:
    """How a picture becomes larger.

    upscalers: names with how much of each there is to be seen.
    size: what comes out. scale: of the picture, before it is cropped to that.
    """

    upscalers: Sequence[tuple[str, float]]
    size: Size
    scale: float

    @classmethod
    def of(cls, request: Extras, picture: Size, models: Models, settings: Settings) -> "Larger":
        """Raises Unprocessable for an upscaler that is not here, TooLarge beyond the limit."""
        first, second = request.upscaler_1 or NONE, request.upscaler_2 or NONE
        share = (request.extras_upscaler_2_visibility or 0.0) if second != NONE else 0.0
        upscalers = [(first, 1 - share), *([(second, share)] if share else [])]
        for name, _ in upscalers:
            if name not in (NONE, *_FILTERS, *models.folders):
                known = ", ".join((NONE, *_FILTERS, *models.folders))
                raise Unprocessable(
                    f"there is no upscaler {shown(name)!r} here; there are: {known}",
                    param="upscaler_1",
                )
        if first == NONE:
            return cls(upscalers[:1], picture, 1.0)
        scale, size = _scaled(request, picture)
        most = settings.max_pixels
        if size[0] * size[1] > most or picture[0] * picture[1] * scale**2 > most:
            raise TooLarge(f"it would be {size[0]}x{size[1]}, and {most} pixels are the most")
        return cls(upscalers, size, scale)

    def asked(self, picture: Image.Image, models: Models) -> list[Asked]:
        """What models are asked for, in the order of the upscalers that are models."""
        return [
            Asked(model=name, arguments=_arguments(picture, self.scale, models, name))
            for name, _ in self.upscalers
            if name in models.folders and name not in (NONE, *_FILTERS)
        ]

    def finished(self, picture: Image.Image, painted: Sequence[Image.Image]) -> Image.Image:
        """What comes out, of the picture and what the models have painted."""
        left = list(painted)
        layers = [
            self._fitted(left.pop(0) if name not in (NONE, *_FILTERS) else picture, name)
            for name, _ in self.upscalers
        ]
        if len(layers) == 1:
            return layers[0]
        return Image.blend(layers[0], layers[1], self.upscalers[1][1])

    def _fitted(self, picture: Image.Image, name: str) -> Image.Image:
        way = _FILTERS.get(name, Image.Resampling.LANCZOS)
        fitted: Image.Image = Fit.of(picture.size, self.size, "crop").lay(picture, way)
        return fitted


def _scaled(request: Extras, picture: Size) -> tuple[float, Size]:
    width, height = picture
    if not request.resize_mode:
        scale = request.upscaling_resize or 1.0
        return scale, (max(1, round(width * scale)), max(1, round(height * scale)))
    wanted = request.upscaling_resize_w or 512, request.upscaling_resize_h or 512
    across, down = wanted[0] / width, wanted[1] / height
    if request.upscaling_crop:
        return max(across, down), wanted
    scale = min(across, down)
    return scale, (max(1, round(width * scale)), max(1, round(height * scale)))


def _arguments(picture: Image.Image, scale: float, models: Models, name: str) -> dict[str, Any]:
    """A model made for it takes the picture as it is; any other paints over an enlarged one."""
    if family_of(models, name).upscales > 1:
        return {"prompt": "", "image": picture}
    return {"prompt": "", "image": picture, "enlarge": max(1.0, scale)}
