"""Names of layers in the files of many tools, files of torch, and words that come with a LoRA."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
from pleinair.runtime.adapters import fitting, lora, naming
from pleinair.runtime.errors import AdapterError

torch = pytest.importorskip("torch")

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
COMPVIS = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
Q_PROJ = "encoder.layers.3.self_attn.q_proj"
FLAT, FLAT_CLIP = TO_Q.replace(".", "_"), Q_PROJ.replace(".", "_")
SHAPES = {
    "unet": {
        "down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
        "down_blocks.0.resnets.1.conv1.weight": (8, 8, 3, 3),
        f"{TO_Q}.weight": (8, 6),
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight": (8, 6),
    },
    "text_encoder": {f"{Q_PROJ}.weight": (8, 6)},
    "text_encoder_2": {f"{Q_PROJ}.weight": (8, 6)},
}
PAIR = {"A": np.ones((2, 6), "f4"), "B": np.ones((8, 2), "f4")}

# How a file calls the two factors of one layer, by tool; the layer and the part that are meant.
UNET = {
    "kohya": f"lora_unet_{FLAT}.lora_{{kohya}}.weight",
    "kohya, CompVis's names": f"lora_unet_{COMPVIS.replace('.', '_')}.lora_{{kohya}}.weight",
    "LyCORIS": f"lycoris_{FLAT}.lora_{{kohya}}.weight",
    "PEFT": f"base_model.model.{TO_Q}.lora_{{peft}}.weight",
    "PEFT, unsaved": f"base_model.model.{TO_Q}.lora_{{peft}}.default.weight",
    "diffusers": f"unet.{TO_Q}.lora_{{peft}}.weight",
    "diffusers of PEFT": f"unet.base_model.model.{TO_Q}.lora_{{peft}}.weight",
    "diffusers, processors": (
        f"unet.{TO_Q.replace('attn1', 'attn1.processor')}_lora.{{kohya}}.weight"
    ),
    "diffusers, layers": f"unet.{TO_Q}.lora.{{kohya}}.weight",
    "ComfyUI": f"diffusion_model.{TO_Q}.lora_{{kohya}}.weight",
    "ComfyUI, CompVis's names": f"diffusion_model.{COMPVIS}.lora_{{peft}}.weight",
    "compiled": f"_orig_mod.{TO_Q}.lora_{{peft}}.weight",
    "bare": f"{TO_Q}.lora_{{peft}}.weight",
}
CLIP = {
    "kohya": f"lora_te_text_model_{FLAT_CLIP}.lora_{{kohya}}.weight",
    "kohya, XL": f"lora_te1_text_model_{FLAT_CLIP}.lora_{{kohya}}.weight",
    "diffusers": f"text_encoder.text_model.{Q_PROJ}.lora_{{peft}}.weight",
    "diffusers, layers": f"text_encoder.text_model.{Q_PROJ}.lora_linear_layer.{{kohya}}.weight",
    "ComfyUI": f"text_encoders.clip_l.transformer.text_model.{Q_PROJ}.lora_{{peft}}.weight",
    "PEFT": f"base_model.model.text_model.{Q_PROJ}.lora_{{peft}}.weight",
    "LyCORIS": f"lycoris_text_model_{FLAT_CLIP}.lora_{{kohya}}.weight",
}
CLIP_2 = {
    "kohya": f"lora_te2_text_model_{FLAT_CLIP}.lora_{{kohya}}.weight",
    "diffusers": f"text_encoder_2.text_model.{Q_PROJ}.lora_{{peft}}.weight",
    "ComfyUI": f"text_encoders.clip_g.transformer.text_model.{Q_PROJ}.lora_{{peft}}.weight",
}
LAYOUTS = [
    pytest.param(part, parameter, template, id=f"{part}, {tool}")
    for part, parameter, templates in (
        ("unet", f"{TO_Q}.weight", UNET),
        ("text_encoder", f"{Q_PROJ}.weight", CLIP),
        ("text_encoder_2", f"{Q_PROJ}.weight", CLIP_2),
    )
    for tool, template in templates.items()
]


def factors(template: str) -> dict[str, np.ndarray]:
    kohya = {"A": "down", "B": "up"}
    return {template.format(kohya=kohya[s], peft=s): one.copy() for s, one in PAIR.items()}


@pytest.mark.parametrize(("part", "parameter", "template"), LAYOUTS)
def test_every_tool_means_the_same_layer(
    part: str, parameter: str, template: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = loras.save(tmp_path / "x.safetensors", factors(template))
    changes = fitting.changes([lora.read(file)], SHAPES)
    assert {part: list(of) for part, of in changes.items()} == {part: [parameter]}
    np.testing.assert_array_equal(changes[part][parameter](np.zeros((8, 6), "f4")), 2)
    assert not caplog.records


def test_the_last_projection_of_attention_has_two_names() -> None:
    start = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out"
    for key in (f"lora_unet_{start}_0.alpha", f"unet.{start}.lora.down.weight"):
        target = naming.target(key)
        assert target is not None
        assert target.layer == f"{start}_0"


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.ckpt", "a.pth", "A.SAFETENSORS"])
@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
)
def test_files_of_torch_and_every_number_type(name: str, dtype: str, tmp_path: Path) -> None:
    """Told by content: a `.pt` may also be a safetensors file, as some sites rename them."""
    from safetensors.torch import save_file

    down = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    up = torch.ones(8, 2).to(down.dtype)
    keys = f"lora_unet_{FLAT}.lora_down.weight", f"lora_unet_{FLAT}.lora_up.weight"
    state = dict(zip(keys, (down, up), strict=True))
    if "SAFE" in name:
        save_file(state, tmp_path / name)
    elif name == "a.ckpt":
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / name)
    else:
        torch.save({**state, f"lora_unet_{FLAT}.alpha": 2.0}, tmp_path / name)
    (layer,) = lora.read(tmp_path / name).layers["unet"].values()
    np.testing.assert_array_equal(layer.factors["down"].astype("f8"), down.double().numpy())
    save_file(state, tmp_path / "renamed.pt")
    assert lora.read(tmp_path / "renamed.pt").layers["unet"]


def test_files_without_names_say_so(tmp_path: Path) -> None:
    """The very first LoRA files are a list of matrices in the order of diffusers' modules then."""
    torch.save([torch.ones(8, 2), torch.ones(2, 6)], tmp_path / "first.pt")
    with pytest.raises(AdapterError, match=r"first\.pt.*no tensors by name"):
        lora.read(tmp_path / "first.pt")


