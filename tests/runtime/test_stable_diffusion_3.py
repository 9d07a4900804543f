"""Stable Diffusion 3 is diffusers': same seed, text and pictures, at most 1/255 off."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import loras
from checkpoints_sd3 import tiny_stable_diffusion_3, tiny_stable_diffusion_3_5
from checkpoints_xl import rewrite
from fakes import controlnet
from pictures import hole, painting
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import (
    AdapterError,
    BundleError,
    SchedulerError,
    SettingError,
    SourceError,
)
from pleinair.runtime.families import open_model
from references import NEGATIVE, PROMPT, differ, paint_reference

pytestmark = pytest.mark.usefixtures("compiled_once")

# A shift that differs between the sizes of these tests.
DYNAMIC = {"use_dynamic_shifting": True, "base_image_seq_len": 4, "max_image_seq_len": 32}
KINDS: dict[str, Callable[[Path], Path]] = {
    "3": tiny_stable_diffusion_3,
    "3 without T5": lambda folder: tiny_stable_diffusion_3(folder, t5=False),
    "3.5 shifted by size": lambda folder: tiny_stable_diffusion_3_5(folder, scheduler=DYNAMIC),
}
COMMON: dict[str, Any] = {
    "num_inference_steps": 3,
    "guidance_scale": 5.0,
    "width": 64,
    "height": 64,
}
VARIANTS: list[dict[str, Any]] = [
    {"negative_prompt": None},
    {"guidance_scale": 1.0},
    {"width": 48, "height": 80},
    {"width": 16, "height": 96, "max_sequence_length": 16},
]


def named(kind: str) -> str:
    """What the checkpoint of a kind is called."""
    return f"tiny-sd{kind.replace(' ', '-')}"


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(made: Any, kind: str) -> Path:
    return made(f"checkpoint/{named(kind)}", KINDS[kind])


@pytest.fixture(scope="module")
def reference(checkpoint: Path, kind: str) -> Any:
    return diffusers_pipeline(checkpoint, "StableDiffusion3Pipeline", t5="without" not in kind)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pipe(request: pytest.FixtureRequest, both: Any, kind: str) -> StableDiffusionPipeline:
    _, folder = both(named(kind), KINDS[kind], request.param)
    return StableDiffusionPipeline.from_pretrained(
        folder, engine=request.param, device="cpu", profile="exact"
    )


@pytest.fixture(scope="module")
def plain_folder(both: Any) -> Path:
    """Of the first kind, for tests of it alone."""
    return both("tiny-sd3", tiny_stable_diffusion_3, "openvino")[1]


@pytest.fixture(scope="module")
def plain(plain_folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        plain_folder, engine="openvino", device="cpu", profile="exact"
    )


@pytest.fixture(scope="module")
def plain_reference(made: Any) -> Any:
    checkpoint = made("checkpoint/tiny-sd3", tiny_stable_diffusion_3)
    return diffusers_pipeline(checkpoint, "StableDiffusion3Pipeline")


def diffusers_pipeline(checkpoint: Path, name: str, t5: bool = True) -> Any:
    import diffusers

    absent = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = getattr(diffusers, name).from_pretrained(checkpoint, **absent)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def relative(reference: Any, name: str) -> Any:
    """Another of diffusers' pipelines, of the same networks."""
    import diffusers

    pipe = getattr(diffusers, name)(**reference.components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_from_text(
    pipe: StableDiffusionPipeline, reference: Any, arguments: dict[str, Any]
) -> None:
    given = {**COMMON, "negative_prompt": NEGATIVE, **arguments}
    theirs = paint_reference(reference, [3], **given)
    assert differ(pipe(PROMPT, seed=3, **given).images, theirs) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"negative_prompt": ""},
        {"clip_skip": 0},
        {"clip_skip": 1},
        {"guidance_scale": 0.0},
        {"num_inference_steps": 1},
        {"max_sequence_length": 512},
        {"width": 512, "height": 16},  # to the end of the table of positions
    ],
    ids=str,
)
def test_every_argument(
    plain: StableDiffusionPipeline, plain_reference: Any, arguments: dict[str, Any]
) -> None:
    given = {**COMMON, "negative_prompt": NEGATIVE, **arguments}
    theirs = paint_reference(plain_reference, [5], **given)
    assert differ(plain(PROMPT, seed=5, **given).images, theirs) <= 1


def test_its_own_defaults(plain: StableDiffusionPipeline, plain_reference: Any) -> None:
    """28 steps, a guidance scale of 7, and pictures eight times as large as the latents."""
    theirs = paint_reference(plain_reference, [5])
    ours = plain(PROMPT, seed=5)
    assert len(ours.timings.steps) == 28
    assert ours.images[0].size == (64, 64)
    assert differ(ours.images, theirs) <= 1


