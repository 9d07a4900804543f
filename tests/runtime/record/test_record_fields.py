"""Every field of webui's text: taken over with webui's meaning, or named."""

from typing import Any

import pytest

from pleinair.runtime.record import fields, infotext

HEAD = "Steps: 12, Sampler: Euler a, CFG scale: 6.5, Seed: 4, Size: 512x768, RNG: CPU"
PLAIN = {
    "prompt": "a boat",
    "num_inference_steps": "12",
    "scheduler": "euler_a",
    "guidance_scale": "6.5",
    "seed": "4",
    "width": 512,
    "height": 768,
}


def said(more: str, sampler: str = "Euler a") -> tuple[dict[str, Any], list[str]]:
    """What fields add to the plain ones, and what of them is named."""
    head = HEAD.replace("Euler a", sampler)
    settings, ignored = infotext.read(f"a boat\n{head}{', ' if more else ''}{more}")
    return {k: v for k, v in settings.items() if PLAIN.get(k) != v}, ignored


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ("", {}),
        (
            "Variation seed: 9, Variation seed strength: 0.3",
            {"variation_seed": "9", "variation_strength": "0.3"},
        ),
        ("Clip skip: 2", {"clip_layer": "2"}),
        ("Denoising strength: 0.6, Mask blur: 4", {"strength": "0.6", "mask_blur": "4"}),
        ("Image CFG scale: 1.5", {"image_guidance_scale": "1.5"}),
        ("CFG Rescale: 0.7", {"guidance_rescale": "0.7"}),
        ("Version: v1.9.4, User: me", {"version": "v1.9.4"}),
        (
            "Hires upscale: 2, Hires upscaler: Lanczos, Denoising strength: 0.5",
            {"enlarge": "2", "enlarge_strength": "0.5", "enlarge_guidance_scale": "6.5"},
        ),
        (
            "Hires resize: 1024x1536, Hires steps: 12, Hires CFG Scale: 1, Denoising strength: 0.5",
            {"enlarge": "2", "enlarge_strength": "0.5", "enlarge_guidance_scale": "1"},
        ),
        (
            "Hires upscale: 2, Hires steps: 20",
            {"enlarge": "2", "enlarge_guidance_scale": "6.5", "enlarge_steps": "20"},
        ),
        (
            "Hires resize: 1024x0, Hires sampler: Use same sampler",
            {"enlarge": "2", "enlarge_guidance_scale": "6.5"},
        ),
        (
            "First pass size: 256x384, Denoising strength: 0.7",
            {
                "enlarge": "2",
                "enlarge_strength": "0.7",
                "enlarge_guidance_scale": "6.5",
                "width": 256,
                "height": 384,
            },
        ),
    ],
)
def test_taken_over(more: str, settings: dict[str, Any]) -> None:
    assert said(more) == (settings, [])


@pytest.mark.parametrize(
    "more",
    [
        "Emphasis: Original",
        "Eta: 1.0",
        "Sigma noise: 1",
        "Token merging ratio: 0",
        "Conditional mask weight: 1.0",
        "VAE: Automatic",
        "VAE Decoder: Full",
        "Inpaint area: Whole picture",
        "Tiling: False",
    ],
)
def test_what_changes_nothing_is_not_told(more: str) -> None:
    assert said(more) == ({}, [])


@pytest.mark.parametrize(
    "more",
    [
        *("Seed resize from: 512x512", "ENSD: 31337", "Eta: 0.5", "Eta DDIM: 0.5"),
        *("Model hash: 1f", "VAE hash: 1f", "VAE: mse.pt", "Tiling: True", "Emphasis: No norm"),
        *("Refiner: b [1f]", "Refiner switch at: 0.8", "Face restoration: CodeFormer"),
        *("Token merging ratio: 0.5", "NGMS: 0.5", "NGMS all steps: True", "Pad conds: True"),
        *("Sigma churn: 1", "Sigma tmin: 1", "Sigma tmax: 1", "Sigma noise: 1.1"),
        *("Schedule max sigma: 1", "Schedule min sigma: 1", "Schedule rho: 1"),
        *("UniPC variant: bh1", "UniPC skip type: logSNR", "UniPC order: 3"),
        *("Schedule type: Align Your Steps", "Schedule type: Beta", "Schedule type: Simple"),
        *("Inpaint area: Only masked", "Masked area padding: 32", "Mask mode: Inpaint not masked"),
        *("Masked content: fill", "Init image hash: 1f", "Noise multiplier: 0.9", "Hypernet: x"),
        *("Noise Schedule: Zero Terminal SNR", "Discard penultimate sigma: True", "FP8 weight: x"),
        *("Downcast alphas_cumprod: True", "SGM noise multiplier: True", "Extra noise: 0.1"),
        *("Dynamic thresholding enabled: True", "ControlNet 0: x", "ADetailer model: face.pt"),
        *("Old prompt editing timelines: True", "VAE Decoder: TAESD", "Distilled CFG Scale: 3"),
        *("Lora hashes: x", "Batch size: 2", "Hires resize: 768x768", "Hires upscaler: Latent"),
        "Surprise: 1",
    ],
)
def test_named(more: str) -> None:
    assert said(more) == ({}, [more.partition(":")[0]])


