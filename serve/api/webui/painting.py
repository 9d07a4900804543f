"""What txt2img and img2img ask for, in the service's terms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pleinair.runtime.errors import SettingError, shown
from pleinair.runtime.families.family import Family
from pleinair.runtime.images.fitting import Size
from pleinair.runtime.images.reading import over
from pleinair.runtime.options.option import declared
from pleinair.runtime.request import seeds_of
from pleinair.runtime.text import styles

from ...asked import Asked
from ...errors import Refusal, TooLarge
from ...models import Models
from ...pictures import received
from ...settings import Settings
from . import controls, inpainting, remarks, samplers
from .errors import Unprocessable
from .fields import ImageToImage, Painting, TextToImage
from .options import Options

_RESIZES = ("stretch", "crop", "pad", "stretch")
"""webui's resize modes by their numbers; the last is for latents, which are not resized here."""
_SECOND_STRENGTH = 0.75
"""webui's, of the second pass."""
_WITH_ETA = ("ddim", "tcd")
_MOST_STYLES = 20

Finish = Callable[[Image.Image], Image.Image]
Begun = tuple[Mapping[str, Any], Finish]
"""What a picture is painted from, as arguments, and what is done to it then."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request, understood.

    each: its pictures, in order. prompt, negative_prompt: with the styles in them.
    comments: what is painted otherwise than asked.
    finishes: what is done to each painted picture before it is sent.
    """

    each: Sequence[Asked]
    prompt: str
    negative_prompt: str
    comments: Sequence[str]
    finishes: Sequence[Finish]


