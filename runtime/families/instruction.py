"""Editing by instruction, "put a hat on it": InstructPix2Pix [Brooks et al. 2023]."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..denoise.guidance import Guidance, instructed
from ..denoise.posterior import Posterior
from ..denoise.start import Draws, Origin, Start
from ..errors import BundleError, Message, SettingError
from ..model.controlnet import ControlNet
from ..options.groups import Picture
from ..options.option import option
from ..schedulers import Scheduler
from .family import Encode, grey
from .settings import Settings
from .stable_diffusion import StableDiffusion, UNetFamily

_IMAGE_SCALE = 1.5  # diffusers'


@dataclass(frozen=True, kw_only=True)
class InstructionOptions:
    """Of models that edit by instruction."""

    image_guidance_scale: float | None = option(
        "--image-guidance-scale",
        metavar="X",
        help="editing by instruction: how close to --init-img (default: 1.5)",
    )


class Instruction(UNetFamily):
    """A UNet of 8 channels: it sees the picture to edit beside the latents."""

    name = "models that edit by instruction"
    class_names = (*StableDiffusion.class_names, "StableDiffusionInstructPix2PixPipeline")
    options = InstructionOptions
    skips_steps = False
    task = "editing by instruction"

    @classmethod
    def channels(cls, latents: int) -> tuple[int, ...]:
        return (2 * latents,)

    def check_call(self, picture: Picture, options: InstructionOptions) -> None:
        if picture.image is None:
            raise SettingError(
                Message("{0} edits pictures by instruction: give {image}", self.bundle.name)
            )
        if picture.mask_image is not None:
            raise SettingError(
                Message("{0} edits whole pictures: leave {mask_image} out", self.bundle.name)
            )
        if picture.strength is not None:
            raise SettingError(
                Message(
                    "{0} edits pictures by instruction and has no {strength}; "
                    "{image_guidance_scale} says how much of the picture stays",
                    self.bundle.name,
                )
            )

    def check_controlnet(self, net: ControlNet) -> None:
        raise BundleError(
            f"{self.bundle.name} edits pictures by instruction, which knows no ControlNets"
        )

    def guidance(self, scale: float, options: InstructionOptions) -> Guidance:
        asked = options.image_guidance_scale
        return instructed(scale, float(_IMAGE_SCALE if asked is None else asked))

    def example_pictures(self, size: int) -> dict[str, Image.Image]:
        return {"image": grey(size)}

    def origin(self, settings: Settings, encode: Encode) -> Origin:
        assert settings.canvas is not None  # checked with the pictures
        return BesidePicture(encode(settings.canvas.pixels))


@dataclass(frozen=True)
class BesidePicture:
    """Noise, with the picture beside it that the UNet edits."""

    picture: Posterior

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        # The mean, and not scaled: so the model was trained.
        picture = self.picture.mean
        noise = draws.start(picture.shape) * np.float32(scheduler.init_noise_sigma)
        return Start(noise, beside=picture)
