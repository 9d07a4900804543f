"""A tiny checkpoint goes through the whole export, in both formats and precisions."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

import traces
from checkpoints import tiny_unet
from pleinair.export import export_model, onnx_file, onnx_model, openvino_ir, parity, weights
from pleinair.export import folder as publishing
from pleinair.export.graphs.graph import Graph
from pleinair.export.graphs.unet import unet as unet_graph
from pleinair.export.graphs.vae import VaeDecoder, vae_decoder
from pleinair.runtime.errors import ExportError, SourceError

_GRAPHS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")


@pytest.fixture(scope="module")
def exported_half(
    tiny_checkpoint: Path, made: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[str, float]]]:
    """Both formats with float16 weights in one folder, and the progress that was reported."""
    target = tmp_path_factory.mktemp("half") / "tiny"
    stages: list[tuple[str, float]] = []
    with traces.shared(made):
        export_model(
            tiny_checkpoint,
            target,
            formats=["onnx", "openvino"],
            on_progress=lambda stage, share: stages.append((stage, share)),
        )
    return target, stages


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> object:
    """diffusers' own reading of the checkpoint, to compare with."""
    return StableDiffusionPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)


def test_the_layout(exported_half: tuple[Path, object]) -> None:
    folder, _ = exported_half
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tokenizer = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
    tokenizer |= {"special_tokens_map.json", "openvino_tokenizer.xml", "openvino_tokenizer.bin"}
    tokenizer |= {"openvino_detokenizer.xml", "openvino_detokenizer.bin"}
    graph = {"config.json", "openvino_model.xml", "openvino_model.bin", "model.onnx"}
    assert files == (
        {"model_index.json", "pleinair.json", "scheduler/scheduler_config.json"}
        | {f"tokenizer/{name}" for name in tokenizer}
        | {f"{part}/{name}" for part in _GRAPHS for name in graph}
    )


