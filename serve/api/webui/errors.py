"""Requests that webui refuses, and its fields' names in what the library says."""

import contextlib
from collections.abc import Iterator, Mapping

from pleinair.runtime.errors import PleinairError

from ...errors import Refusal


class Unprocessable(Refusal):
    """What webui's extensions do and nothing here does."""

    status, code = 422, "HTTPException"


class Unstoppable(Refusal):
    """As webui answers where it cannot stop itself."""

    status, code = 501, "HTTPException"


class Withheld(Refusal):
    """Nothing of what was painted may be shown."""

    code = "HTTPException"


class Unpainted(Refusal):
    """A picture that was accepted and did not come about.

    status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, "HTTPException"


# An argument of a call -> what webui calls it.
_FIELDS: Mapping[str, str] = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "image_guidance_scale": "image_cfg_scale",
    "strength": "denoising_strength",
    "enlarge_strength": "denoising_strength",
    "enlarge": "hr_scale",
    "enlarge_guidance_scale": "hr_cfg",
    "enlarge_steps": "hr_second_pass_steps",
    "image": "init_images",
    "mask_image": "mask",
    "mask_invert": "inpainting_mask_invert",
    "scheduler": "sampler_name",
    "variation_seed": "subseed",
    "variation_strength": "subseed_strength",
    "clip_skip": "CLIP_stop_at_last_layers",
    "control_image": "a ControlNet's image",
    "controlnet_conditioning_scale": "a ControlNet's weight",
    "control_guidance_start": "guidance_start",
    "control_guidance_end": "guidance_end",
}


@contextlib.contextmanager
def in_webuis_words() -> Iterator[None]:
    """An error of the library's names the fields that the client has sent."""
    try:
        yield
    except PleinairError as error:
        error.args = (error.spelled(_FIELDS),)
        raise
