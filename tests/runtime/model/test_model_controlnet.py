"""A ControlNet's folder: what is read of it, what fits, which residuals it has."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import convert

from fakes import UNET, controlnet, written
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.model.configs import UNetConfig
from pleinair.runtime.model.controlnet import ControlNet, opened, weighed

CONFIG = {
    "_class_name": "ControlNetModel",
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "cross_attention_dim": 8,
}


def folder(path: Path, **changed: Any) -> Path:
    written(path / "config.json", {**CONFIG, **changed})
    (path / "openvino_model.xml").write_text("<net></net>", encoding="utf-8")
    (path / "openvino_model.bin").write_bytes(b"")
    return path


def test_a_folder_is_read(tmp_path: Path) -> None:
    net = ControlNet.open(folder(tmp_path / "net"), 0.5)
    assert net.weight == 0.5
    assert net.graph("openvino") == tmp_path / "net" / "openvino_model.xml"
    assert not net.pooled
    with pytest.raises(BundleError, match="holds no ControlNet as onnx"):
        net.graph("onnx")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel; only a ControlNetModel"),
        ({"_class_name": None}, "only a ControlNetModel"),
        ({"conditioning_channels": 1}, "wants pictures of 1 channels"),
        ({"num_class_embeds": 5}, "num_class_embeds is 5: only ControlNets that are told a prompt"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type is text_time: only Control"),
        ({"controlnet_conditioning_channel_order": "gbr"}, "Invalid enum value 'gbr'"),
        ({"block_out_channels": [32, 10**9]}, r"Expected int <= 65536 at block_out_channels\[1\]"),
        ({"layers_per_block": True}, "Expected int | null, got bool at layers_per_block"),
    ],
)
def test_what_is_no_controlnet(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        ControlNet.open(folder(tmp_path, **changed))


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such ControlNet folder"):
        ControlNet.open(tmp_path / "nothing")
    written(tmp_path / "config.json", CONFIG)
    with pytest.raises(BundleError, match="a checkpoint, not a converted ControlNet"):
        ControlNet.open(tmp_path)
    folder(tmp_path)
    (tmp_path / "openvino_model.bin").unlink()
    with pytest.raises(BundleError, match=r"openvino_model\.bin: missing"):
        ControlNet.open(tmp_path)
    bare = folder(tmp_path / "bare")
    written(bare / "config.json", {"_class_name": "ControlNetModel"})
    with pytest.raises(BundleError, match="lacks block_out_channels, layers_per_block, cross"):
        ControlNet.open(bare)
    with pytest.raises(SettingError, match="its weight is no number up to 1000"):
        ControlNet.open(folder(tmp_path / "net"), float("nan"))


def test_names_with_weights(tmp_path: Path) -> None:
    path = folder(tmp_path / "net")
    assert weighed(path) == weighed(str(path)) == (path, 1.0)
    assert weighed(f"{path}:0.8") == weighed((path, 0.8)) == (path, 0.8)
    assert weighed(f"{path}:-.5") == (path, -0.5)
    colon = folder(tmp_path / "net:2")
    assert weighed(str(colon)) == (colon, 1.0)
    assert opened(None) == []
    assert [net.weight for net in opened((path, 0.5))] == [0.5]
    assert [net.weight for net in opened([f"{path}:0.8", path])] == [0.8, 1]


def test_it_fits_a_unet_of_its_shape() -> None:
    net = controlnet(CONFIG)
    net.check_fits(convert(UNET, UNetConfig), 4, "tree")
    net.check_fits(UNetConfig(), 4, "tree")  # an older folder, which says nothing
    with pytest.raises(BundleError, match="than tree: layers_per_block 1 instead of 2"):
        net.check_fits(convert({**UNET, "layers_per_block": 2}, UNetConfig), 4, "tree")
    other = controlnet({**CONFIG, "in_channels": 4})
    with pytest.raises(BundleError, match="4 channels instead of 16"):
        other.check_fits(UNetConfig(), 16, "tree")


def test_a_controlnet_that_does_not_say_its_channels_has_four() -> None:
    with pytest.raises(BundleError, match="4 channels instead of 16"):
        controlnet(CONFIG).check_fits(UNetConfig(), 16, "tree")


def test_residuals_are_those_of_diffusers() -> None:
    torch = pytest.importorskip("torch")
    from diffusers import ControlNetModel

    config = {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "layers_per_block": 2,
        "cross_attention_dim": 8,
        "attention_head_dim": 8,
        "conditioning_embedding_out_channels": (8, 8),
    }
    module = ControlNetModel(**config)
    with torch.no_grad():
        down, middle = module(
            torch.zeros(2, 4, 5, 6),
            torch.tensor(1),
            torch.zeros(2, 7, 8),
            torch.zeros(2, 3, 10, 12),
            return_dict=False,
        )
    net = controlnet({**CONFIG, "layers_per_block": 2})
    found = net.residuals(2, 5, 6)
    assert list(found.values()) == [tuple(one.shape) for one in (*down, middle)]
    assert len(set(found)) == len(down) + 1