def test_the_manifest(exported_half: tuple[Path, object], tiny_checkpoint: Path) -> None:
    folder, _ = exported_half
    text = (folder / "pleinair.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert manifest["format_version"] == 1
    assert manifest["source"] == {"kind": "folder", "name": tiny_checkpoint.name}
    assert manifest["formats"] == ["openvino", "onnx"]
    assert manifest["precision"] == "fp16"
    assert {"pleinair", "torch", "diffusers", "openvino"} <= manifest["created_by"].keys()
    on_disk = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    del on_disk["pleinair.json"]
    assert manifest["files"].keys() == on_disk.keys()
    for name, path in on_disk.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert manifest["files"][name] == {"bytes": path.stat().st_size, "sha256": digest}
    for part in _GRAPHS:
        for form in ("openvino", "onnx"):
            measured = manifest["parity"][part][form]
            assert 1e-8 < measured["max_rel"] < measured["tolerance"] == 1e-4
            assert len(measured["shapes"]) == 3
        # What float16 costs is measured apart, and is far above the engines' own error.
        assert 1e-5 < manifest["parity"][part]["rounding"]["max_rel"] < 5e-3


def test_no_path_of_this_machine_is_published(
    exported_half: tuple[Path, object], tiny_checkpoint: Path
) -> None:
    folder, _ = exported_half
    libraries = Path(torch.__file__).parents[1]
    foreign = [str(path) for path in (tiny_checkpoint.parent, folder.parent, libraries)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 4 * len(_GRAPHS)
    for path in files:
        content = path.read_bytes()
        assert not any(text.encode() in content for text in foreign), path


def test_progress_rises_to_the_end(exported_half: tuple[Path, list[tuple[str, float]]]) -> None:
    _, stages = exported_half
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    names = [stage for stage, _ in stages]
    assert {"running unet", "tracing unet for onnx", "checking unet in openvino"} <= set(names)


def test_half_precision_halves_the_files(
    exported_half: tuple[Path, object], exported_openvino: Path, exported_onnx: Path
) -> None:
    half, _ = exported_half
    for name, whole in (("openvino_model.bin", exported_openvino), ("model.onnx", exported_onnx)):
        ratio = (half / "unet" / name).stat().st_size / (whole / "unet" / name).stat().st_size
        assert 0.49 < ratio < 0.62, name


def test_half_precision_computes_in_float32(exported_half: tuple[Path, object]) -> None:
    """Inputs, outputs and every operation stay float32: only the stored weights are float16."""
    folder, _ = exported_half
    model = onnx.load(folder / "unet" / "model.onnx")
    assert {w.data_type for w in model.graph.initializer if np.prod(w.dims) < 4096} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }
    halves = {w.name for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT16}
    readers = {n.op_type for n in model.graph.node if halves & set(n.input)}
    assert halves
    assert readers == {"Cast"}
    graph = openvino.Core().read_model(folder / "unet" / "openvino_model.xml")
    assert {port.element_type for port in graph.outputs} == {openvino.Type.f32}


def _run(
    folder: Path, graph: str, cases: list[dict[str, torch.Tensor]]
) -> Iterator[dict[str, np.ndarray]]:
    """Run one graph of a folder, compiled once, on the engine whose files it has."""
    backend = onnx_model if (folder / graph / "model.onnx").exists() else openvino_ir
    return backend.run(folder / graph, cases)


@pytest.fixture(params=["openvino", "onnx"])
def exported(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"exported_{request.param}")


def test_the_unet_takes_any_size(exported: Path, pipeline: object) -> None:
    """Sizes that the exporter's own check does not use: odd, tall, tiny; short and long prompts."""
    sizes = [
        ((1, 8, 8), 77, 1),
        ((2, 7, 10), 154, 999),
        ((4, 11, 5), 20, 333),
        ((1, 24, 17), 231, 0),
    ]
    cases = [
        {
            "sample": torch.randn(batch, 4, height, width),
            "timestep": torch.full((batch,), timestep),
            "encoder_hidden_states": torch.randn(batch, tokens, 128),
        }
        for (batch, height, width), tokens, timestep in sizes
    ]
    for inputs, found in zip(cases, _run(exported, "unet", cases), strict=True):
        with torch.no_grad():
            expected = pipeline.unet(**inputs).sample.numpy()  # type: ignore[attr-defined]
        np.testing.assert_allclose(found["out_sample"], expected, atol=1e-5)


def test_one_timestep_serves_a_batch(exported_openvino: Path, pipeline: object) -> None:
    """openvino-genai passes one timestep for both halves of the guided batch."""
    sample, states = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 128)
    with torch.no_grad():
        expected = pipeline.unet(sample, 7, states).sample.numpy()  # type: ignore[attr-defined]
    inputs = {"sample": sample, "timestep": torch.tensor([7]), "encoder_hidden_states": states}
    (found,) = _run(exported_openvino, "unet", [inputs])
    np.testing.assert_allclose(found["out_sample"], expected, atol=1e-5)


def test_the_vae_takes_any_size(exported: Path, pipeline: object) -> None:
    sizes = [(1, 8, 8), (2, 7, 10), (1, 5, 24)]
    latents = [torch.randn(batch, 4, height, width) for batch, height, width in sizes]
    pictures = [torch.rand(batch, 3, 8 * high, 8 * wide) * 2 - 1 for batch, high, wide in sizes]
    vae = pipeline.vae  # type: ignore[attr-defined]
    decoded = _run(exported, "vae_decoder", [{"latent_sample": one} for one in latents])
    encoded = _run(exported, "vae_encoder", [{"sample": one} for one in pictures])
    with torch.no_grad():
        for one, found in zip(latents, decoded, strict=True):
            np.testing.assert_allclose(found["sample"], vae.decode(one).sample, atol=5e-5)
        for one, found in zip(pictures, encoded, strict=True):
            moments = vae.encode(one).latent_dist.parameters
            np.testing.assert_allclose(found["latent_parameters"], moments, atol=2e-5)


