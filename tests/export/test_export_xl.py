"""A tiny Stable Diffusion XL is exported with optimum's ends, and openvino-genai paints with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from safetensors.torch import load_file, save_file

import traces
from checkpoints_xl import tiny_stable_diffusion_xl
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub import selection


@pytest.fixture(scope="module")
def checkpoint(made: Any) -> Path:
    return made("checkpoint/tiny-xl", tiny_stable_diffusion_xl)


@pytest.fixture(scope="module")
def folder(checkpoint: Path, made: Any) -> Path:
    """With float16 weights, as they come by default."""

    def export(target: Path) -> None:
        with traces.shared(made):
            export_model(checkpoint, target, formats=["openvino", "onnx"])

    return made("exported/half/tiny-xl", export)


def test_the_ends_are_optimums(folder: Path) -> None:
    states = {"last_hidden_state", *(f"hidden_states.{i}" for i in range(5))}
    ends = {
        "text_encoder_2": ({"input_ids": 2}, {"text_embeds", *states}),
        "unet": (
            {"sample": 4, "timestep": 1, "encoder_hidden_states": 3, "text_embeds": 2}
            | {"time_ids": 2},
            {"out_sample"},
        ),
    }
    for part, (inputs, outputs) in ends.items():
        model = openvino.Core().read_model(folder / part / "openvino_model.xml")
        assert {port.any_name: len(port.partial_shape) for port in model.inputs} == inputs
        assert {port.any_name for port in model.outputs} == outputs
        graph = onnx.load(folder / part / "model.onnx").graph
        assert {value.name for value in graph.input} == set(inputs)
        assert {value.name for value in graph.output} == outputs
    unet = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    assert (unet["text_encoder_projection_dim"], unet["requires_aesthetics_score"]) == (48, False)


def test_every_graph_is_compared_with_its_module(folder: Path) -> None:
    manifest = json.loads((folder / "pleinair.json").read_text(encoding="utf-8"))
    encoders = {"text_encoder", "text_encoder_2"}
    assert manifest["parity"].keys() == encoders | {"unet", "vae_decoder", "vae_encoder"}
    for graph in manifest["parity"].values():
        assert max(graph[form]["max_rel"] for form in ("openvino", "onnx")) < 1e-4


def test_the_runtime_paints_with_half_precision(folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine="openvino", device="cpu", profile="exact"
    )
    out = pipe("a cat", "a dog", seed=1, num_inference_steps=2, guidance_scale=5)
    assert out.images[0].size == (64, 64)
    assert np.asarray(out.images[0]).std() > 5


def test_openvino_genai_paints_with_it(folder: Path) -> None:
    openvino_genai = pytest.importorskip("openvino_genai", reason="needs openvino-genai")
    pipeline = openvino_genai.Text2ImagePipeline(str(folder), "CPU")

    def paint(prompt: str) -> np.ndarray:
        size = {"width": 64, "height": 64}
        made = pipeline.generate(prompt, **size, num_inference_steps=2, rng_seed=3)
        return np.array(made.data)[0]

    apple = paint("a red apple")
    assert apple.shape == (64, 64, 3)
    assert apple.std() > 5, "not one flat colour"
    assert (apple != paint("a blue boat")).any()


def test_a_missing_weight_of_the_second_encoder_is_named(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    file = copy / "text_encoder_2" / "model.safetensors"
    weights = load_file(file)
    del weights["text_projection.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"lacks 1 weight: text_projection\.weight"):
        export_model(copy, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_hub_is_asked_for_both_encoders(checkpoint: Path) -> None:
    paths = [path for path in checkpoint.rglob("*") if path.is_file()]
    files = [path.relative_to(checkpoint).as_posix() for path in paths]
    index = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
    chosen = selection.checkpoint([*files, "unet/openvino_model.bin"], "someone/xl", index)
    assert {"text_encoder_2/config.json", "text_encoder_2/model.safetensors"} <= set(chosen)
    assert "tokenizer_2/vocab.json" in chosen
    assert "unet/openvino_model.bin" not in chosen
    refiner = [name for name in files if not name.startswith("text_encoder/")]
    absent = {"text_encoder": [None, None], "tokenizer": [None, None]}
    chosen = selection.checkpoint(refiner, "someone/refiner", index | absent)
    assert "unet/config.json" in chosen