def test_every_part_of_what_it_is_told_counts(plain: StableDiffusionPipeline) -> None:
    """What parity cannot tell apart where a part is fed but has no weight."""
    given = {**COMMON, "negative_prompt": NEGATIVE}
    usual = np.asarray(plain(PROMPT, seed=1, **given).images[0], int)
    for changed in ({"negative_prompt": "cat"}, {"clip_skip": 1}, {"max_sequence_length": 16}):
        other = np.asarray(plain(PROMPT, seed=1, **{**given, **changed}).images[0], int)
        assert np.abs(other - usual).max() > 1, changed


def test_without_t5_is_another_picture(
    plain: StableDiffusionPipeline, both: Any, plain_folder: Path
) -> None:
    _, without = both(named("3 without T5"), KINDS["3 without T5"], "openvino")
    for part in ("text_encoder", "text_encoder_2", "transformer"):
        weights = [folder / part / "openvino_model.bin" for folder in (plain_folder, without)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    other = StableDiffusionPipeline.from_pretrained(without, engine="openvino", profile="exact")
    for prompt in (PROMPT, "cat " * 90):  # of one chunk and of two
        images = [one(prompt, seed=1, **COMMON).images[0] for one in (plain, other)]
        ours, without_t5 = (np.asarray(image, int) for image in images)
        assert np.abs(ours - without_t5).max() > 1


def test_a_batch_of_prompts_and_of_images(
    plain: StableDiffusionPipeline, plain_reference: Any
) -> None:
    prompts = [PROMPT, "a cat"]
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in (7, 8, 9, 10)]
    theirs = plain_reference(
        prompts,
        negative_prompt=[NEGATIVE] * 2,
        generator=generators,
        num_images_per_prompt=2,
        **COMMON,
    ).images
    ours = plain(prompts, NEGATIVE, seed=7, num_images_per_prompt=2, **COMMON)
    assert ours.seeds == [7, 8, 9, 10]
    assert differ(ours.images, np.stack([np.asarray(image) for image in theirs])) <= 1


def test_latents(pipe: StableDiffusionPipeline, reference: Any) -> None:
    """Given ones to begin with, and those that come back."""
    noise = pipe.start_noise(4, width=64, height=48)
    given = {**COMMON, "height": 48, "output_type": "latent"}
    theirs = reference(PROMPT, latents=torch.from_numpy(noise.copy()), **given).images.numpy()
    ours = pipe(PROMPT, latents=noise, **given).images[0]
    assert ours.shape == theirs.shape == (1, 16, 6, 8)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("strength", "steps", "size"),
    [(0.2, 5, {}), (0.35, 10, {"width": 80, "height": 48}), (0.6, 5, {}), (1.0, 3, {})],
    ids=str,
)
def test_from_a_picture(
    pipe: StableDiffusionPipeline,
    reference: Any,
    strength: float,
    steps: int,
    size: dict[str, int],
) -> None:
    theirs = relative(reference, "StableDiffusion3Img2ImgPipeline")
    given = {**COMMON, **size, "negative_prompt": NEGATIVE, "strength": strength}
    given["num_inference_steps"] = steps
    # With a generator an image diffusers wants a picture for each.
    expected = paint_reference(theirs, [3, 4], **given, image=[painting()] * 2)
    ours = pipe(PROMPT, seed=3, num_images_per_prompt=2, **given, image=painting())
    assert differ(ours.images, expected) <= 1


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_under_a_mask(pipe: StableDiffusionPipeline, reference: Any, strength: float) -> None:
    """Latents, since diffusers' inpainting pipeline decodes them without the VAE's shift_factor."""
    theirs = relative(reference, "StableDiffusion3InpaintPipeline")
    given = {**COMMON, "num_inference_steps": 5, "strength": strength, "output_type": "latent"}
    given |= {"image": painting(), "mask_image": hole()}
    generator = torch.Generator("cpu").manual_seed(3)
    expected = theirs(PROMPT, generator=generator, **given).images.numpy()
    ours = pipe(PROMPT, seed=3, **given).images[0]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("long", ["cat " * 90, "a red apple, " * 60])
def test_truncated_prompts_are_diffusers(
    plain: StableDiffusionPipeline, plain_reference: Any, long: str
) -> None:
    generator = torch.Generator("cpu").manual_seed(3)
    theirs = plain_reference(long, generator=generator, **COMMON).images
    ours = plain(long, seed=3, long_prompt="truncate", **COMMON)
    assert differ(ours.images, np.stack([np.asarray(image) for image in theirs])) <= 1