WRONG = {
    "page.safetensors": (b"<!DOCTYPE html><html>", "page of the web"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "picture.pt": (b"\x89PNG\r\n\x1a\n", "pictures are not read"),
    "picture.webp": (b"RIFF\0\0\0\0WEBP", "pictures are not read"),
    "old.pt": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "torch writes since 1.6"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_adapter_is_named(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content)
    for read in (lora.read, lora.opened):
        with pytest.raises(AdapterError, match=message) as error:
            read(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(AdapterError, match="not a regular file"):
        lora.read(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_name_the_file(value: float, tmp_path: Path) -> None:
    tensors = factors(UNET["kohya"])
    next(iter(tensors.values()))[0, 0] = value
    file = loras.save(tmp_path / "diverged.safetensors", tensors)
    with pytest.raises(AdapterError, match=r"diverged\.safetensors.*lora_down.*no numbers"):
        lora.read(file)


def test_words_come_with_a_lora(tmp_path: Path) -> None:
    """webui's bundle_emb: of one text encoder, and of XL's two."""
    random = np.random.default_rng(0)
    one, left, right = (random.normal(size=(2, n)).astype("f4") for n in (8, 8, 12))
    bundle = {
        "bundle_emb.sks.string_to_param.*": one,
        "bundle_emb.two.clip_l": left,
        "bundle_emb.two.clip_g": right,
    }
    file = loras.save(tmp_path / "b.safetensors", factors(UNET["kohya"]) | bundle)
    words = {item.word: item.vectors for item in lora.read(file).embeddings}
    assert words.keys() == {"sks", "two"}
    np.testing.assert_array_equal(words["sks"]["text_encoder"], one)
    np.testing.assert_array_equal(words["two"]["text_encoder_2"], right)
    assert lora.read(file).unused == ()
    with pytest.raises(AdapterError, match=r"broken\.safetensors.*no vectors"):
        lora.read(
            loras.save(tmp_path / "broken.safetensors", {"bundle_emb.x.y": np.ones((1, 1, 1))})
        )


# PEFT's configuration.


def scale(tmp_path: Path, config: Mapping[str, Any], part: str = "unet") -> float:
    from safetensors.numpy import save_file

    text = json.dumps({f"{part}.{key}": value for key, value in config.items()})
    file = tmp_path / "p.safetensors"
    save_file(factors(UNET["diffusers"]), file, {"lora_adapter_metadata": text})
    (layer,) = lora.read(file).layers["unet"].values()
    return layer.scale


def test_scales_of_peft(tmp_path: Path) -> None:
    assert scale(tmp_path, {"r": 2, "lora_alpha": 3}) == 1.5
    assert scale(tmp_path, {"r": 2, "lora_alpha": 3, "use_rslora": True}) == pytest.approx(
        3 / 2**0.5
    )
    assert scale(tmp_path, {"lora_alpha": 3, "alpha_pattern": {"attn1.to_q": 5}}) == 2.5
    assert scale(tmp_path, {"lora_alpha": 3}, "text_encoder") == 1.0  # of another part


BAD = {
    "no number": {"lora_alpha": "five"},
    "a rank of nothing": {"r": 0},
    "far": {"lora_alpha": 1e30},
    "a list": {"alpha_pattern": [1]},
    "an expression": {"alpha_pattern": {"^attn.*": 1}},
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_configurations_are_one_line(case: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"p\.safetensors: its lora_adapter_metadata"):
        scale(tmp_path, BAD[case])


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "[]", "", '{"r": NaN}'])
def test_damaged_configurations_beside_a_file(text: str, tmp_path: Path) -> None:
    file = loras.save(tmp_path / "adapter_model.safetensors", factors(UNET["PEFT"]))
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        lora.read(file)
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 8}', encoding="utf-8")
    (layer,) = lora.read(file).layers["unet"].values()
    assert layer.scale == 4
