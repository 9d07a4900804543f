"""UNets that blocks were taken out of paint diffusers' picture: BK-SDM, SDXS, SSD-1B, Vega."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints_small as small
import numpy as np
import pytest

import loras
from checkpoints import autoencoder_tiny
from pictures import hole, painting
from pleinair.export import export_model, quantize_model
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import SettingError, SourceError
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.model.latent_space import LatentSpace
from references import NEGATIVE, PROMPT, differ, paint_reference

pytestmark = pytest.mark.usefixtures("compiled_once")

SIZE = {"width": 64, "height": 64}
GUIDED: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 7.5, **SIZE}
ONE_STEP: dict[str, Any] = {"num_inference_steps": 1, "guidance_scale": 0.0, **SIZE}
KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "tiny-bk-sdm-small": (small.tiny_bk_sdm_small, GUIDED),
    "tiny-bk-sdm-tiny": (small.tiny_bk_sdm_tiny, GUIDED),
    "tiny-sdxs": (small.tiny_sdxs, ONE_STEP),
    "tiny-sdxs-dreamshaper": (small.tiny_sdxs_dreamshaper, ONE_STEP),
    "tiny-ssd-1b": (small.tiny_ssd_1b, GUIDED),
    "tiny-lcm-ssd-1b": (small.tiny_lcm_ssd_1b, GUIDED),
}


def opened(folder: Path, engine: str, **options: Any) -> StableDiffusionPipeline:
    options = {"profile": "exact", **options}
    return StableDiffusionPipeline.from_pretrained(folder, engine=engine, device="cpu", **options)


def reference(checkpoint: Path, kind: str = "AutoPipelineForText2Image") -> Any:
    import diffusers

    pipe = getattr(diffusers, kind).from_pretrained(checkpoint)
    if hasattr(pipe, "watermark"):
        pipe.watermark = None
    return pipe


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_picture(both: Any, kind: str, engine: str) -> None:
    build, arguments = KINDS[kind]
    checkpoint, folder = both(kind, build, engine)
    theirs = paint_reference(reference(checkpoint), [2], negative_prompt=NEGATIVE, **arguments)
    ours = opened(folder, engine)(PROMPT, NEGATIVE, seed=2, **arguments)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize("kind", ["tiny-bk-sdm-tiny", "tiny-sdxs", "tiny-ssd-1b"])
@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxRuntimeEngine])
def test_every_place_to_cut_at(both: Any, engine: type[Any], kind: str) -> None:
    """As many as the family says; the deepest is where the lowest level ends, middle or none."""
    _, folder = both(kind, KINDS[kind][0], engine.name)
    family = families.open_model(folder)
    made = engine()
    file = family.bundle.graph("unet", made.format)
    shapes = family.denoiser_inputs(1, 72, 64)
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    feeds["timestep"] = np.array(501)
    expected = made.compile(file, shapes)(feeds)["out_sample"]
    for branch in (0, family.cuts - 1):
        full = made.compile(file, shapes, [Cut(branch, shallow=False)])
        shallow = made.compile(file, shapes, [Cut(branch, shallow=True)])
        found, features = full(feeds).values()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        (again,) = shallow({**feeds, DEEP_FEATURES: features}).values()
        np.testing.assert_allclose(again, expected, atol=1e-5)
    with pytest.raises(Exception, match=rf"has {family.cuts} skip connections"):
        made.compile(file, shapes, [Cut(family.cuts, shallow=True)])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_tiny_vae_encodes_pictures(both: Any, engine: str) -> None:
    """Its encoder says latents, not their distribution: no number is drawn for it."""
    checkpoint, folder = both("tiny-sdxs", small.tiny_sdxs, engine)
    arguments = {"num_inference_steps": 4, "guidance_scale": 3.0, "strength": 0.6}
    pipe = opened(folder, engine)
    theirs = reference(checkpoint, "AutoPipelineForImage2Image")
    expected = paint_reference(theirs, [3], image=painting(), **arguments)
    assert differ(pipe(PROMPT, seed=3, image=painting(), **arguments).images, expected) <= 1
    theirs = reference(checkpoint, "AutoPipelineForInpainting")
    masked = {"image": painting(), "mask_image": hole(), **arguments}
    expected = paint_reference(theirs, [3], **masked, **SIZE)
    assert differ(pipe(PROMPT, seed=3, **masked).images, expected) <= 1


def test_a_tiny_vae_is_the_tiny_decoder(both: Any) -> None:
    """`vae="tiny"` asks for nothing else, and previews are what it makes of the latents."""
    _, folder = both("tiny-sdxs", small.tiny_sdxs, "openvino")
    pipe = opened(folder, "openvino")
    assert not pipe.family.bundle.has("vae_decoder_tiny")
    plain = pipe(PROMPT, seed=1, **ONE_STEP).images[0]
    tiny = pipe(PROMPT, seed=1, vae="tiny", **ONE_STEP).images[0]
    assert np.array_equal(plain, tiny)
    latents = pipe(PROMPT, seed=1, output_type="latent", **ONE_STEP).images[0]
    assert np.array_equal(pipe.preview(latents), plain)


def test_a_model_without_says_how_to_get_one(both: Any) -> None:
    _, folder = both("tiny-bk-sdm-tiny", small.tiny_bk_sdm_tiny, "openvino")
    with pytest.raises(SettingError, match="--tiny-vae"):
        opened(folder, "openvino").plan(PROMPT, vae="tiny")


def test_its_latent_space() -> None:
    """A cell is 2 pixels a level; what its config leaves out is as diffusers has it."""
    tiny = {"_class_name": "AutoencoderTiny", "latent_channels": 4}
    assert LatentSpace.of(tiny) == LatentSpace(scale=1.0)
    three = {**tiny, "num_decoder_blocks": [1, 1, 1], "scaling_factor": 0.5}
    assert (LatentSpace.of(three).factor, LatentSpace.of(three).scale) == (4, 0.5)
    assert LatentSpace.of({"block_out_channels": [1] * 4}).scale == 0.18215


def test_the_large_vae_in_place_of_the_tiny_one(
    made: Any, tmp_path: Path, tiny_checkpoint: Path, traced_once: None
) -> None:
    """As SDXS' card has it, with `vae_large`; and a tiny one in place of a large one."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    checkpoint = made("checkpoint/tiny-sdxs", small.tiny_sdxs)
    tiny = autoencoder_tiny(tmp_path / "tiny", seed=5)
    for source, vae, kind, size in (
        (checkpoint, tiny_checkpoint / "vae", AutoencoderKL, ONE_STEP),
        (tiny_checkpoint, tiny, AutoencoderTiny, GUIDED),
    ):
        theirs = reference(source)
        theirs.vae = kind.from_pretrained(vae)
        expected = paint_reference(theirs, [2], **size)
        made = export_model(source, tmp_path / kind.__name__, precision="fp32", vae=vae)
        ours = opened(made, "openvino")(PROMPT, seed=2, **size)
        assert differ(ours.images, expected) <= 1


