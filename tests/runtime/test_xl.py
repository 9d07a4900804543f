"""Stable Diffusion XL is diffusers': same seed, text and pictures, at most 1/255 off."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import loras
from checkpoints_xl import rewrite, tiny_refiner, tiny_stable_diffusion_xl
from pictures import hole, painting
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.errors import BundleError, SettingError
from references import NEGATIVE, PROMPT, differ, paint_reference, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")

COMMON: dict[str, Any] = {
    "num_inference_steps": 3,
    "guidance_scale": 5.0,
    "width": 64,
    "height": 64,
}


@pytest.fixture(scope="module")
def checkpoint(made: Any) -> Path:
    return made("checkpoint/tiny-xl", tiny_stable_diffusion_xl)


@pytest.fixture(scope="module")
def folder(both: Any) -> Path:
    return both("tiny-xl", tiny_stable_diffusion_xl, "openvino")[1]


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pipe(request: pytest.FixtureRequest, both: Any) -> StableDiffusionPipeline:
    _, folder = both("tiny-xl", tiny_stable_diffusion_xl, request.param)
    return StableDiffusionPipeline.from_pretrained(
        folder, engine=request.param, device="cpu", profile="exact"
    )


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    from diffusers import StableDiffusionXLPipeline

    return quiet(StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "ddim", "euler_a"])
def test_schedulers(pipe: StableDiffusionPipeline, reference: Any, name: str) -> None:
    reference.scheduler = reference_scheduler(name, reference.scheduler.config)
    theirs = paint_reference(reference, [3], negative_prompt=NEGATIVE, **COMMON)
    ours = pipe(PROMPT, NEGATIVE, seed=3, scheduler=name, **COMMON)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"negative_prompt": None},
        {"negative_prompt": ""},
        {"clip_skip": 1},
        {"guidance_scale": 1.0},
        {"width": 72, "height": 64},
        {"original_size": (20, 700), "crops_coords_top_left": (5, 90), "target_size": (300, 40)},
        {
            "negative_original_size": (30, 900),
            "negative_crops_coords_top_left": (60, 7),
            "negative_target_size": (1024, 512),
        },
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_arguments(
    pipe: StableDiffusionPipeline, reference: Any, arguments: dict[str, Any]
) -> None:
    given = {**COMMON, "negative_prompt": NEGATIVE, **arguments}
    reference.scheduler = reference_scheduler("euler", reference.scheduler.config)
    theirs = paint_reference(reference, [5], **given)
    ours = pipe(PROMPT, seed=5, **given)
    assert differ(ours.images, theirs) <= 1


def test_every_part_of_what_it_is_told_counts(pipe: StableDiffusionPipeline) -> None:
    """What parity cannot tell apart where a part is fed but has no weight."""
    plain = np.asarray(pipe(PROMPT, seed=1, **COMMON).images[0], int)
    for changed in ({"negative_prompt": ""}, {"original_size": (9, 900)}, {"clip_skip": 1}):
        other = np.asarray(pipe(PROMPT, seed=1, **COMMON, **changed).images[0], int)
        assert np.abs(other - plain).max() > 1, changed


def test_a_batch_of_seeds(pipe: StableDiffusionPipeline, reference: Any) -> None:
    reference.scheduler = reference_scheduler("euler", reference.scheduler.config)
    theirs = paint_reference(reference, [7, 8], **COMMON)
    ours = pipe(PROMPT, seed=7, num_images_per_prompt=2, **COMMON)
    assert differ(ours.images, theirs) <= 1


def test_image_to_image(pipe: StableDiffusionPipeline, reference: Any) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    theirs = quiet(StableDiffusionXLImg2ImgPipeline(**reference.components, add_watermarker=False))
    theirs.scheduler = reference_scheduler("dpmpp_2m", reference.scheduler.config)
    arguments = {"num_inference_steps": 5, "strength": 0.6, "image": painting(72, 64)}
    expected = paint_reference(theirs, [3], negative_prompt=NEGATIVE, **arguments)
    ours = pipe(PROMPT, NEGATIVE, seed=3, scheduler="dpmpp_2m", **arguments, guidance_scale=5.0)
    assert differ(ours.images, expected) <= 1


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_inpainting(pipe: StableDiffusionPipeline, reference: Any, strength: float) -> None:
    from diffusers import StableDiffusionXLInpaintPipeline

    theirs = quiet(StableDiffusionXLInpaintPipeline(**reference.components, add_watermarker=False))
    theirs.scheduler = reference_scheduler("euler_a", reference.scheduler.config)
    arguments = {
        **COMMON,
        "image": painting(),
        "mask_image": hole(),
        "strength": strength,
        "num_inference_steps": 5,
    }
    expected = paint_reference(theirs, [3], **arguments)
    ours = pipe(PROMPT, seed=3, scheduler="euler_a", **arguments)
    assert differ(ours.images, expected) <= 1


@pytest.mark.slow
def test_a_unet_made_for_inpainting(tmp_path: Path, traced_once: None) -> None:
    from diffusers import StableDiffusionXLInpaintPipeline

    checkpoint = tiny_stable_diffusion_xl(tmp_path / "checkpoint", in_channels=9)
    kind = "StableDiffusionXLInpaintPipeline"
    rewrite(checkpoint / "model_index.json", _class_name=kind)
    theirs = quiet(
        StableDiffusionXLInpaintPipeline.from_pretrained(checkpoint, add_watermarker=False)
    )
    pipe = StableDiffusionPipeline.from_pretrained(
        export_model(checkpoint, tmp_path / "model", precision="fp32"),
        engine="openvino",
        profile="exact",
    )
    arguments = {**COMMON, "image": painting(), "mask_image": hole(), "strength": 0.7}
    expected = paint_reference(theirs, [3], **arguments)
    assert differ(pipe(PROMPT, seed=3, **arguments).images, expected) <= 1


def test_one_run_goes_on_where_another_ended(pipe: StableDiffusionPipeline, reference: Any) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    reference.scheduler = reference_scheduler("euler", reference.scheduler.config)
    other = quiet(StableDiffusionXLImg2ImgPipeline(**reference.components, add_watermarker=False))
    arguments = {"num_inference_steps": 5, "guidance_scale": 5.0}
    size = {"width": 64, "height": 64}
    begun = reference(
        PROMPT,
        **arguments,
        **size,
        denoising_end=0.6,
        output_type="latent",
        generator=torch.Generator("cpu").manual_seed(3),
    ).images
    expected = paint_reference(other, [3], **arguments, image=begun, denoising_start=0.6)
    ours = pipe(PROMPT, seed=3, **arguments, **size, denoising_end=0.6, output_type="latent")
    assert len(ours.timings.steps) == 3
    ended = pipe(PROMPT, seed=3, **arguments, **size, latents=ours.images[0], denoising_start=0.6)
    assert len(ended.timings.steps) == 2
    assert differ(ended.images, expected) <= 1


def test_weights_and_chunks(pipe: StableDiffusionPipeline) -> None:
    """More chunks make a longer embedding; the pooled prompt stays the first chunk's."""
    plain = pipe(PROMPT, seed=1, **COMMON).images[0]
    for prompt in ("a red (apple:1.6) on the boat", f"{PROMPT} BREAK blue house", "cat " * 90):
        assert not np.array_equal(pipe(prompt, seed=1, **COMMON).images[0], plain)
    ones = pipe("a red (apple:1.0) on the boat", seed=1, **COMMON).images[0]
    assert np.array_equal(ones, plain)


