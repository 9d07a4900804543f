"""What a request asks for and is not done here: said in the answer's `comments`, or refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from pleinair.runtime.errors import shown

# Fields that are not declared, and the values of each with which it changes nothing. A field is
# named where it would have changed the picture, or where it is; all others are webui's own affairs.
_NEUTRAL: Mapping[str, Sequence[Any]] = {
    "restore_faces": (False,),
    "save_images": (False,),
    "s_churn": (0,),
    "s_tmax": (0,),
    "s_tmin": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
    "seed_resize_from_w": (0, -1),
    "seed_resize_from_h": (0, -1),
    "initial_noise_multiplier": (1,),
    "image_cfg_scale": (1.5,),
    "refiner_checkpoint": ("", "None"),
    "hr_checkpoint_name": ("", "Use same checkpoint"),
    "hr_sampler_name": ("", "Use same sampler"),
    "hr_scheduler": ("", "Use same scheduler", "automatic", "Automatic"),
    "hr_prompt": ("",),
    "hr_negative_prompt": ("",),
    "hr_upscaler": ("", "None", "Lanczos"),
    "firstphase_width": (0,),
    "firstphase_height": (0,),
    "mask_round": (True,),
    "gfpgan_visibility": (0,),
    "codeformer_visibility": (0,),
}
# Those of the second pass, which say nothing where there is none.
_SECOND_PASS = ("hr_", "firstphase_")


def unused(others: Mapping[str, Any], *, second_pass: bool) -> list[str]:
    """A line for each field that is not declared and would have changed something."""
    return [
        f"{name} {shown(value)} is not used"
        for name, value in others.items()
        if name in _NEUTRAL
        and value is not None
        and value not in _NEUTRAL[name]
        and (second_pass or not name.startswith(_SECOND_PASS))
    ]