def test_rng_of_a_gpu_is_named_once() -> None:
    assert said("")[1] == []
    *_, noise = infotext.read(f"a boat\n{HEAD.removesuffix(', RNG: CPU')}")[1]
    assert noise.startswith("RNG (webui's numbers are a GPU's")
    assert infotext.read(f"a boat\n{HEAD.replace('RNG: CPU', 'RNG: NV')}")[1] == ["RNG"]


def test_a_second_pass_that_is_none_of_ours_leaves_no_strength() -> None:
    """Of a crop: it is not the strength of a picture that was given."""
    settings, ignored = said("Hires resize: 768x768, Denoising strength: 0.5")
    assert settings == {}
    assert ignored == ["Hires resize", "Hires denoising strength"]


def test_webui_s_old_first_pass_of_0x0() -> None:
    """About 512x512 pixels, in steps of 64: 1024x1536 was painted at 448x640 first."""
    old = HEAD.replace("512x768", "1024x1024")
    settings, ignored = infotext.read(f"a boat\n{old}, First pass size: 0x0")
    assert (settings["width"], settings["height"], settings["enlarge"]) == (512, 512, "2")
    assert ignored == []


@pytest.mark.parametrize(
    ("sampler", "more", "scheduler", "ignored"),
    [
        ("DPM++ 2M Karras", "", "dpmpp_2m_karras", []),
        ("DPM++ 2M SDE Exponential", "", "dpmpp_2m_sde_exponential", []),
        ("DPM++ 2M SDE", "Schedule type: exponential", "dpmpp_2m_sde_exponential", []),
        ("k_euler_a", "", "euler_a", []),
        ("DDIM", "Schedule type: DDIM", "ddim", []),
        ("Euler", "Schedule type: Uniform", "euler", []),
        ("Heun", "Schedule type: Normal", "heun", []),
        ("DPM++ 2M", "Schedule type: KL Optimal", "dpmpp_2m", ["Schedule type"]),
        ("DPM++ 2M AYS", "", "dpmpp_2m", ["Sampler"]),
        ("DPM++ 2S a Karras", "", None, ["Sampler"]),
        ("DPM++ SDE Karras", "", None, ["Sampler"]),
        ("DPM++ 3M SDE", "Schedule type: Karras", None, ["Sampler", "Schedule type"]),
        ("Undefined", "", None, ["Sampler"]),
    ],
)
def test_samplers(sampler: str, more: str, scheduler: str | None, ignored: list[str]) -> None:
    settings, named = said(more, sampler)
    found = settings.get("scheduler", "euler_a" if scheduler == "euler_a" else None)
    assert (found, named) == (scheduler, ignored)


def test_ddim_s_eta_by_both_of_its_names() -> None:
    assert said("Eta: 0.5", "DDIM") == ({"scheduler": "ddim", "eta": "0.5"}, [])
    assert said("Eta DDIM: 0.5", "DDIM") == ({"scheduler": "ddim", "eta": "0.5"}, [])


@pytest.mark.parametrize(
    "behind",
    [
        "\nTemplate: a {light|ware}house\nNegative Template: fog, rain",
        ', Note: "one\ntwo", Version: v1.6.0',
        ", Note: [1,\n2], Version: v1.6.0\nTemplate: Steps",
    ],
)
def test_lines_behind_the_fields(behind: str) -> None:
    settings, ignored = infotext.read(f"a boat\nNegative prompt: fog\n{HEAD}{behind}")
    assert settings["negative_prompt"] == "fog"
    assert settings["seed"] == "4"
    assert set(ignored) <= {"Template", "Negative Template", "Note"}
    assert ignored


def test_a_prompt_that_looks_like_fields_is_still_a_prompt() -> None:
    text = f"Steps: 1, b: 2, c: 3\nNegative prompt: Steps: 9, fog: 1, d: 2\n{HEAD}"
    settings, _ = infotext.read(text)
    assert settings["prompt"] == "Steps: 1, b: 2, c: 3"
    assert settings["negative_prompt"] == "Steps: 9, fog: 1, d: 2"
    assert settings["num_inference_steps"] == "12"


def test_two_weights_of_a_lora_stay_in_the_prompt_to_be_refused_by_name() -> None:
    settings, _ = infotext.read(f"a boat <lora:x:0.8:0.4>\n{HEAD}")
    assert settings.get("loras") or settings["prompt"] == "a boat <lora:x:0.8:0.4>"


@pytest.mark.parametrize("text", ["a:[" * 200_000, '[{"x":' * 100_000, "a:{," * 100_000])
def test_nested_values_are_read_in_moments(text: str) -> None:
    lines, found = fields.split(f"{HEAD}, {text}")
    assert lines == []
    assert found["Seed"] == "4"