def test_lora(checkpoint: Path, both: Any, tmp_path: Path) -> None:
    """kohya's names: UNet and both text encoders."""
    from diffusers import StableDiffusionXLPipeline

    theirs = quiet(StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False))
    roles = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    tensors = {}
    for seed, (module, prefix) in enumerate(
        (
            (theirs.unet, "lora_unet_"),
            (theirs.text_encoder, "lora_te1_text_model_"),
            (theirs.text_encoder_2.text_model, "lora_te2_text_model_"),
        )
    ):
        for key, value in loras.factors(module, seed).items():
            layer, role = key.rsplit(".", 1)
            if layer.startswith("add_embedding"):
                continue  # a layer that diffusers does not find by its name in kohya's files
            tensors[f"{prefix}{layer.replace('.', '_')}.{roles[role]}"] = value
    file = loras.save(tmp_path / "xl.safetensors", tensors)
    plain = paint_reference(theirs, [3], **COMMON)
    theirs.load_lora_weights(file)
    theirs.fuse_lora(components=["unet", "text_encoder", "text_encoder_2"], lora_scale=0.1)
    expected = paint_reference(theirs, [3], **COMMON)
    assert np.abs(expected.astype(int) - plain.astype(int)).max() > 5
    for engine in ("openvino", "onnxruntime"):
        _, folder = both("tiny-xl", tiny_stable_diffusion_xl, engine)
        pipe = StableDiffusionPipeline.from_pretrained(
            folder, engine=engine, device="cpu", loras=[(file, 0.1)], profile="exact"
        )
        assert differ(pipe(PROMPT, seed=3, **COMMON).images, expected) <= 1


