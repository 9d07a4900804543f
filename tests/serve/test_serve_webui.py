"""webuiapi, the Python client of AUTOMATIC1111's webui, against a server."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image
from safetensors.numpy import save_file

from checkpoints import tiny_controlnet
from gates import Gate
from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.images.canny import canny
from pleinair.runtime.images.fitting import Fit
from pleinair.runtime.record import metadata
from servers import Started

PROMPT, NEGATIVE = "a red apple", "blue"
ASKED: dict[str, Any] = {"steps": 4, "seed": 3, "width": 64, "height": 64, "cfg_scale": 5.0}
LIBRARY: dict[str, Any] = {
    "num_inference_steps": 4,
    "seed": 3,
    "width": 64,
    "height": 64,
    "guidance_scale": 5.0,
    "scheduler": "euler_a",
}


def client_of(server: Started) -> webuiapi.WebUIApi:
    where = urlsplit(server.base_url)
    return webuiapi.WebUIApi(host=where.hostname, port=where.port)


@pytest.fixture
def api(server: Started) -> Iterator[webuiapi.WebUIApi]:
    made = client_of(server)
    yield made
    made.session.close()


@pytest.fixture
def http(server: Started) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.base_url}/sdapi/v1", timeout=60) as made:
        yield made


class Asking:
    """A call in a thread, and its answer."""

    def __init__(self, server: Started, **asked: Any) -> None:
        self._server, self._asked = server, asked
        self._answers: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        api = client_of(self._server)
        self._answers.append(api.txt2img(prompt=PROMPT, **{**ASKED, **self._asked}))
        api.session.close()

    def answer(self) -> Any:
        self._thread.join()
        (found,) = self._answers
        return found


def reached(api: webuiapi.WebUIApi, step: int) -> dict[str, Any]:
    """The progress once it is at a step."""
    wait_until(lambda: api.get_progress()["state"]["sampling_step"] >= step)
    return api.get_progress()


def wait_until(there: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


def same(found: Image.Image, expected: Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(expected))


def differ(found: Image.Image, other: Image.Image) -> None:
    assert found.size != other.size or np.any(np.asarray(found) != np.asarray(other))


# Text to image.


def test_a_picture_is_the_library_s(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, negative_prompt=NEGATIVE, **ASKED)
    same(answer.image, library(PROMPT, NEGATIVE, **LIBRARY).images[0])
    info = answer.info
    assert (info["seed"], info["all_seeds"], info["width"], info["height"]) == (3, [3], 64, 64)
    assert (info["sampler_name"], info["steps"], info["cfg_scale"]) == ("Euler a", 4, 5.0)
    assert info["all_prompts"] == [PROMPT]
    assert info["all_negative_prompts"] == [NEGATIVE]
    assert info["infotexts"][0].startswith(f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 4, ")
    assert answer.image.info["parameters"] == info["infotexts"][0]
    assert metadata.of_picture(answer.image)["scheduler"] == "euler_a"
    assert answer.parameters["prompt"] == PROMPT


def test_what_is_not_said_is_as_the_model_has_it(http: httpx.Client, library: Any) -> None:
    answer = http.post("/txt2img", json={"prompt": PROMPT, "seed": 3}).json()
    same(_decoded(answer["images"][0]), library(PROMPT, seed=3).images[0])


def test_several_are_painted_from_a_seed_more_each(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, batch_size=2, n_iter=2, **ASKED)
    assert answer.info["all_seeds"] == [3, 4, 5, 6]
    assert len(answer.images) == len(answer.info["infotexts"]) == 4
    same(answer.images[3], library(PROMPT, **{**LIBRARY, "seed": 6}).images[0])


def test_a_seed_is_drawn(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, **{**ASKED, "seed": -1})
    seed = answer.info["seed"]
    assert seed >= 0
    same(answer.image, library(PROMPT, **{**LIBRARY, "seed": seed}).images[0])


def test_variations_share_a_seed(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, subseed=9, subseed_strength=0.4, batch_size=2, **ASKED)
    assert answer.info["all_seeds"] == [3, 3]
    assert (answer.info["all_subseeds"], answer.info["subseed_strength"]) == ([9, 10], 0.4)
    varied = {"variation_seed": 9, "variation_strength": 0.4, "num_images_per_prompt": 2}
    for found, expected in zip(
        answer.images, library(PROMPT, **LIBRARY, **varied).images, strict=True
    ):
        same(found, expected)


def test_a_second_pass_enlarges(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, enable_hr=True, hr_scale=2, denoising_strength=0.5, **ASKED)
    larger = {"enlarge": 2.0, "enlarge_strength": 0.5, "enlarge_guidance_scale": 5.0}
    assert answer.image.size == (128, 128)
    same(answer.image, library(PROMPT, **LIBRARY, **larger).images[0])
    assert "hr_upscaler Latent is not used" in answer.info["comments"]


@pytest.mark.parametrize(("asked", "steps"), [(0, None), (9, 9)])
def test_a_second_pass_has_steps_of_its_own(
    http: httpx.Client, library: Any, asked: int, steps: int | None
) -> None:
    more = {"enable_hr": True, "denoising_strength": 0.5, "hr_second_pass_steps": asked}
    sampler = {"sampler_name": "Euler a"}
    answer = http.post("/txt2img", json={"prompt": PROMPT, **ASKED, **sampler, **more}).json()
    larger = {"enlarge": 2.0, "enlarge_strength": 0.5, "enlarge_guidance_scale": 5.0}
    expected = library(PROMPT, **LIBRARY, **larger, enlarge_steps=steps).images[0]
    same(_decoded(answer["images"][0]), expected)
    info = json.loads(answer["info"])
    assert ("Hires steps: 9" in info["infotexts"][0]) == (asked == 9)
    assert not any("hr_second_pass_steps" in line for line in info["comments"])
    again = {"infotext": info["infotexts"][0]}
    same(_decoded(http.post("/txt2img", json=again).json()["images"][0]), expected)


@pytest.mark.parametrize(
    ("asked", "scheduler"),
    [
        ({"sampler_name": "DDIM", "eta": 0.0}, "ddim"),
        ({"sampler_name": "Euler", "scheduler": "karras"}, "euler_karras"),
        ({"sampler_name": "DPM++ 2M"}, "dpmpp_2m_karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "uniform"}, "dpmpp_2m"),
        ({"sampler_name": "DPM++ 2M Karras"}, "dpmpp_2m_karras"),
        ({"sampler_name": "dpmpp_2m"}, "dpmpp_2m"),
        ({"sampler_name": "euler_a", "scheduler": "discrete"}, "euler_a"),
        ({"sampler_name": "dpm++2m", "scheduler": "karras"}, "dpmpp_2m_karras"),
    ],
)
def test_samplers_by_webui_s_names(
    http: httpx.Client, library: Any, asked: dict[str, Any], scheduler: str
) -> None:
    answer = http.post("/txt2img", json={"prompt": PROMPT, **ASKED, **asked}).json()
    expected = library(PROMPT, **{**LIBRARY, "scheduler": scheduler}).images[0]
    same(_decoded(answer["images"][0]), expected)


def test_eta_is_ddim_s(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, sampler_name="DDIM", eta=0.7, **ASKED)
    same(answer.image, library(PROMPT, **{**LIBRARY, "scheduler": "ddim", "eta": 0.7}).images[0])


def test_styles_stand_around_the_prompt(api: webuiapi.WebUIApi, library: Any) -> None:
    styles = {one["name"]: one for one in api.get_prompt_styles()}
    answer = api.txt2img(prompt=PROMPT, styles=["macro", "nobody's"], **ASKED)
    prompt = styles["macro"]["prompt"].replace("{prompt}", PROMPT)
    same(answer.image, library(prompt, styles["macro"]["negative_prompt"], **LIBRARY).images[0])
    assert answer.info["prompt"] == prompt
    assert any("nobody's" in line for line in answer.info["comments"])


def test_sizes_are_snapped(api: webuiapi.WebUIApi) -> None:
    answer = api.txt2img(prompt=PROMPT, **{**ASKED, "width": 61, "height": 77})
    assert answer.image.size == (answer.info["width"], answer.info["height"]) == (64, 80)


def test_settings_in_webui_s_text(http: httpx.Client, api: webuiapi.WebUIApi) -> None:
    first = api.txt2img(prompt=PROMPT, negative_prompt=NEGATIVE, **ASKED)
    text = first.info["infotexts"][0]
    again = http.post("/txt2img", json={"infotext": text}).json()
    same(_decoded(again["images"][0]), first.image)
    other = http.post("/txt2img", json={"infotext": text, "seed": 4}).json()
    differ(_decoded(other["images"][0]), first.image)


def test_a_lora_in_the_prompt(start: Any, tmp_path: Path, library: Any) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    with start(loras=folder) as server:
        api = client_of(server)
        assert api.get_loras() == []
        file = _lora(folder / "line.safetensors")
        httpx.post(f"{server.base_url}/sdapi/v1/refresh-loras", timeout=60).raise_for_status()
        assert [one["name"] for one in api.get_loras()] == ["line"]
        answer = api.txt2img(prompt=f"{PROMPT} <lora:line:0.8>", **ASKED)
        missing = httpx.post(
            f"{server.base_url}/sdapi/v1/txt2img",
            json={"prompt": "<lora:other:1>"},
            timeout=60,
        )
        api.session.close()
    pipe = StableDiffusionPipeline.from_pretrained(
        library.bundle.path, profile="exact", loras=[(file, 0.8)]
    )
    same(answer.image, pipe(PROMPT, **LIBRARY).images[0])
    differ(answer.image, library(PROMPT, **LIBRARY).images[0])
    assert "<lora:line:0.8>" in answer.info["infotexts"][0]
    assert (missing.status_code, "other" in missing.json()["detail"]) == (404, True)


def _lora(path: Path) -> Path:
    """A LoRA file for one layer of the bundled model."""
    random, width = np.random.default_rng(0), 112
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    factors = {"lora_down.weight": (2, width), "lora_up.weight": (width, 2)}
    tensors = {
        f"{layer}.{name}": random.normal(size=shape).astype(np.float32)
        for name, shape in factors.items()
    }
    save_file(tensors, path)
    return path


def test_layers_left_out(api: webuiapi.WebUIApi, library: Any) -> None:
    skipped = api.txt2img(prompt=PROMPT, override_settings={"CLIP_stop_at_last_layers": 2}, **ASKED)
    same(skipped.image, library(PROMPT, **LIBRARY, clip_skip=1).images[0])
    assert skipped.info["clip_skip"] == 2
    assert api.get_options()["CLIP_stop_at_last_layers"] == 1


# From a picture.


def test_image_to_image(api: webuiapi.WebUIApi, library: Any) -> None:
    picture = painting(96, 64)
    answer = api.img2img([picture], prompt=PROMPT, denoising_strength=0.6, **ASKED)
    asked = {**LIBRARY, "strength": 0.6}
    same(answer.image, library(PROMPT, image=picture, **asked).images[0])
    assert answer.info["denoising_strength"] == 0.6
    assert answer.parameters["init_images"] is None


def test_several_images_are_painted_from_in_turn(api: webuiapi.WebUIApi, library: Any) -> None:
    images = [painting(), painting().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    answer = api.img2img(images, prompt=PROMPT, **ASKED, batch_size=2, n_iter=2)
    seeds = [LIBRARY["seed"] + i for i in range(4)]
    assert answer.info["all_seeds"] == seeds
    for found, image, seed in zip(answer.images, images * 2, seeds, strict=True):
        asked = {**LIBRARY, "seed": seed, "strength": 0.75}
        same(found, library(PROMPT, image=image, **asked).images[0])


def test_in_several_images_the_same_part_is_painted(api: webuiapi.WebUIApi) -> None:
    images = [painting(), painting().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    asked = {**ASKED, "prompt": PROMPT, "mask_image": hole(), "mask_blur": 0}
    both = api.img2img(images, inpaint_full_res=True, **asked).images
    alone = [
        api.img2img([image], inpaint_full_res=True, **{**asked, "seed": ASKED["seed"] + i}).image
        for i, image in enumerate(images)
    ]
    for found, expected in zip(both, alone, strict=True):
        same(found, expected)
    differ(*both)


@pytest.mark.parametrize(("mode", "way"), [(0, "stretch"), (1, "crop"), (2, "pad")])
def test_ways_to_another_size(api: webuiapi.WebUIApi, library: Any, mode: int, way: str) -> None:
    picture = painting(96, 64)
    answer = api.img2img([picture], prompt=PROMPT, resize_mode=mode, **ASKED)
    asked = {**LIBRARY, "strength": 0.75, "resize": way}
    same(answer.image, library(PROMPT, image=picture, **asked).images[0])


def test_inpainting(api: webuiapi.WebUIApi, library: Any) -> None:
    picture, mask = painting(), hole()
    answer = api.img2img(
        [picture], mask_image=mask, prompt=PROMPT, inpainting_fill=1, inpaint_full_res=False,
        mask_blur=2, **ASKED,
    )  # fmt: skip
    masked = {"mask_image": mask, "mask_blur": 2.0, "keep_unmasked": True, "strength": 0.75}
    same(answer.image, library(PROMPT, image=picture, **masked, **LIBRARY).images[0])


def test_inpainting_a_mask_turned_round(api: webuiapi.WebUIApi, library: Any) -> None:
    picture, mask = painting(), hole()
    answer = api.img2img(
        [picture], mask_image=mask, prompt=PROMPT, inpainting_fill=1, inpaint_full_res=False,
        mask_blur=0, inpainting_mask_invert=1, **ASKED,
    )  # fmt: skip
    masked = {"mask_image": mask, "mask_invert": True, "keep_unmasked": True, "strength": 0.75}
    same(answer.image, library(PROMPT, image=picture, **masked, **LIBRARY).images[0])


def test_inpainting_at_another_size(api: webuiapi.WebUIApi, library: Any) -> None:
    picture, mask = painting(96, 64), hole(96, 64)
    answer = api.img2img(
        [picture], mask_image=mask, prompt=PROMPT, resize_mode=1, inpainting_fill=1,
        inpaint_full_res=False, mask_blur=0, **ASKED,
    )  # fmt: skip
    fit = Fit.of(picture.size, (64, 64), "crop")
    laid = {"image": fit.lay(picture), "mask_image": fit.lay(mask)}
    asked = {**LIBRARY, "keep_unmasked": True, "strength": 0.75}
    same(answer.image, library(PROMPT, **laid, **asked).images[0])


def test_only_the_masked_part(api: webuiapi.WebUIApi, library: Any) -> None:
    picture, mask = painting(160, 96), Image.new("L", (160, 96), 0)
    mask.paste(255, (100, 30, 130, 50))
    answer = api.img2img(
        [picture], mask_image=mask, prompt=PROMPT, inpainting_fill=1, inpaint_full_res=True,
        inpaint_full_res_padding=4, mask_blur=0, **ASKED,
    )  # fmt: skip
    box = (96, 21, 134, 59)  # square, as what is painted
    crop = {"image": picture.crop(box), "mask_image": mask.crop(box)}
    asked = {**LIBRARY, "keep_unmasked": True, "strength": 0.75}
    expected = picture.copy()
    expected.paste(library(PROMPT, **crop, **asked).images[0], box[:2])
    same(answer.image, expected)
    changed = np.any(np.asarray(answer.image) != np.asarray(picture), axis=2)
    assert changed.any()
    assert not (changed & (np.asarray(mask) == 0)).any()


def test_what_the_masked_part_begins_as(api: webuiapi.WebUIApi) -> None:
    asked = {"prompt": PROMPT, "inpaint_full_res": False, "denoising_strength": 0.3, **ASKED}
    found = [
        api.img2img([painting()], mask_image=hole(), inpainting_fill=fill, **asked).image
        for fill in range(4)
    ]
    for i in range(4):
        for other in found[i + 1 :]:
            differ(found[i], other)
    for one in found:  # far from the soft edge it is the picture itself
        np.testing.assert_array_equal(np.asarray(one)[58:, 58:], np.asarray(painting())[58:, 58:])


def test_a_mask_by_its_opaque_parts(api: webuiapi.WebUIApi) -> None:
    strokes = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    strokes.paste((0, 0, 0, 255), (16, 16, 48, 48))
    white = Image.new("L", (64, 64), 0)
    white.paste(255, (16, 16, 48, 48))
    asked = {"prompt": PROMPT, "inpainting_fill": 1, "inpaint_full_res": False, **ASKED}
    by_alpha, by_white = (
        api.img2img([painting()], mask_image=mask, **asked).image for mask in (strokes, white)
    )
    same(by_alpha, by_white)


# ControlNets.


@pytest.fixture(scope="module")
def controlled(both: Any) -> Path:
    return both("net-1", partial(tiny_controlnet, seed=1))[1]


@pytest.mark.slow  # exports a model and a ControlNet
def test_controlnets(start: Any, exported_openvino: Path, controlled: Path) -> None:
    followed = painting(seed=4)
    with start(model=(str(exported_openvino),), controlnet=(controlled,)) as server:
        api = client_of(server)
        (name,) = api.controlnet_model_list()
        assert api.controlnet_version() == 2
        assert api.controlnet_module_list() == ["none", "canny"]
        assert api.get_scripts()["txt2img"] == ["controlnet"]
        units = [
            webuiapi.ControlNetUnit(
                image=followed, module=module, model=name, weight=0.7, guidance_end=0.8,
                threshold_a=50, threshold_b=120,
            )
            for module in ("none", "canny")
        ]  # fmt: skip
        plain, edged = (
            api.txt2img(prompt=PROMPT, controlnet_units=[unit], alwayson_scripts={}, **ASKED)
            for unit in units
        )
        edges = api.controlnet_detect([followed], module="canny", threshold_a=50, threshold_b=120)
        unknown = webuiapi.ControlNetUnit(image=followed, model="other")
        with pytest.raises(RuntimeError, match="other"):
            api.txt2img(prompt=PROMPT, controlnet_units=[unknown], alwayson_scripts={}, **ASKED)
        api.session.close()
    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, profile="exact", controlnet=controlled
    )
    asked = {**LIBRARY, "controlnet_conditioning_scale": 0.7, "control_guidance_end": 0.8}
    same(plain.image, pipe(PROMPT, control_image=followed, **asked).images[0])
    drawn = Image.fromarray(canny(np.asarray(followed), 50, 120)).convert("RGB")
    same(edges.image, drawn)
    same(edged.image, pipe(PROMPT, control_image=drawn, **asked).images[0])


def test_scripts_that_are_not_here(http: httpx.Client) -> None:
    unit = {"model": "canny", "image": webuiapi.raw_b64_img(painting())}
    for asked in (
        {"script_name": "X/Y/Z plot"},
        {"alwayson_scripts": {"ADetailer": {"args": [True]}}},
        {"alwayson_scripts": {"ControlNet": {"args": [unit]}}},
        {"tiling": True},
    ):
        answer = http.post("/txt2img", json={"prompt": PROMPT, **asked})
        assert answer.status_code in (404, 422)
        assert answer.json().keys() == {"error", "detail", "body", "errors"}


# What a client finds out.


def test_lists(api: webuiapi.WebUIApi, server: Started) -> None:
    (model,) = api.get_sd_models()
    assert (model["title"], model["model_name"], model["filename"]) == ("pocket",) * 3
    assert api.util_get_current_model() == "pocket"
    assert {"Euler", "Euler a", "DDIM", "DPM++ 2M", "UniPC"} <= set(api.util_get_sampler_names())
    assert not any("Karras" in name for name in api.util_get_sampler_names())
    assert api.util_get_scheduler_names() == ["automatic", "exponential", "karras"]
    assert [one["name"] for one in api.get_upscalers()] == ["None", "Lanczos", "Nearest", "pocket"]
    assert [one["model_name"] for one in api.get_sd_vae()] == ["tiny"]
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_cmd_flags()["api"] is True
    assert api.get_memory()["ram"]["total"] > api.get_memory()["ram"]["used"] > 0
    for empty in (
        api.get_latent_upscale_modes,
        api.get_hypernetworks,
        api.get_face_restorers,
        api.get_realesrgan_models,
        api.get_loras,
    ):
        assert empty() == []
    assert api.refresh_checkpoints() is None
    text = str([api.get_sd_models(), api.get_options(), api.get_cmd_flags(), api.get_sd_vae()])
    assert str(server.settings.model[0]) not in text


def test_every_sampler_that_is_listed_paints(api: webuiapi.WebUIApi) -> None:
    for name in api.util_get_sampler_names():
        answer = api.txt2img(prompt=PROMPT, sampler_name=name, **ASKED)
        assert answer.info["sampler_name"].startswith(name)


def test_the_tiny_decoder_is_a_vae(api: webuiapi.WebUIApi, library: Any) -> None:
    answer = api.txt2img(prompt=PROMPT, override_settings={"sd_vae": "tiny"}, **ASKED)
    same(answer.image, library(PROMPT, **LIBRARY, vae="tiny").images[0])


def test_options_are_posted_back_as_a_whole(api: webuiapi.WebUIApi) -> None:
    options = api.get_options()
    assert api.set_options(options) is None
    assert api.get_options() == options
    assert api.set_options({**options, "samples_format": "jpg", "unknown": [1]}) is None
    try:
        assert api.get_options() == {**options, "samples_format": "jpg"}
        answer = api.txt2img(prompt=PROMPT, **ASKED)
        assert answer.image.format == "JPEG"
    finally:
        api.set_options(options)


def test_another_model(start: Any, tmp_path: Path, library: Any) -> None:
    (tmp_path / "other").symlink_to(library.bundle.path, target_is_directory=True)
    models = (str(library.bundle.path), str(tmp_path / "other"))
    with start(model=models) as server:
        api = client_of(server)
        assert api.util_get_model_names() == sorted(["pocket", "other"])
        api.util_set_model("other")
        assert api.util_get_current_model() == "other"
        assert api.get_progress()["state"]["job_count"] == 0
        switched = api.txt2img(prompt=PROMPT, **ASKED)
        again = {"sd_model_checkpoint": "pocket"}
        once = api.txt2img(prompt=PROMPT, override_settings=again, **ASKED)
        assert api.util_get_current_model() == "other"
        kept = {"override_settings_restore_afterwards": False}
        api.txt2img(prompt=PROMPT, override_settings=again, **ASKED, **kept)
        assert api.util_get_current_model() == "pocket"
        api.session.close()
        # Another client's model is another's affair.
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(
            transport=elsewhere, base_url=f"{server.base_url}/sdapi/v1", timeout=60
        ) as other:
            other.post("/options", json={"sd_model_checkpoint": "other"})
            assert other.get("/options").json()["sd_model_checkpoint"] == "other"
        own = httpx.get(f"{server.base_url}/sdapi/v1/options", timeout=60).json()
        assert own["sd_model_checkpoint"] == "pocket"
    for answer, name in ((switched, "other"), (once, "pocket")):
        same(answer.image, library(PROMPT, **LIBRARY).images[0])
        assert answer.info["sd_model_name"] == name


# How far it is, and ending it.


def test_progress_moves_and_interrupt_stops(
    api: webuiapi.WebUIApi, server: Started, gate: Gate
) -> None:
    api.set_options({"show_progress_every_n_steps": 1})
    asking = Asking(server, steps=20)
    shares = []
    for step in (1, 2, 3):
        gate.let(1)
        said = reached(api, step)
        shares.append(said["progress"])
        assert (said["state"]["sampling_step"], said["state"]["sampling_steps"]) == (step, 20)
        assert said["state"]["job_count"] == 1
        assert said["eta_relative"] > 0
        assert _decoded(said["current_image"]).size == (64, 64)
    assert shares == pytest.approx([0.05, 0.1, 0.15])
    api.interrupt()
    gate.open()
    assert asking.answer().images == []
    server.until_idle()
    assert gate.begun <= 4
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0, 0, None)
    api.set_options({"show_progress_every_n_steps": 5})


def test_interrupted_the_pictures_before_are_answered(
    api: webuiapi.WebUIApi, server: Started, library: Any, gate: Gate
) -> None:
    asking = Asking(server, n_iter=3)
    gate.let(6)
    wait_until(lambda: api.get_progress()["state"]["job_no"])
    assert api.get_progress()["state"]["job_count"] == 3
    api.interrupt()
    gate.open()
    answer = asking.answer()
    assert answer.info["all_seeds"] == [3]
    same(answer.image, library(PROMPT, **LIBRARY).images[0])


def test_skip_leaves_out_one_picture(
    api: webuiapi.WebUIApi, server: Started, library: Any, gate: Gate
) -> None:
    asking = Asking(server, batch_size=2)
    gate.let(2)
    reached(api, 2)
    api.skip()
    gate.open()
    answer = asking.answer()
    assert answer.info["all_seeds"] == [4]
    same(answer.image, library(PROMPT, **{**LIBRARY, "seed": 4}).images[0])


def test_a_task_is_followed_by_its_id(server: Started, http: httpx.Client, gate: Gate) -> None:
    """As webui's own page does; another client learns nothing of it."""

    def told(task: str, client: Any = httpx, **more: Any) -> dict[str, Any]:
        url = f"{server.base_url}/internal/progress"
        found: dict[str, Any] = client.post(url, json={"id_task": task, **more}).json()
        return found

    def ask(task: str) -> None:
        asked = {"prompt": PROMPT, **ASKED, "force_task_id": task}
        every = {"override_settings": {"show_progress_every_n_steps": 1}}
        http.post("/txt2img", json={**asked, **every})

    asking = [threading.Thread(target=ask, args=[f"task({name})"]) for name in ("first", "second")]
    asking[0].start()
    gate.let(2)
    wait_until(lambda: (told("task(first)")["progress"] or 0) >= 0.5)
    said = told("task(first)")
    assert (said["active"], said["queued"], said["completed"]) == (True, False, False)
    assert said["progress"] == 0.5
    assert said["eta"] > 0
    kind, _, data = said["live_preview"].partition(",")
    assert kind == "data:image/png;base64"
    assert _decoded(data).size == (64, 64)
    assert told("task(first)", id_live_preview=said["id_live_preview"])["live_preview"] is None
    assert told("task(first)", live_preview=False)["live_preview"] is None
    asking[1].start()
    wait_until(lambda: told("task(second)")["queued"])
    assert told("task(second)")["textinfo"] == "1 pictures come first"
    assert http.get("/progress").json()["current_task"] == "task(first)"
    pending = httpx.get(f"{server.base_url}/internal/pending-tasks").json()
    assert pending == {"size": 2, "tasks": ["task(first)", "task(second)"]}
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=elsewhere) as other:
        found = told("task(first)", other)
        assert not any(found[state] for state in ("active", "queued", "completed"))
    gate.open()
    for thread in asking:
        thread.join()
    for task in ("task(first)", "task(second)"):
        found = told(task)
        assert (found["active"], found["queued"], found["completed"]) == (False, False, True)
    assert httpx.post(f"{server.base_url}/internal/progress", json={}).status_code == 422


