"""State dicts in every wrapping, and files that are none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pleinair.export import strangers
from pleinair.export.reading import read_checkpoint
from pleinair.export.single_file import SingleFile
from pleinair.runtime.errors import SourceError

STATE = {"a.weight": torch.arange(3.0), "b.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"module": STATE, "epoch": 1},
        {"model": {"state_dict": STATE}, "optimizer": {"lr": torch.zeros(1)}},
        {"module": {"model": {"params": STATE}}},
        {f"module.{key}": value for key, value in STATE.items()},
        {f"_orig_mod.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module._orig_mod.{key}": value for key, value in STATE.items()}},
    ],
)
@pytest.mark.parametrize("name", ["nested.ckpt", "NESTED.PTH", "nested.bin"])
def test_a_state_dict_in_its_wrappings(content: Any, name: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / name)
    state, _ = read_checkpoint(tmp_path / name)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "misnamed.ckpt", "model.pth"])
@pytest.mark.parametrize("header", [None, 640, 0x4B50 - 8])
def test_the_format_is_told_by_the_content(name: str, header: int | None, tmp_path: Path) -> None:
    """A header's length may look like the mark of a pickle (0x80) or nearly of a zip."""
    metadata = {"x": ""}
    file = tmp_path / name
    if header:
        save_file(STATE, file, metadata=metadata)
        length = int.from_bytes(file.read_bytes()[:8], "little")
        metadata = {"x": "." * (header - length)}
    save_file(STATE, file, metadata=metadata)
    assert read_checkpoint(file)[0].keys() == STATE.keys()


def test_float8_weights_are_multiplied_by_their_scale(tmp_path: Path) -> None:
    """As ComfyUI saves them: scale_weight beside each, scaled_fp8 as a mark."""
    small = torch.tensor([[1.0, -2.0]]).to(torch.float8_e4m3fn)
    state = {"a.weight": small, "a.scale_weight": torch.tensor(0.5), "plain.weight": small.clone()}
    save_file(state | {"scaled_fp8": torch.zeros(2)}, tmp_path / "model.safetensors")
    read, _ = read_checkpoint(tmp_path / "model.safetensors")
    assert {key: value.float().tolist() for key, value in read.items()} == {
        "a.weight": [[0.5, -1.0]],
        "plain.weight": [[1.0, -2.0]],
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"", "not a readable safetensors"),
        (b"\x00" * 64, "not a readable safetensors"),
        (b"\x80\x02}q\x00.", "not a readable checkpoint|holds|no unet"),
        (b"\xff" * 8 + b"{" * 500, "not a readable"),
    ],
)
def test_files_of_other_kinds(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=says) as refused:
        SingleFile(file)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3 in one file"),
        ("double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "FLUX"),
        ("clip_txt_mapper.weight", "Stable Cascade"),
        ("depth_model.model.x", "depth"),
        ("noise_augmentor.data_mean", "unCLIP"),
        ("lora_unet_down_blocks_0.lora_up.weight", "a LoRA.*--lora"),
        ("unet.down_blocks.0.attn.lora_A.weight", "a LoRA"),
        ("lora_te_x.hada_w1_a", "a LoRA"),
        ("encoder.down.0.block.0.conv1.weight", "a VAE.*--vae"),
        ("decoder.up_blocks.0.resnets.0.conv1.weight", "a VAE"),
        ("control_model.zero_convs.0.0.weight", "a ControlNet"),
        ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
        ("input_blocks.0.0.weight", "a UNet alone"),
        ("down_blocks.0.resnets.0.conv1.weight", "a UNet alone"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "a text encoder.*--text-encoder"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "T5"),
        ("emb_params", "embedding.*--embedding"),
        ("clip_g", "embedding"),
        ("body.0.rdb1.conv1.weight", "ESRGAN"),
    ],
)
def test_a_file_of_something_else_is_named(key: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: torch.zeros(2, 2)}, file)
    with pytest.raises(SourceError, match=says):
        SingleFile(file)


def test_unclip_is_told_by_what_its_unet_is_told() -> None:
    state = {
        "model.diffusion_model.label_emb.0.0.weight": torch.zeros(2),
        "cond_stage_model.model.ln_final.weight": torch.zeros(2),
    }
    assert "unCLIP" in str(strangers.named(state, whole=True))
    assert strangers.named({"model.diffusion_model.x": torch.zeros(2)}, whole=True) is None
