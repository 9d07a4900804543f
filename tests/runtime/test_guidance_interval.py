"""Guidance in a part of the steps: diffusers' loop with the same rule, and no call too many."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from checkpoints import tiny_controlnet, tiny_pix2pix
from checkpoints_xl import tiny_lcm
from evaluations import watched
from pictures import painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import SettingError
from references import NEGATIVE, PROMPT, differ, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")

torch = pytest.importorskip("torch")


QUICK: dict[str, Any] = {"seed": 3, "num_inference_steps": 5, "width": 64, "height": 64}
# So early that no step is left out: branches are asked one by one, and all are compared.
APART = {"guidance_start": 1e-9}


@torch.no_grad()
def diffusers_loop(peer: Any, guided: Callable[[int, int], bool], scale: float = 7.5) -> np.ndarray:
    """Text to image with diffusers' parts, written out: guidance where it is wanted."""
    prompt, negative = peer.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    scheduler, generator = peer.scheduler, torch.Generator("cpu").manual_seed(3)
    scheduler.set_timesteps(QUICK["num_inference_steps"])
    latents = torch.randn((1, 4, 8, 8), generator=generator) * scheduler.init_noise_sigma
    total = len(scheduler.timesteps)
    for i, t in enumerate(scheduler.timesteps):
        sample = scheduler.scale_model_input(latents, t)
        prediction = peer.unet(sample, t, prompt).sample
        if guided(i, total):
            without = peer.unet(sample, t, negative).sample
            prediction = without + scale * (prediction - without)
        noise = {"generator": generator} if "Ancestral" in type(scheduler).__name__ else {}
        latents = scheduler.step(prediction, t, latents, **noise).prev_sample
    decoded = peer.vae.decode(latents / peer.vae.config.scaling_factor).sample
    pixels = (decoded / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return (pixels * 255).round().astype(np.uint8)[None]


@pytest.mark.parametrize(
    ("scheduler", "start", "stop", "first", "last"),
    [
        ("ddim", 0.0, 0.6, 0, 3),
        ("ddim", 0.4, 1.0, 2, 5),
        ("euler_a", 0.2, 0.79, 1, 3),
        ("dpmpp_2m_karras", 0.2, 0.8, 1, 4),
        ("heun", 0.25, 0.5, 2, 4),  # of nine evaluations
        ("plms", 0.0, 0.5, 0, 3),  # of six
    ],
)
def test_an_interval(
    pipe: StableDiffusionPipeline,
    reference: Any,
    config: Any,
    monkeypatch: pytest.MonkeyPatch,
    scheduler: str,
    start: float,
    stop: float,
    first: int,
    last: int,
) -> None:
    reference.scheduler = reference_scheduler(scheduler, config)
    theirs = diffusers_loop(reference, lambda i, _: first <= i < last)
    seen = watched(pipe, monkeypatch)
    interval = {"guidance_start": start, "guidance_stop": stop}
    ours = pipe(PROMPT, NEGATIVE, scheduler=scheduler, **interval, **QUICK)
    assert differ(ours.images, theirs) <= 1
    assert {one.batch for one in seen} == {1}
    assert len(seen) == len(reference.scheduler.timesteps) + last - first


def test_throughout_it_is_the_plain_loop(
    pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of two, and bit for bit what it is without these arguments."""
    plain = pipe(PROMPT, NEGATIVE, **QUICK).images[0]
    seen = watched(pipe, monkeypatch)
    throughout = {"guidance_start": 0.0, "guidance_stop": 1.0}
    same = pipe(PROMPT, NEGATIVE, **throughout, **QUICK).images[0]
    assert np.array_equal(plain, same)
    assert {one.batch for one in seen} == {2}


def test_tiles_are_guided_together(
    pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(pipe, monkeypatch)
    wide = {**QUICK, "width": 96, "tile": 64, "scheduler": "ddim"}
    pipe(PROMPT, **wide, guidance_stop=0.2)
    assert len(seen) == 2 * (2 + 4)


@pytest.mark.parametrize("guidance_scale", [1.0, 0.5])
def test_without_guidance_there_is_nothing_to_stop(
    pipe: StableDiffusionPipeline, guidance_scale: float
) -> None:
    common = {"prompt": PROMPT, "guidance_scale": guidance_scale, **QUICK}
    stopped = pipe(**common, guidance_stop=0.5).images[0]
    assert np.array_equal(stopped, pipe(**common).images[0])


def test_a_scheduled_prompt(pipe: StableDiffusionPipeline) -> None:
    """Branches asked one by one are those of the step's own prompt."""
    common = {"prompt": "[red:blue:0.6] boat", "negative_prompt": "[cat:dog:0.4]", **QUICK}
    together = pipe(**common).images
    assert differ(pipe(**common, **APART).images, np.asarray(together[0])[None]) <= 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_by_instruction(engine: str, both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ways are compared; the prediction without guidance is that of all there is."""
    _, folder = both("tiny-pix2pix", tiny_pix2pix, engine)
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine=engine, device="cpu", profile="exact"
    )
    common = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "image": painting(), "seed": 3}
    common |= {"num_inference_steps": 4, "scheduler": "ddim"}
    together = pipe(**common).images
    assert differ(pipe(**common, **APART).images, np.asarray(together[0])[None]) <= 1
    unguided = pipe(**common, guidance_scale=1.0).images
    seen = watched(pipe, monkeypatch)
    never = pipe(**common, guidance_stop=0.2).images  # of 4 steps that leaves none
    assert len(seen) == 4
    assert differ(never, np.asarray(unguided[0])[None]) <= 1
    seen.clear()
    pipe(**common, guidance_stop=0.5, cache_interval=2)
    assert [one.kind[0] for one in seen] == list("www" + "sss" + "ws")
    seen.clear()
    kept = pipe(**common, cache_interval=2, cache_guidance="kept").images
    assert [one.kind[0] for one in seen] == list("www" + "s" + "www" + "s")
    anew = pipe(**common, cache_interval=2).images
    assert 0 < differ(kept, np.asarray(anew[0])[None]) < differ(kept, np.asarray(unguided[0])[None])


@pytest.mark.parametrize("guess_mode", [False, True])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_with_a_controlnet(
    engine: str, guess_mode: bool, both: Any, request: pytest.FixtureRequest
) -> None:
    """In guess mode it steers the conditional branch alone, also where that is asked by itself."""
    form = {"openvino": "openvino", "onnxruntime": "onnx"}[engine]
    _, net = both("net-1", partial(tiny_controlnet, seed=1))
    folder = request.getfixturevalue(f"exported_{form}")
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine=engine, device="cpu", controlnet=net, profile="exact"
    )
    common = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "control_image": painting(seed=4)}
    common |= {"guess_mode": guess_mode, "scheduler": "ddim", **QUICK}
    together = pipe(**common).images
    assert differ(pipe(**common, **APART).images, np.asarray(together[0])[None]) <= 1
    unguided = pipe(**common, guidance_scale=1.0).images
    never = pipe(**common, guidance_stop=0.1).images
    assert differ(never, np.asarray(unguided[0])[None]) <= 1
    # And deep features can be kept all the while.
    cached = pipe(**common, cache_interval=2, num_images_per_prompt=1).images
    assert np.abs(np.asarray(cached[0]).astype(int) - np.asarray(together[0])).max() > 0


def test_a_latent_consistency_model(both: Any) -> None:
    """It is told its scale, and asked once: the profile's interval changes nothing."""
    _, folder = both("tiny-lcm", tiny_lcm, "openvino")
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="exact")
    common = {"prompt": PROMPT, "seed": 3, "num_inference_steps": 3}
    plain = pipe(**common).images[0]
    assert np.array_equal(pipe(**common, guidance_stop=0.5).images[0], plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_start": -0.1}, "guidance_start is -0.1 and guidance_stop 1; .* start < stop"),
        ({"guidance_stop": 1.1}, "guidance_stop 1.1"),
        ({"guidance_start": 0.5, "guidance_stop": 0.5}, "guidance_start is 0.5"),
        ({"guidance_stop": float("nan")}, "guidance_stop is nan"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        pipe("boat", **{**QUICK, **arguments})
    assert "\n" not in str(caught.value)