def test_textual_inversion(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    """A word of two vectors, each as wide as its encoder."""
    from diffusers import StableDiffusionXLPipeline

    random = np.random.default_rng(2)
    widths = {"clip_l": 128, "clip_g": 64}
    vectors = {key: random.normal(size=(2, wide)).astype("f4") for key, wide in widths.items()}
    file = loras.save(tmp_path / "gizmo.safetensors", vectors)
    theirs = quiet(StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False))
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        theirs.load_textual_inversion(
            {"gizmo": torch.from_numpy(vectors[key])},
            token="gizmo",
            text_encoder=getattr(theirs, f"text_encoder{number}"),
            tokenizer=getattr(theirs, f"tokenizer{number}"),
        )
    prompt = "a red gizmo on the boat"
    generator = torch.Generator("cpu").manual_seed(3)
    expected = np.stack(
        [np.asarray(image) for image in theirs(prompt, generator=generator, **COMMON).images]
    )
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine="openvino", embeddings=[file], profile="exact"
    )
    assert differ(pipe(prompt, seed=3, **COMMON).images, expected) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_skip": 2}, "clip_skip is 2; this model takes 0 to 1"),
        ({"original_size": 7}, "original_size is 7"),
        ({"target_size": "large"}, "target_size is 'large'"),
        ({"aesthetic_score": 6}, "refiner"),
        ({"denoising_start": 0.5}, "give latents"),
        ({"denoising_end": 1.5}, "denoising_end is 1.5"),
        ({"denoising_end": 0.5, "image": painting()}, "not with image"),
        ({"denoising_end": 0.001}, "none of these 3 timesteps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes(pipe: StableDiffusionPipeline, arguments: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        pipe(PROMPT, **COMMON, **arguments)


def test_the_folder_says_its_kind(folder: Path) -> None:
    family = families.open_model(folder)
    assert family.name == "Stable Diffusion XL"
    assert (family.scores, family.refines, family.zero_negative) == (False, False, True)
    assert family.space.scale == pytest.approx(0.13025)


def test_a_folder_without_the_second_encoder(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(copy / "text_encoder_2")
    (copy / "pleinair.json").unlink()
    with pytest.raises(BundleError, match="text_encoder_2"):
        families.open_model(copy)


def test_the_refiner(tmp_path: Path, traced_once: None) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    checkpoint = tiny_refiner(tmp_path / "checkpoint")
    theirs = quiet(
        StableDiffusionXLImg2ImgPipeline.from_pretrained(checkpoint, add_watermarker=False)
    )
    folder = export_model(checkpoint, tmp_path / "model", precision="fp32")
    pipe = StableDiffusionPipeline.from_pretrained(folder, profile="exact")
    for scores in ({}, {"aesthetic_score": 9.0, "negative_aesthetic_score": 1.0}):
        arguments = {"num_inference_steps": 5, "strength": 0.6, "image": painting(), **scores}
        expected = paint_reference(theirs, [3], **arguments)
        ours = pipe(PROMPT, seed=3, guidance_scale=5.0, **arguments)
        assert differ(ours.images, expected) <= 1
    with pytest.raises(SettingError, match="target_size"):
        pipe(PROMPT, image=painting(), target_size=(512, 512))


def test_a_config_that_does_not_fit_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    from pleinair.runtime.errors import SourceError

    copy = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    rewrite(copy / "model_index.json", requires_aesthetics_score=True)
    with pytest.raises(SourceError, match="requires_aesthetics_score"):
        export_model(copy, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def tiny_playground(folder: Path) -> None:
    """As Playground v2.5: EDM's noise, and latents with a mean and a deviation by channel."""
    tiny_stable_diffusion_xl(folder)
    latents = {"latents_mean": [-1.5, 1.9, -1.4, 2.5], "latents_std": [8.5, 5.9, 6.5, 5.2]}
    rewrite(folder / "vae" / "config.json", scaling_factor=0.5, **latents)
    config = {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_max": 80.0, "sigma_data": 0.5}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    rewrite(folder / "model_index.json", scheduler=["diffusers", config["_class_name"]])


@pytest.mark.parametrize("strength", [None, 0.6])
def test_latents_with_a_mean_and_edm_s_noise(both: Any, strength: float | None) -> None:
    """Text and picture as diffusers' pipelines paint them; previews are of such latents too."""
    import diffusers

    checkpoint, folder = both("tiny-playground", tiny_playground, "openvino")
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine="openvino", device="cpu", profile="exact"
    )
    theirs = quiet(diffusers.StableDiffusionXLPipeline.from_pretrained(checkpoint))
    call = {**COMMON, "num_inference_steps": 4}
    if strength is not None:
        theirs = quiet(diffusers.StableDiffusionXLImg2ImgPipeline(**theirs.components))
        call |= {"image": painting(64, 64), "strength": strength}
        del call["width"], call["height"]
    ours = pipe(PROMPT, NEGATIVE, seed=3, **call)
    assert differ(ours.images, paint_reference(theirs, [3], negative_prompt=NEGATIVE, **call)) <= 1
