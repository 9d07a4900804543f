"""A ControlNet's checkpoint becomes a folder of its own, checked as a whole model's is."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from checkpoints import tiny_controlnet
from pleinair.export import export_model
from pleinair.runtime.errors import ExportError, SourceError
from pleinair.runtime.hub import selection
from pleinair.runtime.model.controlnet import ControlNet


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_controlnet(tmp_path / "tiny-control")


def test_the_folder(checkpoint: Path, tmp_path: Path, traced_once: None) -> None:
    """Both formats, half precision; ends by diffusers' names; then again in its place."""
    import openvino

    stages: list[tuple[str, float]] = []
    folder = export_model(
        checkpoint,
        tmp_path / "out" / "control",
        formats=["openvino", "onnx"],
        on_progress=lambda stage, share: stages.append((stage, share)),
    )
    graphs = {"model.onnx", "openvino_model.xml", "openvino_model.bin"}
    assert {path.name for path in folder.iterdir()} == {"config.json", "pleinair.json", *graphs}
    manifest = json.loads((folder / "pleinair.json").read_text())
    assert manifest["source"] == {"kind": "folder", "name": "tiny-control"}
    assert manifest["files"].keys() == {"config.json", *graphs}
    measured = manifest["parity"]["controlnet"]
    assert measured.keys() == {"openvino", "onnx", "rounding"}
    assert 0 < measured["openvino"]["max_rel"] < 1e-4
    assert 1e-5 < measured["rounding"]["max_rel"] < 5e-3
    model = openvino.Core().read_model(folder / "openvino_model.xml")
    inputs = ["sample", "timestep", "encoder_hidden_states", "controlnet_cond"]
    outputs = [*(f"down_block_res_samples.{i}" for i in range(6)), "mid_block_res_sample"]
    assert [port.any_name for port in model.inputs] == inputs
    assert [port.any_name for port in model.outputs] == outputs
    assert ControlNet.open(folder).graphs.keys() == {"openvino", "onnx"}
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    with pytest.raises(ExportError, match="exists"):
        export_model(checkpoint, folder)
    export_model(checkpoint, folder, overwrite=True)
    assert not (folder / "model.onnx").exists()


def change_weights(checkpoint: Path, edit: Any) -> None:
    file = checkpoint / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    edit(state)
    save_file(state, file)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("controlnet_mid_block.bias"), r"lacks 1 weight: controlnet_mid_block\.bi"),
        (lambda s: s.update(extra=s["conv_in.bias"].clone()), "has 1 weight: extra"),
        (
            lambda s: s.update({"conv_in.bias": s["conv_in.bias"][:3].clone()}),
            r"conv_in\.bias \(3,\) instead of \(32,\)",
        ),
    ],
    ids=["missing", "unexpected", "misshapen"],
)
def test_weights_that_do_not_fit(checkpoint: Path, tmp_path: Path, edit: Any, message: str) -> None:
    change_weights(checkpoint, edit)
    with pytest.raises(SourceError, match=message):
        export_model(checkpoint, tmp_path / "out" / "control")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"addition_embed_type": "text_time"}, "addition_embed_type is of no Stable Diffusion 1"),
        ({"conditioning_channels": 1}, "pictures of 1 channels"),
        ({"_class_name": "T2IAdapter"}, "a T2IAdapter by itself"),
        ({"block_out_channels": [32]}, "describes no working model"),
    ],
    ids=str,
)
def test_other_kinds(
    checkpoint: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | values))
    with pytest.raises(SourceError, match=message):
        export_model(checkpoint, tmp_path / "out" / "control")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_lora_has_no_place(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="takes no LoRA"):
        export_model(checkpoint, tmp_path / "out", loras=["some.safetensors"])


def test_what_is_fetched_of_a_repository() -> None:
    """The weights of the ControlNet once; nothing of a repository that only looks like one."""
    weights = [f"diffusion_pytorch_model{end}" for end in (".bin", ".safetensors")]
    weights.append("diffusion_pytorch_model.fp16.safetensors")
    files = ["config.json", "README.md", "images/bird.png", "control_canny.pth", *weights]
    assert selection.checkpoint(files, "a/b", {}) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    with pytest.raises(SourceError, match="no model_index"):
        selection.checkpoint(["config.json", "model.safetensors"], "a/language-model", {})