@dataclass(frozen=True)
class Painter:
    """Reads requests for one of the models, with a client's options.

    comments: what is painted otherwise than asked, as it is found.
    """

    models: Models
    settings: Settings
    options: Options
    family: Family
    comments: list[str]

    @classmethod
    def of(cls, models: Models, settings: Settings, options: Options) -> "Painter":
        """Opens the model where it is not open."""
        return cls(models, settings, options, family_of(models, options.model), [])

    def text_to_image(self, request: TextToImage) -> Wanted:
        self._check(request)
        size = self._size(request)
        second = self._second_pass(request, size) if request.enable_hr else {}
        control = controls.read(_scripts(request), self.settings, image=None, size=_known(size))
        begun = [(second, _as_it_is)]
        return self._wanted(request, size, begun, control, second_pass=bool(second))

    def image_to_image(self, request: ImageToImage) -> Wanted:
        """Of several images each is painted from in turn."""
        self._check(request)
        images = [
            over(received(image, self.settings, "init_images"), "white")
            for image in request.init_images
        ]
        size = self._size(request)
        if request.mask is not None and request.inpaint_full_res:
            size = self._completed(size)
        scripts, first = _scripts(request), images[0]
        control = controls.read(scripts, self.settings, image=first, size=_known(size))
        sent = request.mask
        mask = None if sent is None else received(sent, self.settings, "mask")
        begun = [self._begun(request, image, mask, size) for image in images]
        return self._wanted(request, size, begun, control)

    def _begun(
        self,
        request: ImageToImage,
        picture: Image.Image,
        mask: Image.Image | None,
        size: "Sides",
    ) -> Begun:
        way = _RESIZES[request.resize_mode or 0]
        arguments: dict[str, Any] = {"resize": way}
        if "image_guidance_scale" in declared(self.family.options):
            arguments["image_guidance_scale"] = request.image_cfg_scale
        if self.family.skips_steps:
            arguments["strength"] = request.denoising_strength
        if mask is None:
            return {**arguments, "image": picture}, _as_it_is
        masked = self._masked(request, picture, mask, size, way)
        given = {
            "image": masked.picture,
            "mask_image": masked.mask,
            "mask_blur": request.mask_blur or 0.0,
            "keep_unmasked": True,
        }
        return {**arguments, **given}, masked.finished

    def _masked(
        self,
        request: ImageToImage,
        picture: Image.Image,
        mask: Image.Image,
        size: "Sides",
        way: str,
    ) -> inpainting.Masked:
        invert = bool(request.inpainting_mask_invert)
        mask = inpainting.marked(mask, picture.size, invert=invert)
        if request.inpaint_full_res:
            masked = inpainting.only_masked(
                picture,
                mask,
                self._completed(size),
                padding=request.inpaint_full_res_padding or 0,
                blur=request.mask_blur or 0.0,
            )
        else:
            masked = inpainting.fitted(picture, mask, _known(size), way)
        return inpainting.filled(masked, request.inpainting_fill or 0, request.seed or 0)

    def _wanted(
        self,
        request: Painting,
        size: "Sides",
        begun: Sequence[Begun],
        control: controls.Control,
        *,
        second_pass: bool = False,
    ) -> Wanted:
        """A request of any kind; what its pictures are begun with serves them in turn."""
        self.comments.extend(control.remarks)
        self.comments.extend(remarks.unused(request.others, second_pass=second_pass))
        prompt, negative = self._styled(request)
        sampler, drawn = self._sampler(request)
        arguments = {
            "prompt": prompt,
            "negative_prompt": negative or None,
            "num_inference_steps": request.steps,
            "guidance_scale": request.cfg_scale,
            "scheduler": sampler,
            "eta": drawn,
            "width": size[0],
            "height": size[1],
            "clip_skip": self._clip_skip(request),
            "vae": self.options.vae,
            **control.arguments,
        }
        seeds = _seeds(request)
        turns = [begun[i % len(begun)] for i in range(len(seeds))]
        each = [
            Asked(
                model=self.options.model,
                controlnets=control.nets,
                arguments=_given({**arguments, **of_kind, **varied}),
                seed=seed,
            )
            for (seed, varied), (of_kind, _) in zip(seeds, turns, strict=True)
        ]
        return Wanted(
            each=each,
            prompt=prompt,
            negative_prompt=negative,
            comments=self.comments,
            finishes=[finish for _, finish in turns],
        )

    def _check(self, request: Painting) -> None:
        """Raises Refusal for what would be another kind of picture."""
        if request.script_name:
            raise Unprocessable(f"Script {shown(request.script_name)!r} not found")
        if request.tiling:
            raise Unprocessable(
                "pictures that join at their edges cannot be painted here; leave tiling out",
                param="tiling",
            )
        if request.pictures > self.settings.max_n:
            raise Refusal(
                f"batch_size times n_iter is {request.pictures}; "
                f"give at most {self.settings.max_n}",
                param="batch_size",
            )

    def _styled(self, request: Painting) -> tuple[str, str]:
        """The prompts with the styles around them."""
        prompt, negative = request.prompt or "", request.negative_prompt or ""
        for name in (request.styles or [])[:_MOST_STYLES]:
            try:
                prompt, negative = styles.apply([name], prompt, negative)
            except SettingError as error:
                self.comments.append(str(error))
        return prompt, negative

    def _sampler(self, request: Painting) -> tuple[str | None, float | None]:
        """Our scheduler, and its eta, which webui's other samplers have as well."""
        sampler = request.sampler_name or request.sampler_index
        if not sampler:
            return None, None
        spacing = request.scheduler or ""
        name, spaced = samplers.found(self.family.bundle.scheduler, sampler, spacing)
        if not spaced:
            self.comments.append(f"scheduler {shown(spacing)} is not of {shown(sampler)}: not used")
        if name in _WITH_ETA:
            return name, request.eta
        if request.eta not in (None, 1.0):
            self.comments.append(f"eta {request.eta:g} is not used")
        return name, None

    def _clip_skip(self, request: Painting) -> int | None:
        """How many of the text encoder's layers are left out; webui counts those that are read."""
        layers = request.clip_skip or self.options.clip_layers
        return max(0, layers - self.family.layers_left) or None

    def _size(self, request: Painting) -> "Sides":
        """What is asked for, snapped to what the model can paint.

        Raises TooLarge before a picture is brought to such a size.
        """
        multiple = self.family.multiple
        width, height = _snapped(request.width, multiple), _snapped(request.height, multiple)
        if width and height and width * height > self.settings.max_pixels:
            raise TooLarge(
                f"{width}x{height} is more than {self.settings.max_pixels} pixels; ask for a "
                "smaller picture",
                param="width",
            )
        return width, height

    def _second_pass(self, request: TextToImage, size: "Sides") -> dict[str, Any]:
        """webui's hires fix: the picture is enlarged, and painted over."""
        strength = request.denoising_strength
        scale = request.hr_scale if request.hr_scale is not None else 2.0
        width, height = self._completed(size)
        asked = [
            larger / side
            for larger, side in ((request.hr_resize_x, width), (request.hr_resize_y, height))
            if larger
        ]
        if asked:
            scale = max(asked)
            if min(asked) != scale:
                self.comments.append(
                    "hr_resize_x and hr_resize_y have other proportions than the picture, which "
                    "keeps its own"
                )
        guidance = (request.hr_cfg, request.cfg_scale, self.family.recommended.guidance_scale)
        return {
            "enlarge": scale,
            "enlarge_strength": _SECOND_STRENGTH if strength is None else strength,
            "enlarge_guidance_scale": next(one for one in guidance if one is not None),
            "enlarge_steps": request.hr_second_pass_steps or None,
        }

    def _completed(self, size: "Sides") -> Size:
        """With the model's own for what is not asked for."""
        trained = self.family.recommended.size
        width, height = (trained if side is None else side for side in size)
        return width, height


Sides = tuple[int | None, int | None]
"""Width and height, as far as they are asked for."""


def family_of(models: Models, model: str) -> Family:
    """The kind of a model that is served."""
    return models.pipeline(Asked(model=model)).family


def _seeds(request: Painting) -> list[tuple[int, dict[str, Any]]]:
    """For each picture its seed, and the arguments of its variation: one of the two counts up."""
    strength = request.subseed_strength or 0.0
    pairs = seeds_of(
        request.seed,
        variation_seed=request.subseed,
        variation_strength=strength,
        count=request.pictures,
    )
    return [
        (
            seed,
            {"variation_seed": varied.seed, "variation_strength": strength} if varied else {},
        )
        for seed, varied in pairs
    ]


def _as_it_is(picture: Image.Image) -> Image.Image:
    return picture


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _scripts(request: Painting) -> Mapping[str, Any]:
    return request.alwayson_scripts or {}


def _known(size: Sides) -> Size | None:
    width, height = size
    return None if width is None or height is None else (width, height)


def _snapped(side: int | None, multiple: int) -> int | None:
    """The nearest multiple."""
    return None if side is None else max(multiple, round(side / multiple) * multiple)