def test_the_text_encoder_gives_every_layer(exported: Path, pipeline: object) -> None:
    """`clip_skip.k` is what diffusers feeds to the UNet for clip_skip=k."""
    prompts = ["a red apple", "a photo of a cat on a boat"]
    ids = pipeline.tokenizer(  # type: ignore[attr-defined]
        prompts, padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    (found,) = _run(exported, "text_encoder", [{"input_ids": ids}])
    with torch.no_grad():
        expected = pipeline.text_encoder(ids, output_hidden_states=True)  # type: ignore[attr-defined]
        close = {"atol": 1e-5, "rtol": 1e-5}
        np.testing.assert_allclose(found["last_hidden_state"], expected[0], **close)
        np.testing.assert_allclose(found["pooler_output"], expected.pooler_output, **close)
        for i, state in enumerate(expected.hidden_states):
            np.testing.assert_allclose(found[f"hidden_states.{i}"], state, **close)
        # As in StableDiffusionPipeline.encode_prompt, which itself stumbles over transformers 5.6.
        text_model = pipeline.text_encoder  # type: ignore[attr-defined]
        norm = getattr(text_model, "text_model", text_model).final_layer_norm
        for skip in (1, 2):
            embeds = norm(expected.hidden_states[-(skip + 1)])
            np.testing.assert_allclose(found[f"clip_skip.{skip}"], embeds, **close)
    assert "clip_skip.3" not in found


def test_ends_have_the_names_and_types_of_optimum(
    exported_openvino: Path, exported_onnx: Path
) -> None:
    read = openvino.Core().read_model
    unet = read(exported_openvino / "unet" / "openvino_model.xml")
    text_encoder = read(exported_openvino / "text_encoder" / "openvino_model.xml")
    assert {p.any_name: str(p.partial_shape) for p in unet.inputs} == {
        "sample": "[?,4,?,?]",
        "timestep": "[?]",
        "encoder_hidden_states": "[?,?,128]",
    }
    assert unet.input("timestep").element_type == openvino.Type.i64
    assert text_encoder.input("input_ids").element_type == openvino.Type.i64
    assert [p.any_name for p in text_encoder.outputs][:2] == [
        "last_hidden_state",
        "pooler_output",
    ]
    timestep = onnx.load(exported_onnx / "unet" / "model.onnx").graph.input[1]
    assert timestep.name == "timestep"
    assert timestep.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert list(timestep.type.tensor_type.shape.dim) == []


@pytest.mark.parametrize("backend", [openvino_ir, onnx_model])
def test_a_unet_distilled_with_its_guidance(tmp_path: Path, backend: object) -> None:
    """Latent consistency models take the guidance scale as one more input."""
    one_level = {
        "norm_num_groups": 8,  # groups of one channel would norm the condition away
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
    }
    unet = tiny_unet(time_cond_proj_dim=16, **one_level).eval()
    graph = unet_graph(unet)
    assert list(graph.inputs)[-1] == "timestep_cond"
    backend.write(graph, tmp_path, half=False)  # type: ignore[attr-defined]
    trials = parity.reference(graph)
    found = list(backend.run(tmp_path, trials.inputs))  # type: ignore[attr-defined]
    parity.compare(trials, found, "lcm")
    changed = [inputs | {"timestep_cond": inputs["timestep_cond"] + 1} for inputs in trials.inputs]
    other = list(backend.run(tmp_path, changed))  # type: ignore[attr-defined]
    assert np.abs(other[0]["out_sample"] - found[0]["out_sample"]).max() > 1e-3


def test_large_weights_are_one_file_beside(
    exported_onnx: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_file, "INLINE_LIMIT", 500_000)
    graph = vae_decoder(AutoencoderKL.from_pretrained(tiny_checkpoint / "vae").eval())
    onnx_model.write(graph, tmp_path, half=False)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx_data"}
    assert (tmp_path / "model.onnx").stat().st_size < 200_000
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1, "who may read one may read the other"
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # onnx alone would make the data file its owner's secret
    latents = torch.randn(1, 4, 8, 8)
    found = next(onnx_model.run(tmp_path, [{"latent_sample": latents}]))["sample"]
    (inline,) = _run(exported_onnx, "vae_decoder", [{"latent_sample": latents}])
    # ONNX Runtime fuses what is inline.
    np.testing.assert_allclose(found, inline["sample"], atol=2e-5)


class _FrozenScale(VaeDecoder):
    """A module that tracing gets wrong: a Python number taken from the input is frozen."""

    def forward(self, latent_sample: torch.Tensor) -> tuple[torch.Tensor]:
        scale = float(latent_sample.flatten()[0])
        return (self.vae.decode(latent_sample, return_dict=False)[0] * scale,)


class _FrozenShape(VaeDecoder):
    def forward(self, latent_sample: torch.Tensor) -> tuple[torch.Tensor]:
        sample = self.vae.decode(latent_sample, return_dict=False)[0]
        return (sample[..., : int(latent_sample.shape[-1]) - 1],)


@pytest.mark.parametrize("backend", [openvino_ir, onnx_model])
@pytest.mark.parametrize("wrong", [_FrozenScale, _FrozenShape])
def test_a_wrong_trace_is_found(tmp_path: Path, backend: object, wrong: type[VaeDecoder]) -> None:
    right = vae_decoder(AutoencoderKL(block_out_channels=(32,)))
    graph = Graph(
        right.name, wrong(right.module.vae).eval(), right.inputs, right.outputs, right.cases
    )
    trials = parity.reference(graph)
    backend.write(graph, tmp_path, half=False)  # type: ignore[attr-defined]
    found = backend.run(tmp_path, trials.inputs)  # type: ignore[attr-defined]
    with pytest.raises(ExportError, match="tiny/vae_decoder: output sample is"):
        parity.compare(trials, found, "tiny/vae_decoder")


def test_over_tolerance_nothing_is_published(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed(folder: Path, cases: list) -> Iterator[dict[str, np.ndarray]]:
        for outputs in real(folder, cases):
            outputs["last_hidden_state"][..., 0] += 0.01
            yield outputs

    real = openvino_ir.run
    monkeypatch.setattr(openvino_ir, "run", disturbed)
    with pytest.raises(ExportError, match=r"text_encoder \(openvino\): output last_hidden_state"):
        export_model(tiny_checkpoint, tmp_path / "tiny", precision="fp32")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_publishes_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """test_weights.py has the other kinds of damage."""
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "damaged")
    file = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    del state["conv_in.bias"]
    save_file(state, file)
    with pytest.raises(SourceError, match=r"damaged/unet lacks 1 weight: conv_in\.bias"):
        export_model(checkpoint, tmp_path / "out" / "tiny")
    assert list((tmp_path / "out").iterdir()) == []


def test_disk_space_is_checked_before_anything_is_made(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def full(target: Path, needed: int) -> None:
        asked.append(needed)
        raise ExportError("full")

    monkeypatch.setattr(publishing, "require_space", full)
    monkeypatch.setattr(weights, "load", None)  # reaching it would be another error
    with pytest.raises(ExportError, match="full"):
        export_model(tiny_checkpoint, tmp_path / "tiny", formats=["openvino", "onnx"])
    sizes = [path.stat().st_size for path in tiny_checkpoint.rglob("*.safetensors")]
    # The checkpoint is float32, and float16 twice comes to the same; the UNet passes through once.
    assert sum(sizes) + max(sizes) <= asked[0] <= sum(sizes) * 1.1 + max(sizes) + 20e6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["tflite"]}, "formats are openvino and onnx"),
        ({"formats": []}, "formats are openvino and onnx"),
        ({"precision": "int3"}, "precision 'int3'"),
    ],
)
def test_unknown_wishes(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_model(tmp_path, tmp_path / "out", **arguments)


def test_another_pipeline_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    index = json.loads((checkpoint / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (checkpoint / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match="with text_encoder_2 cannot be exported"):
        export_model(checkpoint, tmp_path / "out")


def test_a_checkpoint_is_never_replaced_by_its_export(tiny_checkpoint: Path) -> None:
    with pytest.raises(ExportError, match="the checkpoint itself"):
        export_model(tiny_checkpoint, tiny_checkpoint, overwrite=True)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a diffusers folder"):
        export_model(tmp_path / "nowhere", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
