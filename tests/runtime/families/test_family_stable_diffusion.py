"""Stable Diffusion 1 and 2, latent consistency models and inpainting UNets, from their configs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import LAYERS, WIDTH, controlnet, model_folder
from pleinair.runtime.denoise.guidance import CONDITIONAL, UNCONDITIONAL, Guidance, scale_embedding
from pleinair.runtime.denoise.inpainting import BlendedInpainting, TrainedInpainting
from pleinair.runtime.denoise.posterior import Posterior
from pleinair.runtime.denoise.start import Blank, FromPicture
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.families import open_model
from pleinair.runtime.families.settings import Settings
from pleinair.runtime.images.original import Canvas
from pleinair.runtime.options.groups import Picture

PICTURE = Image.new("RGB", (64, 64))
DISTILLED = {"time_cond_proj_dim": 256}
LCM = {"_class_name": "LCMScheduler"}


def settings(**changed: Any) -> Settings:
    given = {
        "width": 64,
        "height": 32,
        "steps": 10,
        "scheduler": None,
        "eta": 0.0,
        "guidance_scale": 7.5,
        "guidance": Guidance(),
        "strength": 0.5,
        "canvas": None,
        "options": None,
    }
    return Settings(**{**given, **changed})


def canvas(mask: bool = False) -> Canvas:
    return Canvas(
        np.zeros((1, 3, 32, 64), np.float32), np.ones((1, 1, 32, 64), np.float32) if mask else None
    )


class Encoder:
    """Counts what goes through it."""

    def __init__(self, family: Any) -> None:
        self.family, self.seen = family, []

    def __call__(self, pixels: np.ndarray) -> Posterior:
        self.seen.append(pixels)
        mean = np.zeros((1, 4, 4, 8), np.float32)
        return Posterior(mean, None, self.family.space)


@pytest.fixture
def family(tmp_path: Path) -> Any:
    return open_model(model_folder(tmp_path / "tree"))


def test_what_the_configs_say(family: Any) -> None:
    assert (family.size, family.multiple, family.upscales) == (64, 8, 1)
    assert family.space.colours is not None
    assert family.in_channels == family.space.channels == 4
    assert (family.text_encoders, family.tokenizers) == (("text_encoder",), ("tokenizer",))
    assert (family.task, family.inpaints) == ("text", False)
    expected = {"sample": (2, 4, 4, 8), "encoder_hidden_states": (2, 77, WIDTH)}
    assert family.denoiser_inputs(2, 64, 32) == expected
    assert family.example_pictures(64) == {}


def test_cuts_are_the_skip_connections(tmp_path: Path) -> None:
    """conv_in, a layer a level, and a downsampler between two levels: 1 + 2 + 1."""
    assert open_model(model_folder(tmp_path / "a")).cuts == 4
    by_level = {"layers_per_block": [2, 3]}
    assert open_model(model_folder(tmp_path / "b", unet=by_level)).cuts == 7
    silent = model_folder(tmp_path / "c")
    (silent / "unet" / "config.json").unlink()
    assert open_model(silent).cuts is None


def test_guidance_is_classifier_free(family: Any) -> None:
    assert family.guidance(7.5, None).branches == (UNCONDITIONAL, CONDITIONAL)
    assert not family.guidance(1, None).guides
    assert family.extra_inputs(settings(), CONDITIONAL) == {}


def test_a_distilled_model_is_told_its_scale(tmp_path: Path) -> None:
    family = open_model(model_folder(tmp_path / "tree", unet=DISTILLED, scheduler=LCM))
    assert not family.guidance(8.5, None).guides
    with pytest.raises(SettingError, match="guidance_scale is -1"):
        family.guidance(-1, None)
    (told,) = family.extra_inputs(settings(guidance_scale=8.5), CONDITIONAL).values()
    np.testing.assert_array_equal(told, scale_embedding(8.5, 256))
    assert family.denoiser_inputs(1, 64, 64)["timestep_cond"] == (1, 256)
    assert family.recommended.steps == 4
    assert family.recommended.guidance_scale == 8.5


@pytest.mark.parametrize(
    ("scheduler", "picture", "expected"),
    [
        (None, Picture(image=PICTURE), True),
        ("lcm", Picture(image=PICTURE), True),
        ("ddim", Picture(image=PICTURE), False),
        (None, Picture(), False),
        (None, Picture(image=PICTURE, mask_image=PICTURE), False),
    ],
)
def test_a_latent_consistency_model_takes_all_steps_from_a_picture(
    scheduler: str | None, picture: Picture, expected: bool, tmp_path: Path
) -> None:
    family = open_model(model_folder(tmp_path / "tree", unet=DISTILLED, scheduler=LCM))
    assert family.draws_all_steps(scheduler, picture) is expected


def test_its_timesteps_are_drawn_from_the_last_share(tmp_path: Path) -> None:
    family = open_model(model_folder(tmp_path / "tree", unet=DISTILLED, scheduler=LCM))
    every, last = (
        family.scheduler(settings(steps=4, scheduler="lcm", drawn_from=share)).timesteps
        for share in (1.0, 0.5)
    )
    assert len(every) == len(last) == 4
    assert every[0] > 900
    assert last[0] < 500


def test_an_lcm_lora_merged_into_it_has_no_scale_to_be_told(tmp_path: Path) -> None:
    family = open_model(model_folder(tmp_path / "tree", scheduler=LCM))
    assert (family.recommended.steps, family.recommended.guidance_scale) == (4, 1.0)
    assert not family.draws_all_steps("lcm", Picture(image=PICTURE))


def test_origins(family: Any, tmp_path: Path) -> None:
    encoder = Encoder(family)
    blank = family.origin(settings(), encoder)
    assert isinstance(blank, Blank)
    assert blank.shape == (1, 4, 4, 8)
    assert encoder.seen == []
    assert isinstance(family.origin(settings(canvas=canvas()), encoder), FromPicture)
    blended = family.origin(settings(canvas=canvas(mask=True)), encoder)
    assert isinstance(blended, BlendedInpainting)
    assert blended.mask.shape == (1, 1, 4, 8)
    assert len(encoder.seen) == 2


@pytest.mark.parametrize(("strength", "encoded"), [(1.0, 1), (0.5, 2)])
def test_an_inpainting_unet_sees_mask_and_masked_picture(
    strength: float, encoded: int, tmp_path: Path
) -> None:
    family = open_model(model_folder(tmp_path / "tree", unet={"in_channels": 9}))
    assert (family.task, family.inpaints) == ("inpainting", True)
    encoder = Encoder(family)
    made = family.origin(settings(canvas=canvas(mask=True), strength=strength), encoder)
    assert isinstance(made, TrainedInpainting)
    assert len(encoder.seen) == encoded
    with pytest.raises(SettingError, match="tree is a model for inpainting: give image, and mask"):
        family.check_call(Picture(image=PICTURE), None)
    family.check_call(Picture(**family.example_pictures(64)), None)


def test_clip_skip_leaves_a_layer(family: Any) -> None:
    for fine in (None, 0, LAYERS - 1):
        family.check_clip_skip(fine)
    for wrong in (LAYERS, -1, 1.5):
        with pytest.raises(SettingError, match=f"this model takes 0 to {LAYERS - 1}"):
            family.check_clip_skip(wrong)


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "a", unet={"cross_attention_dim": 768})
    with pytest.raises(
        BundleError, match="attends to 768 values a token, the text encoder gives 8"
    ):
        open_model(folder)
    folder = model_folder(tmp_path / "b", unet={"num_class_embeds": 1000})
    with pytest.raises(BundleError, match="takes noise level"):
        open_model(folder)


def test_what_its_parts_hold_while_they_compute(family: Any) -> None:
    unet = family.working("unet", {"sample": (2, 4, 8, 8)})
    assert (unet.held, unet.values, unet.scores) == ("denoiser", 2 * 64 * 32, 2 * 64**2)
    decoder = family.working("vae_decoder", {"latent_sample": (1, 4, 8, 8)})
    assert (decoder.held, decoder.values) == ("vae", 64 * 64 * 32)
    assert family.working("vae_encoder", {"sample": (1, 3, 64, 64)}).values == 64 * 64 * 32
    assert family.working("text_encoder", {"input_ids": (1, 77)}).held == ""


def test_controlnets_of_its_shape_fit(family: Any, tmp_path: Path) -> None:
    config = {
        key: getattr(family.config, key) for key in ("block_out_channels", "layers_per_block")
    }
    net = controlnet({**config, "cross_attention_dim": WIDTH})
    family.check_controlnet(net)
    with pytest.raises(BundleError, match="cross_attention_dim 768 instead of 8"):
        family.check_controlnet(controlnet({**config, "cross_attention_dim": 768}))
