"""Fields of a model's configs that change the picture: honoured, or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import model_folder, upscaler_folder, xl_folder
from pleinair.runtime import families
from pleinair.runtime.errors import BundleError, PleinairError
from pleinair.runtime.images.clip import ClipPreprocessor
from pleinair.runtime.model.safety import Thresholds

XL_IDS = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}


def opened(make: Callable[..., Path], folder: Path, **changed: Any) -> families.Family:
    return families.open_model(make(folder / "tree", **changed))


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (model_folder, {"unet": {"class_embed_type": "projection"}}, "class_embed_type is proj"),
        (model_folder, {"unet": {"addition_embed_type": "text_time"}}, "addition_embed_type is te"),
        (model_folder, {"unet": {"encoder_hid_dim_type": "image_proj"}}, "encoder_hid_dim_type is"),
        (model_folder, {"unet": {"dual_cross_attention": True}}, "dual_cross_attention is True"),
        (model_folder, {"unet": {"cross_attention_dim": [8, 16]}}, "cross_attention_dim is .8, 16"),
        (model_folder, {"unet": {"out_channels": 8}}, "out_channels is 8: it predicts more than"),
        (model_folder, {"unet": {"num_class_embeds": 1000}}, "takes noise level"),
        (model_folder, {"unet": {"time_cond_proj_dim": 10**9}}, "<= 65536 at time_cond_proj_dim"),
        (model_folder, {"unet": {"sample_size": [64]}}, "length >= 2 at sample_size"),
        (model_folder, {"unet": {"sample_size": 64.5}}, "got float at sample_size"),
        (model_folder, {"unet": {"in_channels": "4"}}, "got str at in_channels"),
        (model_folder, {"unet": {"block_out_channels": []}}, "length >= 1 at block_out_channels"),
        (model_folder, {"unet": {"layers_per_block": True}}, "got bool at layers_per_block"),
        (model_folder, {"unet": {"in_channels": 10**400}}, "<= 65536 at in_channels"),
        (xl_folder, {"unet": {"addition_embed_type": "image"}}, "addition_embed_type is image"),
        (
            xl_folder,
            {"unet": {**XL_IDS, "projection_class_embeddings_input_dim": 5 + 5 * 8}},
            "is told 45 values of text and sizes .*, and gets 53: check requires_aesthetics_score",
        ),
        (
            xl_folder,
            {"index": {"requires_aesthetics_score": "yes"}},
            "at requires_aesth",
        ),
        (xl_folder, {"index": {"force_zeros_for_empty_prompt": 1}}, "at force_zeros_for_empty_pro"),
        (upscaler_folder, {"index": {"max_noise_level": -1}}, ">= 0 at max_noise_level"),
        (model_folder, {"index": {"_class_name": "x" * 10**6}}, "a x.*…x.* model; only those of"),
        (model_folder, {"index": {"_class_name": ["x"]}}, "only those of these kinds"),
    ],
)
def test_refused_by_name(
    tmp_path: Path, make: Callable[..., Path], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(PleinairError, match=message) as caught:
        opened(make, tmp_path, **changed)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("make", "changed"),
    [
        (model_folder, {"unet": {"cross_attention_dim": [8, 8], "layers_per_block": [1, 1]}}),
        (model_folder, {"unet": {"sample_size": None, "time_cond_proj_dim": None}}),
        (xl_folder, {"unet": {**XL_IDS, "projection_class_embeddings_input_dim": 5 + 6 * 8}}),
        (xl_folder, {"index": {"force_zeros_for_empty_prompt": None}}),
    ],
)
def test_taken(tmp_path: Path, make: Callable[..., Path], changed: dict[str, Any]) -> None:
    opened(make, tmp_path, **changed)


def test_null_forces_no_zeros(tmp_path: Path) -> None:
    """As in diffusers, where null counts as false."""
    index = {"force_zeros_for_empty_prompt": None}
    assert not opened(xl_folder, tmp_path / "null", index=index).zero_negative
    assert opened(xl_folder, tmp_path / "absent").zero_negative


def test_sizes_that_are_not_said_are_the_kind_s(tmp_path: Path) -> None:
    assert opened(model_folder, tmp_path, unet={"sample_size": None}).size == 64 * 8
    assert opened(xl_folder, tmp_path / "xl", unet={"sample_size": None}).size == 128 * 8


def test_what_is_not_square_and_what_no_scheduler_knows_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "pleinair"):
        made = opened(
            model_folder, tmp_path, unet={"sample_size": [8, 12]}, scheduler={"use_karas": True}
        )
    assert made.size == 96
    first, second = (record.getMessage() for record in caplog.records)
    assert "no scheduler has the option use_karas" in first
    assert "made for pictures of 96x64; square ones are painted" in second


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": {"height": 224, "width": 224}}, "at size"),
        ({"size": -1}, ">= 1 at size"),
        ({"resample": 9}, "<= 5 at resample"),
        ({"image_mean": [0.5]}, "at image_mean"),
        ({"image_std": [0, 0, 0]}, "at image_std"),
        ({"rescale_factor": 1}, "rescale_factor is not 1/255"),
        ({"do_normalize": False}, "do_normalize is off"),
    ],
)
def test_pictures_for_the_checker(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=rf"preprocessor_config\.json: .*{message}"):
        ClipPreprocessor.of(config)


@pytest.mark.parametrize(
    "weights", [[], None, "1", [None], [10**400], [1e30], [[0.1]], [0.1] * 10_000]
)
def test_thresholds_of_the_checker(weights: Any) -> None:
    config = {"concept_embeds_weights": [0.2], "special_care_embeds_weights": weights}
    with pytest.raises(BundleError, match=r"safety_checker/config\.json: .*special_care"):
        Thresholds.of(config)
    assert json.dumps(config)  # such a file can be written