@pytest.mark.parametrize("negative", ["", "blue house, " * 60])
def test_weights_and_chunks(plain: StableDiffusionPipeline, negative: str) -> None:
    """However many chunks a prompt has for CLIP and for T5, both branches have as many tokens."""
    given = {**COMMON, "negative_prompt": negative, "max_sequence_length": 40}
    usual = plain(PROMPT, seed=1, **given).images[0]
    for prompt in (
        "a red (apple:1.6) on the boat",
        f"{PROMPT} BREAK blue house",
        "cat " * 90,
        "a red [apple:cat:2] on the boat",
    ):
        assert not np.array_equal(plain(prompt, seed=1, **given).images[0], usual), prompt
    ones = plain("a red (apple:1.0) on the boat", seed=1, **given).images[0]
    assert np.array_equal(ones, usual)


def test_what_is_kept_in_memory_changes_nothing(plain_folder: Path, plain: Any) -> None:
    limited = StableDiffusionPipeline.from_pretrained(
        plain_folder, engine="openvino", max_memory="1GB", profile="exact"
    )
    arguments = {**COMMON, "image": painting(), "seed": 2}
    pictures = [one(PROMPT, **arguments).images[0] for one in (plain, limited)]
    assert np.array_equal(*pictures)
    with pytest.raises(SettingError, match="max_memory"):
        StableDiffusionPipeline.from_pretrained(plain_folder, max_memory="1MB", profile="exact")


def test_larger_pictures_take_more_memory(plain: StableDiffusionPipeline) -> None:
    family = plain.family
    sizes = [(64, 64), (128, 64), (512, 512)]
    shapes = [family.denoiser_inputs(2, *size) for size in sizes]
    for engine in ("openvino", "onnxruntime"):
        needs = [family.working("transformer", one).bytes(engine) for one in shapes]
        assert needs == sorted(set(needs))


def test_in_tiles_it_paints_beyond_its_table(plain: StableDiffusionPipeline) -> None:
    given = {**COMMON, "num_inference_steps": 1, "guidance_scale": 1.0}
    with pytest.raises(SettingError, match="at most 512 pixels a side at once, and 528 are asked"):
        plain.plan(PROMPT, **{**given, "width": 528})
    image = plain(PROMPT, seed=1, tile=256, **{**given, "width": 528, "height": 16}).images[0]
    assert image.size == (528, 16)


