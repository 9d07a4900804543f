"""The exact profile paints diffusers' picture: same seed, same scheduler, at most 1/255 off."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline, schedulers

pytestmark = pytest.mark.usefixtures("compiled_once")

PROMPT = "a red apple on the boat"
NEGATIVE = "blue house"

# Ours -> diffusers' class and the options that its short name settles.
REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
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
    "unipc": ("UniPCMultistepScheduler", {}),
}
SPACINGS = {"_karras": "use_karras_sigmas", "_exponential": "use_exponential_sigmas"}


def reference_scheduler(name: str, config: Any) -> Any:
    import diffusers

    for suffix, option in SPACINGS.items():
        if name.endswith(suffix):
            class_name, options = REFERENCES[name.removesuffix(suffix)]
            return getattr(diffusers, class_name).from_config(config, **options, **{option: True})
    class_name, options = REFERENCES[name]
    return getattr(diffusers, class_name).from_config(config, **options)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Any:
    """diffusers' own pipeline on the checkpoint that the folders were exported from."""
    import torch
    from diffusers import StableDiffusionPipeline as Diffusers
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    pipe = Diffusers.from_pretrained(tiny_checkpoint)
    # Some transformers read these old key names as nothing at all, and warn: load them by hand.
    weights = load_file(tiny_checkpoint / "text_encoder" / "model.safetensors")
    own = pipe.text_encoder.state_dict()
    bare = {key.removeprefix("text_model."): value for key, value in weights.items()}
    renamed = {key: bare[key.removeprefix("text_model.")] for key in own}
    pipe.text_encoder.load_state_dict(renamed, strict=True)
    if not hasattr(pipe.text_encoder, "text_model"):
        # diffusers 0.42 looks for clip_skip's norm where transformers had it before 5.6.
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def config(reference: Any) -> Any:
    return dict(reference.scheduler.config)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pipe(request: pytest.FixtureRequest) -> StableDiffusionPipeline:
    folder = {"openvino": "exported_openvino", "onnxruntime": "exported_onnx"}[request.param]
    return StableDiffusionPipeline.from_pretrained(
        request.getfixturevalue(folder), engine=request.param, device="cpu"
    )


def paint_reference(reference: Any, seeds: list[int], **arguments: Any) -> np.ndarray:
    import torch

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    images = reference(
        PROMPT, num_images_per_prompt=len(seeds), generator=generators, **arguments
    ).images
    return np.stack([np.asarray(image) for image in images])


def differ(ours: list[Any], theirs: np.ndarray) -> int:
    """The largest difference of any channel, in steps of 1/255."""
    pictures = np.stack([np.asarray(image) for image in ours])
    assert pictures.shape == theirs.shape
    assert theirs.std() > 10  # a flat picture would equal anything flat
    return int(np.abs(pictures.astype(int) - theirs.astype(int)).max())


def test_every_scheduler_has_a_reference() -> None:
    for name in schedulers.names():
        base = name.removesuffix("_karras").removesuffix("_exponential")
        assert base in REFERENCES


@pytest.mark.parametrize("name", schedulers.names())
def test_every_scheduler(
    pipe: StableDiffusionPipeline, reference: Any, config: Any, name: str
) -> None:
    reference.scheduler = reference_scheduler(name, config)
    arguments = {"num_inference_steps": 6, "guidance_scale": 7.5, "width": 64, "height": 64}
    theirs = paint_reference(reference, [3], negative_prompt=NEGATIVE, **arguments)
    ours = pipe(PROMPT, NEGATIVE, seed=3, scheduler=name, **arguments)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
        ({"guidance_scale": 0.0}, {"guidance_scale": 0.0}),
        ({"scheduler": "ddim", "eta": 0.7}, {"eta": 0.7}),
        ({"clip_skip": 1}, {"clip_skip": 1}),
        ({"clip_skip": 2}, {"clip_skip": 2}),
        ({"width": 96, "height": 64}, {"width": 96, "height": 64}),
        ({"width": 72, "height": 104}, {"width": 72, "height": 104}),
        ({"num_inference_steps": 1}, {"num_inference_steps": 1}),
    ],
    ids=str,
)
def test_every_argument(
    pipe: StableDiffusionPipeline, reference: Any, config: Any, ours: Any, theirs: Any
) -> None:
    reference.scheduler = reference_scheduler("ddim", config)
    common = {"num_inference_steps": 5, "width": 64, "height": 64}
    expected = paint_reference(reference, [11], negative_prompt=NEGATIVE, **{**common, **theirs})
    painted = pipe(PROMPT, NEGATIVE, **{"seed": 11, "scheduler": "ddim", **common, **ours})
    assert differ(painted.images, expected) <= 1


def test_a_batch_is_diffusers_batch_of_seeds(
    pipe: StableDiffusionPipeline, reference: Any, config: Any
) -> None:
    reference.scheduler = reference_scheduler("euler_a", config)
    arguments = {"num_inference_steps": 4, "width": 64, "height": 64, "guidance_scale": 5.0}
    expected = paint_reference(reference, [7, 8, 9], **arguments)
    painted = pipe(PROMPT, seed=7, num_images_per_prompt=3, scheduler="euler_a", **arguments)
    assert painted.seeds == [7, 8, 9]
    assert differ(painted.images, expected) <= 1


def test_v_prediction(tmp_path: Path, traced_once: None) -> None:
    """Stable Diffusion 2's kind of model, trained to predict the velocity."""
    from diffusers import StableDiffusionPipeline as Diffusers

    from checkpoints import tiny_stable_diffusion
    from pleinair.export import export_model

    checkpoint = tiny_stable_diffusion(
        tmp_path / "checkpoint", prediction_type="v_prediction", old_keys=False
    )
    folder = export_model(checkpoint, tmp_path / "model", precision="fp32")
    reference = Diffusers.from_pretrained(checkpoint)
    reference.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 5, "width": 64, "height": 64}
    theirs = paint_reference(reference, [2], **arguments)
    ours = StableDiffusionPipeline.from_pretrained(folder)(PROMPT, seed=2, **arguments)
    assert differ(ours.images, theirs) <= 1