def test_who_waits_behind_others_can_be_interrupted(
    api: webuiapi.WebUIApi, server: Started, gate: Gate
) -> None:
    first = Asking(server)
    gate.let(1)
    reached(api, 1)
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(
        transport=elsewhere, base_url=f"{server.base_url}/sdapi/v1", timeout=60
    ) as other:
        assert other.get("/progress").json()["state"]["job_count"] == 0
        found: list[Any] = []
        waiting = threading.Thread(
            target=lambda: found.append(other.post("/txt2img", json={"prompt": PROMPT}).json())
        )
        waiting.start()
        wait_until(lambda: other.get("/progress").json()["state"]["job_count"])
        said = other.get("/progress").json()
        assert said["textinfo"] == "1 pictures come first"
        other.post("/interrupt")
        waiting.join()
    assert found[0]["images"] == []
    gate.open()
    assert len(first.answer().images) == 1


def test_who_goes_away_ends_the_picture(server: Started, http: httpx.Client, gate: Gate) -> None:
    before = server.service.painted["cancelled"]
    body = json.dumps({"prompt": PROMPT, **ASKED}).encode()
    head = (
        "POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    where = urlsplit(server.base_url)
    with socket.create_connection((where.hostname, where.port)) as client:
        client.sendall(head.encode() + body)
        wait_until(lambda: gate.begun == 1)
    wait_until(lambda: server.service.painted["cancelled"] == before + 1)
    gate.open()
    server.until_idle()
    assert gate.begun == 1
    assert http.get("/progress").json()["state"]["job_count"] == 0


def test_one_that_is_slow_sends_signs_of_life(
    http: httpx.Client, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pleinair.serve.api import waiting

    monkeypatch.setattr(waiting, "QUIET", 0.01)
    monkeypatch.setattr(waiting, "BEAT", 0.01)
    asked = {"prompt": PROMPT, **ASKED, "sampler_name": "Euler a", "steps": 20}
    answer = http.post("/txt2img", json=asked)
    assert answer.text.startswith(" ")
    expected = library(PROMPT, **{**LIBRARY, "num_inference_steps": 20}).images[0]
    same(_decoded(answer.json()["images"][0]), expected)


# Pictures that a client has.


def test_a_picture_says_how_it_was_made(api: webuiapi.WebUIApi) -> None:
    answer = api.txt2img(prompt=PROMPT, negative_prompt=NEGATIVE, **ASKED)
    found = api.png_info(answer.image)
    assert found.info == answer.info["infotexts"][0]
    assert found.parameters["Prompt"] == PROMPT
    assert found.parameters["Negative prompt"] == NEGATIVE
    assert (found.parameters["Seed"], found.parameters["Size-1"]) == ("3", "64")
    assert api.png_info(painting()).info == ""


def test_pictures_made_larger(api: webuiapi.WebUIApi, library: Any) -> None:
    picture = painting(40, 24)
    lanczos = api.extra_single_image(picture, upscaler_1="Lanczos", upscaling_resize=2.5)
    same(lanczos.image, picture.resize((100, 60), Image.Resampling.LANCZOS))
    nothing = api.extra_single_image(picture, upscaler_1="None", upscaling_resize=2.5)
    same(nothing.image, picture)
    cropped = api.extra_single_image(
        picture, resize_mode=1, upscaling_resize_w=80, upscaling_resize_h=80, upscaler_1="Lanczos"
    )
    assert cropped.image.size == (80, 80)
    blended = api.extra_single_image(
        picture, upscaler_1="Nearest", upscaler_2="Lanczos", extras_upscaler_2_visibility=0.25
    )
    first = picture.resize((80, 48), Image.Resampling.NEAREST)
    second = picture.resize((80, 48), Image.Resampling.LANCZOS)
    same(blended.image, Image.blend(first, second, 0.25))
    painted = api.extra_single_image(painting(), upscaler_1="pocket", upscaling_resize=2)
    assert painted.image.size == (128, 128)
    differ(painted.image, painting().resize((128, 128), Image.Resampling.LANCZOS))
    several = api.extra_batch_images([picture, painting()], upscaler_1="Nearest")
    assert [one.size for one in several.images] == [(80, 48), (128, 128)]
    with pytest.raises(RuntimeError, match="ESRGAN"):
        api.extra_single_image(picture, upscaler_1="ESRGAN_4x")


# What is refused.


@pytest.mark.parametrize(
    ("path", "asked", "status", "word"),
    [
        ("txt2img", {"sampler_name": "Nobody"}, 404, "Sampler not found"),
        ("txt2img", {"steps": 0}, 400, "steps"),
        ("txt2img", {"steps": 100_000}, 400, "steps"),
        ("txt2img", {"cfg_scale": -1}, 400, "cfg_scale"),
        ("txt2img", {"width": 100_000, "height": 100_000}, 413, "100000"),
        ("txt2img", {"batch_size": 1000}, 400, "batch_size"),
        ("txt2img", {"batch_size": 0}, 422, "batch_size"),
        ("txt2img", {"steps": "many"}, 422, "steps"),
        ("txt2img", {"override_settings": {"sd_model_checkpoint": "other"}}, 404, "other"),
        ("txt2img", {"override_settings": {"sd_vae": "other"}}, 404, "other"),
        ("img2img", {}, 422, "init_images"),
        ("img2img", {"init_images": ["no picture"]}, 400, "init_images"),
        ("img2img", {"init_images": ["aGFsbG8="]}, 400, "init_images"),
        ("png-info", {"image": "aGFsbG8="}, 400, "picture"),
        ("options", {"sd_model_checkpoint": "other"}, 404, "other"),
        ("interrogate", {"image": "aGFsbG8="}, 404, "Model not found"),
        ("server-stop", {}, 501, "client"),
        ("nothing", {}, 404, "nothing"),
    ],
)
def test_mistakes_have_webui_s_shape(
    http: httpx.Client, path: str, asked: dict[str, Any], status: int, word: str
) -> None:
    answer = http.post(f"/{path}", json={"prompt": PROMPT, **asked})
    said = answer.json()
    assert said.keys() == {"error", "detail", "body", "errors"}
    assert (answer.status_code, word in said["detail"]) == (status, True), said


def test_a_full_queue_takes_all_of_a_request_or_nothing(start: Any) -> None:
    with start(max_queue=2) as server:
        answer = httpx.post(
            f"{server.base_url}/sdapi/v1/txt2img",
            json={"prompt": PROMPT, "n_iter": 9},
            timeout=60,
        )
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json().keys() == {"error", "detail", "body", "errors"}
        server.until_idle()
        assert len(server.service.queue) == 0


def test_what_is_not_done_is_said(api: webuiapi.WebUIApi) -> None:
    answer = api.txt2img(prompt=PROMPT, restore_faces=True, s_churn=2, **ASKED)
    said = " ".join(answer.info["comments"])
    assert "restore_faces" in said
    assert "s_churn" in said
    assert api.txt2img(prompt=PROMPT, **ASKED).info["comments"] == []


def _decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))
