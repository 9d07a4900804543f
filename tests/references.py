"""What diffusers paints for the prompts of our tests, and how far our pictures are from it."""

from typing import Any

import numpy as np

PROMPT = "a red apple on the boat"
NEGATIVE = "blue house"

# Our scheduler -> diffusers' class and the options that the short name stands for.
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "pndm": ("PNDMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
SPACINGS = {"_karras": "use_karras_sigmas", "_exponential": "use_exponential_sigmas"}


def reference_scheduler(name: str, config: Any) -> Any:
    """diffusers' scheduler that our short name stands for, made of a model's config."""
    import diffusers

    options: dict[str, Any] = {}
    for suffix, option in SPACINGS.items():
        if name.endswith(suffix):
            name, options = name.removesuffix(suffix), {option: True}
    class_name, settled = SCHEDULERS[name]
    return getattr(diffusers, class_name).from_config(config, **settled, **options)


def paint_reference(pipe: Any, seeds: list[int], **arguments: Any) -> np.ndarray:
    """The pictures that diffusers' pipeline paints of PROMPT in one batch: uint8, (n, h, w, 3)."""
    import torch

    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    images = pipe(
        PROMPT, num_images_per_prompt=len(seeds), generator=generators, **arguments
    ).images
    return np.stack([np.asarray(image) for image in images])


def differ(ours: list[Any], theirs: np.ndarray) -> int:
    """The largest difference of any channel, in steps of 1/255."""
    pictures = np.stack([np.asarray(image) for image in ours])
    assert pictures.shape == theirs.shape
    assert theirs.std() > 10  # a flat picture would equal anything flat
    return int(np.abs(pictures.astype(int) - theirs.astype(int)).max())