def test_another_unet(made: Any, tmp_path: Path, traced_once: None) -> None:
    """As LCM-SSD-1B is published: a UNet alone, for the pipeline of the model it was made from."""
    from diffusers import LCMScheduler, UNet2DConditionModel

    checkpoint, lcm = (
        made(f"checkpoint/{name}", KINDS[name][0]) for name in ("tiny-ssd-1b", "tiny-lcm-ssd-1b")
    )
    theirs = reference(checkpoint)
    theirs.register_modules(unet=UNet2DConditionModel.from_pretrained(lcm / "unet"))
    theirs.scheduler = LCMScheduler.from_config(theirs.scheduler.config)
    arguments = {**GUIDED, "num_inference_steps": 4, "guidance_scale": 8.0}
    expected = paint_reference(theirs, [2], **arguments)
    made = export_model(
        checkpoint, tmp_path / "model", precision="fp32", unet=lcm / "unet", scheduler="lcm"
    )
    pipe = opened(made, "openvino")
    assert (pipe.family.recommended.steps, pipe.family.recommended.scheduler) == (4, "lcm")
    assert differ(pipe(PROMPT, seed=2, **arguments).images, expected) <= 1


def test_a_unet_of_another_shape_is_named(made: Any, tmp_path: Path) -> None:
    """Of a lone file the shape is what the checkpoint's config says."""
    checkpoint = made("checkpoint/tiny-ssd-1b", small.tiny_ssd_1b)
    other = made("checkpoint/tiny-lcm-ssd-1b", small.tiny_lcm_ssd_1b)
    file = shutil.copy(other / "unet" / "diffusion_pytorch_model.safetensors", tmp_path)
    with pytest.raises(SourceError, match=r"time_embedding\.cond_proj\.weight"):
        export_model(checkpoint, tmp_path / "model", unet=file)


def test_lora(both: Any, tmp_path: Path) -> None:
    """kohya's names, of attentions that differ in their depth, in the middle that is left."""
    checkpoint, folder = both("tiny-ssd-1b", small.tiny_ssd_1b, "openvino")
    theirs = reference(checkpoint)
    roles = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    tensors = {}
    for key, value in loras.factors(theirs.unet, 0).items():
        layer, role = key.rsplit(".", 1)
        if not layer.startswith("add_embedding"):
            tensors[f"lora_unet_{layer.replace('.', '_')}.{roles[role]}"] = value
    assert any("mid_block_resnets_0" in key for key in tensors)
    file = loras.save(tmp_path / "ssd.safetensors", tensors)
    theirs.load_lora_weights(file)
    theirs.fuse_lora(components=["unet"], lora_scale=0.1)
    expected = paint_reference(theirs, [3], **GUIDED)
    plain = opened(folder, "openvino")(PROMPT, seed=3, **GUIDED)
    assert differ(plain.images, expected) > 5
    changed = opened(folder, "openvino", loras=[(file, 0.1)])
    assert differ(changed(PROMPT, seed=3, **GUIDED).images, expected) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiny-bk-sdm-tiny", "tiny-sdxs", "tiny-ssd-1b"])
def test_in_8_bits(both: Any, tmp_path: Path, kind: str) -> None:
    """Quantized, cut for kept features, and painted by every profile."""
    _, folder = both(kind, KINDS[kind][0], "openvino")
    copy = shutil.copytree(folder, tmp_path / "model")
    quantize_model(copy, formats=["openvino"], samples=4, steps=4, size=64)
    arguments = {**GUIDED, "num_inference_steps": 5}
    exact = np.asarray(opened(copy, "openvino")(PROMPT, seed=1, **arguments).images[0], int)
    for profile in ("balanced", "fast"):
        out = opened(copy, "openvino", profile=profile)(PROMPT, seed=1, **arguments)
        picture = np.asarray(out.images[0], int)
        assert picture.std() > 10
        assert np.abs(picture - exact).mean() < 40, profile
