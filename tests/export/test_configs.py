"""Configs of strangers: refused by file and field within moments, whatever they hold."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pleinair.export import architecture, configs, solver, weights
from pleinair.export.source import DiffusersFolder
from pleinair.runtime.errors import SourceError

UNET = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}
HOSTILE: list[Any] = [
    ("block_out_channels", 10**9),
    ("block_out_channels", [10**9, 10**9]),
    ("block_out_channels", []),
    ("block_out_channels", "32"),
    ("block_out_channels", [32, -64]),
    ("attention_head_dim", 0),
    ("attention_head_dim", [0, 0]),
    ("layers_per_block", 10**6),
    ("layers_per_block", None),
    ("time_cond_proj_dim", 10**9),
    ("cross_attention_dim", [32, 64]),
    ("cross_attention_dim", 10**400),
    ("norm_num_groups", 0),
    ("sample_size", {"height": 64}),
    ("sample_size", []),
    ("down_block_types", ["x" * 10**6]),
    ("transformer_layers_per_block", True),
    ("anything", 10**12),
    ("anything", [[[[[[[[1]]]]]]]]),
]


@pytest.mark.parametrize(("field", "value"), HOSTILE)
def test_a_field_of_no_network_is_named(field: str, value: Any) -> None:
    import diffusers  # takes seconds by itself

    assert diffusers.UNet2DConditionModel
    began = time.monotonic()
    with pytest.raises(SourceError, match=field) as refused:
        architecture.build("diffusers.UNet2DConditionModel", UNET | {field: value}, "tiny/unet")
    assert time.monotonic() - began < 5
    said = str(refused.value)
    assert said.startswith("tiny/unet: config.json: ")
    assert len(said) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"block_out_channels": [33, 64]},  # no multiple of norm_num_groups
        {"down_block_types": ["NoSuchBlock", "DownBlock2D"]},
        {"mid_block_type": "NoSuchBlock"},
        {"act_fn": "sin"},
        {"up_block_types": ["UpBlock2D"]},
    ],
)
def test_what_the_library_cannot_build_is_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="describes no working model") as refused:
        architecture.build("diffusers.UNet2DConditionModel", UNET | change, "tiny/unet")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("class_name", "config", "says"),
    [
        ("AutoencoderKL", {"scaling_factor": 1e30}, "scaling_factor"),
        ("AutoencoderKL", {"in_channels": 4}, "in_channels"),
        ("AutoencoderKL", {"use_quant_conv": "no"}, "use_quant_conv"),
        ("AutoencoderTiny", {"upsampling_scaling_factor": 0}, "upsampling_scaling_factor"),
        ("CLIPTextModel", {"num_hidden_layers": 10**5}, "num_hidden_layers"),
        ("CLIPTextModel", {"hidden_act": 3}, "hidden_act"),
        ("CLIPTextModelWithProjection", {"projection_dim": "64"}, "projection_dim"),
        ("T5EncoderModel", {"num_layers": 0}, "num_layers"),
        ("SD3Transformer2DModel", {"patch_size": 0}, "patch_size"),
        ("ControlNetModel", {"layers_per_block": [2]}, "layers_per_block"),
    ],
)
def test_every_network_s_config_has_bounds(class_name: str, config: Any, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        configs.check(class_name, config, "config.json")
    configs.check(class_name, {}, "config.json")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": ["a"]}, "_class_name"),
        ({"_class_name": "x" * 10_000_000}, "cannot be exported"),
        ({"requires_aesthetics_score": "no"}, "requires_aesthetics_score"),
        ({"force_zeros_for_empty_prompt": 3}, "force_zeros_for_empty_prompt"),
        ({"unet": {"a": 1}}, "unet is a None"),
    ],
)
def test_an_index_of_other_types(
    tiny_checkpoint: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    index = json.loads((tiny_checkpoint / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | change))
    with pytest.raises(SourceError, match=says) as refused:
        _ = DiffusersFolder(tmp_path, {}).family
    assert len(str(refused.value)) <= 2000


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", "{", '{"a": NaN}', "1" * 5000])
def test_json_of_any_kind_is_one_line(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text(content)
    with pytest.raises(SourceError, match=r"config\.json") as refused:
        DiffusersFolder(tmp_path, {}).config("unet")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"_class_name": "KDPM2DiscreteScheduler"}, "KDPM2DiscreteScheduler.*--scheduler NAME"),
        ({"_class_name": 7}, "_class_name"),
        ({"_class_name": "DDIMScheduler", "_use_default_values": 3}, "_use_default_values"),
        ({"_class_name": "DDIMScheduler", "beta_start": "a"}, "beta_start"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "flow"}, "prediction_type"),
        ({"_class_name": "PNDMScheduler", "num_train_timesteps": -1}, "num_train_timesteps"),
        ({}, "unknown here"),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_refused_before_the_export(
    config: dict[str, Any], says: str
) -> None:
    with pytest.raises(SourceError, match=says) as refused:
        solver.require_usable(config, "tiny/scheduler/scheduler_config.json")
    assert str(refused.value).startswith("tiny/scheduler/scheduler_config.json: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value: float) -> None:
    module = torch.nn.Linear(2, 2)
    state = {"weight": torch.full((2, 2), value).half(), "bias": torch.zeros(2)}
    with pytest.raises(SourceError, match=r"sd\.ckpt/unet: the weight weight holds values"):
        weights.load(module, state, "sd.ckpt/unet")


def test_weights_of_whole_numbers_are_named() -> None:
    state = {"weight": torch.ones(2, 2, dtype=torch.int8), "bias": torch.zeros(2)}
    with pytest.raises(SourceError, match="weight of int8"):
        weights.load(torch.nn.Linear(2, 2), state, "sd.ckpt/unet")
