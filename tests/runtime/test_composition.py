"""Prompts joined with AND paint what diffusers' parts do in a loop with the published formula."""

from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline
from references import NEGATIVE, differ, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")

torch = pytest.importorskip("torch")

QUICK: dict[str, Any] = {"seed": 3, "num_inference_steps": 4, "width": 64, "height": 64}
PARTS = {"a red apple": 1.0, "blue house on the boat": 0.8, "a tree": -0.5}
PROMPT = "a red apple AND blue house on the boat :0.8 AND a tree:-.5"


@torch.no_grad()
def composed(peer: Any, scale: float) -> np.ndarray:
    """uncond + sum_i w_i * scale * (cond_i - uncond), by diffusers' modules."""
    told = {text: peer.encode_prompt(text, "cpu", 1, True, NEGATIVE) for text in PARTS}
    generator = torch.Generator("cpu").manual_seed(QUICK["seed"])
    peer.scheduler.set_timesteps(QUICK["num_inference_steps"])
    latents = torch.randn((1, 4, 8, 8), generator=generator) * peer.scheduler.init_noise_sigma
    for t in peer.scheduler.timesteps:
        sample = peer.scheduler.scale_model_input(latents, t)
        (_, negative), *_ = told.values()
        without = peer.unet(sample, t, negative).sample
        prediction = without.clone()
        for text, weight in PARTS.items():
            prompted = peer.unet(sample, t, told[text][0]).sample
            prediction += weight * scale * (prompted - without)
        latents = peer.scheduler.step(prediction, t, latents).prev_sample
    decoded = peer.vae.decode(latents / peer.vae.config.scaling_factor).sample
    pixels = (decoded / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return (pixels * 255).round().astype(np.uint8)[None]


def test_the_picture(pipe: StableDiffusionPipeline, reference: Any, config: Any) -> None:
    reference.scheduler = reference_scheduler("ddim", config)
    ours = pipe(PROMPT, NEGATIVE, scheduler="ddim", guidance_scale=4.0, **QUICK)
    assert differ(ours.images, composed(reference, 4.0)) <= 1


def test_as_plain_text_it_is_one_prompt(pipe: StableDiffusionPipeline) -> None:
    plan = pipe.plan(PROMPT, syntax="plain", **QUICK)
    assert len(plan.guidance.branches) == 2
    assert len(pipe.plan(PROMPT, **QUICK).guidance.branches) == 4