def test_previews(plain: StableDiffusionPipeline) -> None:
    latents = plain(PROMPT, seed=1, **COMMON, output_type="latent").images[0]
    assert plain.preview(latents).size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 40}, "width is 40; give a multiple of 16"),
        ({"clip_skip": 2}, "clip_skip is 2; this model takes 0 to 1"),
        ({"max_sequence_length": 1}, "max_sequence_length is 1; give 2 to 512"),
        ({"max_sequence_length": 513}, "max_sequence_length is 513"),
        ({"max_sequence_length": 9.5}, r"max_sequence_length is 9\.5"),
        ({"cache_interval": 2}, "has no deep features to keep"),
        ({"original_size": (64, 64)}, "original_size is for Stable Diffusion XL"),
        ({"noise_level": 3}, "noise_level is for upscalers"),
        ({"latents": np.zeros((1, 4, 8, 8), "f4")}, r"this size needs \(1, 16, 8, 8\)"),
        ({"scheduler": "euler"}, "is for models trained on other noise"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_one_line(
    plain: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises((SettingError, SchedulerError), match=message) as caught:
        plain.plan(PROMPT, **{**COMMON, **arguments})
    assert "\n" not in str(caught.value)


def test_another_kind_of_model_has_no_t5(exported_openvino: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")
    with pytest.raises(SettingError, match="max_sequence_length is for Stable Diffusion 3"):
        pipe.plan(PROMPT, max_sequence_length=100)


@pytest.mark.parametrize("kept", ["loras", "embeddings", "controlnet", "profile"])
def test_what_it_does_without_is_refused_by_name(
    plain_folder: Path, tmp_path: Path, kept: str
) -> None:
    vector = np.ones((1, 32), "f4")
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    factors = {f"{layer}.lora_down.weight": vector, f"{layer}.lora_up.weight": vector.T}
    given = {
        "loras": [loras.save(tmp_path / "a.safetensors", factors)],
        "embeddings": [loras.save(tmp_path / "gizmo.safetensors", {"gizmo": vector})],
        "profile": "fast",
    }
    if kept == "controlnet":
        with pytest.raises(BundleError, match="Stable Diffusion 3, which no ControlNet"):
            open_model(plain_folder).check_controlnet(controlnet({}))
        return
    with pytest.raises((SettingError, AdapterError, BundleError)) as caught:
        StableDiffusionPipeline.from_pretrained(
            plain_folder, **{"profile": "exact", kept: given[kept]}
        )
    expected = "transformer_int8" if kept == "profile" else "cannot be used with Stable Diffusion 3"
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_from_the_command_line(
    plain_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine").symlink_to(plain_folder)
    monkeypatch.setenv("PLEINAIR_MODELS", str(models))
    command = ["--engine", "openvino", "--model", "mine"]
    first = ["--prompt", PROMPT, "--steps", "2", "--seed", "5", "--max-sequence-length", "20"]
    assert main([*command, *first, "--output", "a.png"]) == 0
    with Image.open("a.png") as image:
        said = json.loads(image.info["pleinair"])
    assert (said["max_sequence_length"], said["scheduler"]) == (20, "flow_euler")
    assert main([*command, "--params-from", "a.png", "--output", "again.png"]) == 0
    assert np.array_equal(Image.open("again.png"), Image.open("a.png"))
    other = ["--params-from", "a.png", "--max-sequence-length", "40", "--output", "other.png"]
    assert main([*command, *other]) == 0
    assert not np.array_equal(Image.open("other.png"), Image.open("a.png"))
    capsys.readouterr()
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "mine: converted here\n    on disk: " in listed
    assert "stable-diffusion-3.5-medium: " in listed


def test_openvino_genai_paints_with_the_folder(plain_folder: Path) -> None:
    genai = pytest.importorskip("openvino_genai", reason="needs openvino-genai")
    pipe = genai.Text2ImagePipeline(str(plain_folder), "CPU")
    size = {"width": 48, "height": 64, "num_inference_steps": 2, "rng_seed": 3}
    apple, boat = (np.array(pipe.generate(text, **size).data)[0] for text in (PROMPT, "a boat"))
    assert apple.shape == (64, 48, 3)
    assert apple.std() > 5  # not one flat colour
    assert (apple != boat).any()


def test_a_known_model_is_painted_with_as_its_authors_do(
    plain_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(plain_folder, tmp_path / "large-turbo")
    manifest = json.loads((folder / "pleinair.json").read_text(encoding="utf-8"))
    manifest.pop("recommended", None)
    manifest["source"] = {"kind": "hub", "name": "stabilityai/stable-diffusion-3.5-large-turbo"}
    (folder / "pleinair.json").write_text(json.dumps(manifest), encoding="utf-8")
    recommended = open_model(folder).recommended
    assert (recommended.steps, recommended.guidance_scale) == (4, 0.0)
    assert (recommended.size, recommended.scheduler) == (1024, "flow_euler")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("transformer", {"pooled_projection_dim": 40}, "mismatched parts"),
        ("transformer", {"joint_attention_dim": 50}, "mismatched parts"),
        ("text_encoder_3", {"d_model": 32}, "mismatched parts"),
        ("transformer", {"in_channels": 4}, "takes 4 channels, the VAE has 16"),
        ("transformer", {"pos_embed_max_size": ...}, "missing required field pos_embed_max_size"),
        ("text_encoder_3", None, "the text_encoder_3 graph .* is missing"),
        ("tokenizer_3", None, "tokenizer_3.tokenizer.json: missing; save"),
    ],
    ids=str,
)
def test_a_folder_that_is_not_whole(
    plain_folder: Path, tmp_path: Path, part: str, change: dict[str, Any] | None, message: str
) -> None:
    other = shutil.copytree(plain_folder, tmp_path / "other")
    (other / "pleinair.json").unlink()
    if change is None:
        shutil.rmtree(other / part)
    else:
        absent = tuple(name for name, value in change.items() if value is ...)
        rewrite(other / part / "config.json", drop=absent, **change)
    with pytest.raises(BundleError, match=message) as caught:
        open_model(other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("transformer", {"pooled_projection_dim": 40}, "the text encoders give 64 and 56"),
        ("text_encoder_3", {"d_model": 32}, "the text encoders give 56 and 56"),
        ("tokenizer_3", None, "tokenizer_3 has no tokenizer.json"),
    ],
    ids=str,
)
def test_a_checkpoint_that_cannot_be_exported(
    made: Any, tmp_path: Path, part: str, change: dict[str, Any] | None, message: str
) -> None:
    checkpoint = made("checkpoint/tiny-sd3", tiny_stable_diffusion_3)
    other = shutil.copytree(checkpoint, tmp_path / "other")
    if change is None:
        (other / part / "tokenizer.json").unlink()
    else:
        rewrite(other / part / "config.json", **change)
    with pytest.raises(SourceError, match=message) as caught:
        export_model(other, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
