"""Stable Diffusion XL and its refiner: which sizes and scores each branch is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import WIDTH, opened, xl_folder
from pleinair.runtime.denoise.guidance import CONDITIONAL, UNCONDITIONAL, Guidance
from pleinair.runtime.errors import SettingError
from pleinair.runtime.families import open_model
from pleinair.runtime.families.settings import Settings
from pleinair.runtime.families.xl import SizeConditioning
from pleinair.runtime.options.groups import Picture


@pytest.fixture
def base(tmp_path: Path) -> Any:
    return open_model(xl_folder(tmp_path / "base"))


@pytest.fixture
def refiner(tmp_path: Path) -> Any:
    index = {"requires_aesthetics_score": True, "text_encoder": [None, None]}
    folder = xl_folder(tmp_path / "refiner", text_encoders=("text_encoder_2",), index=index)
    return open_model(folder)


def ids(family: Any, branch: str, **options: Any) -> list[float]:
    settings = Settings(
        width=64,
        height=32,
        steps=1,
        scheduler=None,
        eta=0.0,
        guidance_scale=7.5,
        guidance=Guidance(),
        strength=1.0,
        canvas=None,
        options=SizeConditioning(**options),
    )
    (told,) = family.extra_inputs(settings, branch).values()
    assert told.dtype == np.float32
    assert told.shape[0] == 1
    return told[0].tolist()


def test_unasked_it_is_told_the_size_painted(base: Any) -> None:
    for branch in (CONDITIONAL, UNCONDITIONAL):
        assert ids(base, branch) == [32, 64, 0, 0, 32, 64]  # heights first


def test_a_negative_size_is_the_other_branch_s(base: Any) -> None:
    asked = {
        "original_size": "768x1024",
        "crops_coords_top_left": (10, 20),
        "target_size": [512, 256],
        "negative_original_size": (100, 50),
    }
    assert ids(base, CONDITIONAL, **asked) == [768, 1024, 10, 20, 512, 256]
    assert ids(base, UNCONDITIONAL, **asked) == [100, 50, 10, 20, 512, 256]


def test_the_refiner_is_told_a_score(refiner: Any) -> None:
    assert ids(refiner, CONDITIONAL) == [32, 64, 0, 0, 6]
    assert ids(refiner, UNCONDITIONAL) == [32, 64, 0, 0, 2.5]
    asked = {"aesthetic_score": 7, "negative_aesthetic_score": 1}
    assert ids(refiner, CONDITIONAL, **asked)[-1] == 7
    assert ids(refiner, UNCONDITIONAL, **asked)[-1] == 1


def test_what_the_parts_are(base: Any, refiner: Any) -> None:
    assert base.text_encoders == ("text_encoder", "text_encoder_2")
    assert base.tokenizers == ("tokenizer", "tokenizer_2")
    assert refiner.text_encoders == ("text_encoder_2",)
    assert base.zero_negative
    inputs = base.denoiser_inputs(2, 64, 32)
    assert inputs["encoder_hidden_states"] == (2, 77, 2 * WIDTH)
    assert inputs["text_embeds"] == (2, 5)
    assert inputs["time_ids"] == (2, 6)
    assert refiner.config.cross_attention_dim == WIDTH
    assert refiner.denoiser_inputs(1, 64, 32)["time_ids"] == (1, 5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("original_size", "large", "original_size is 'large'; give two whole numbers"),
        ("target_size", (1, 2, 3), "give two whole numbers of pixels"),
        ("aesthetic_score", 6.0, "aesthetic_score is for XL's refiner; leave it out for base"),
    ],
)
def test_what_the_base_is_not_told(base: Any, name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        base.check_call(Picture(), SizeConditioning(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target_size", (1, 2), "target_size is not what XL's refiner is told"),
        ("negative_target_size", (1, 2), "negative_target_size is not what XL's refiner is told"),
        ("aesthetic_score", float("nan"), "aesthetic_score is nan; give a number like 6"),
    ],
)
def test_what_the_refiner_is_not_told(refiner: Any, name: str, value: Any, message: str) -> None:
    refiner.check_call(Picture(), SizeConditioning(original_size=(1, 2), aesthetic_score=5))
    with pytest.raises(SettingError, match=message):
        refiner.check_call(Picture(), SizeConditioning(**{name: value}))


def test_options_are_checked_where_a_picture_is_only_enlarged(tmp_path: Path) -> None:
    pipe = opened(xl_folder(tmp_path / "base"))
    picture = Image.new("RGB", (64, 64))
    assert pipe.plan("tree", image=picture, enlarge=2, original_size="32x32").settings.width == 128
    with pytest.raises(SettingError, match="original_size is 'large'"):
        pipe.plan("tree", image=picture, enlarge=2, original_size="large")


def test_the_mean_of_a_vae_s_latents_is_read_and_a_shift_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As diffusers' pipelines of XL: what they leave unread is named."""
    vae = {"latents_mean": [0.1] * 4, "latents_std": [2] * 4, "shift_factor": 0.5}
    family = open_model(xl_folder(tmp_path / "base", vae=vae))
    assert family.space.shift == family.decoder_spaces["vae_decoder"].shift == (0.1,) * 4
    assert family.space.std == (2,) * 4
    assert [record.message for record in caplog.records] == [
        "base: shift_factor of the VAE's config not used, as in diffusers' pipelines of "
        f"{family.name}"
    ]


@pytest.mark.parametrize(("zeros", "expected"), [(True, 0.0), (False, None)])
def test_no_negative_prompt_is_zeros(zeros: bool, expected: float | None, tmp_path: Path) -> None:
    """diffusers: force_zeros_for_empty_prompt, where no negative prompt is given."""
    folder = xl_folder(tmp_path / "base", index={"force_zeros_for_empty_prompt": zeros})
    pipe, fed = opened(folder), []
    compile = pipe.engine.compile

    def watched(path: Path, *arguments: Any) -> Any:
        graph = compile(path, *arguments)
        if path.parent.name != "unet":
            return graph
        return lambda feeds: fed.append(feeds) or graph(feeds)

    pipe.engine.compile = watched
    pipe("tree", seed=1, num_inference_steps=1)
    pipe("tree", "", seed=1, num_inference_steps=1)
    without, empty = (
        [feeds[name][0] for name in ("encoder_hidden_states", "text_embeds")] for feeds in fed
    )
    assert all(value.any() for value in empty)
    assert all((value == 0).all() for value in without) is zeros
    assert all(feeds["time_ids"].all(axis=0)[0] for feeds in fed)  # sizes are told all the same
