"""The choice of an engine and device, and what engines say of graphs they cannot run."""

import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvino_core import Call
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines import cores
from pleinair.runtime.engines.choice import choose
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import EngineError, SettingError, to_install
from pleinair.runtime.model.bundle import Bundle


@pytest.fixture(scope="module")
def both(
    exported_openvino: Path, exported_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the graphs of both formats."""
    folder = shutil.copytree(exported_openvino, tmp_path_factory.mktemp("both") / "model")
    (folder / "pleinair.json").unlink()
    for graph in exported_onnx.glob("*/model.onnx*"):
        shutil.copy(graph, folder / graph.parent.name)
    return folder


class FakeSession:
    """An ONNX Runtime session on the provider of the test's choice."""

    provider = "CUDAExecutionProvider"

    def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
        assert providers[0][0] == "CUDAExecutionProvider"

    def get_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]

    def get_inputs(self) -> list[Any]:
        return []

    def get_outputs(self) -> list[Any]:
        return []

    def io_binding(self) -> None: ...


def pretend_cuda(monkeypatch: pytest.MonkeyPatch, opens_on: str) -> None:
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    session = type("Session", (FakeSession,), {"provider": opens_on})
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)


def test_auto_takes_cuda_when_a_session_opens(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cuda(monkeypatch, "CUDAExecutionProvider")
    engine = choose(Bundle.open(both).graphs)
    assert (engine.name, engine.device) == ("onnxruntime", "CUDA")


@pytest.mark.parametrize(("threads", "session_threads"), [(4, 2), (None, 1), (2, 1)])
def test_the_cpu_in_cuda_s_place_has_its_streams_and_threads(
    both: Path, threads: int | None, session_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a container that is granted two CPUs; the GPU may have more streams."""
    pretend_cuda(monkeypatch, "CUDAExecutionProvider")
    monkeypatch.setattr(cores, "granted", lambda: 2)
    engine: Any = choose(Bundle.open(both).graphs, threads=threads, streams=3)
    assert (engine.second.device, engine.second.streams) == ("CPU", 3)
    assert engine.second.session_threads == session_threads


def test_auto_falls_back_when_cuda_is_there_in_name_only(
    both: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend_cuda(monkeypatch, "CPUExecutionProvider")
    with caplog.at_level(logging.INFO, logger="pleinair"):
        engine = choose(Bundle.open(both).graphs)
    assert (engine.name, engine.device) == ("openvino", "CPU")
    assert [record.message for record in caplog.records] == [
        "painting on the CPU: CUDAExecutionProvider is installed but does not start; "
        "its CUDA and cuDNN libraries or the driver are missing"
    ]


def test_auto_says_when_the_folder_has_no_graphs_for_cuda(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend_cuda(monkeypatch, "CUDAExecutionProvider")
    with caplog.at_level(logging.INFO, logger="pleinair"):
        assert choose(Bundle.open(exported_openvino).graphs).name == "openvino"
    assert "has no ONNX graphs for CUDA" in caplog.records[0].message


def test_asked_for_cuda_is_never_the_cpu(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_cuda(monkeypatch, "CPUExecutionProvider")
    engine = choose(Bundle.open(both).graphs, device="cuda")
    with pytest.raises(EngineError, match="does not start"):
        engine.compile(both / "unet" / "model.onnx", {})


def test_onnx_runtime_where_it_is_not_installed(
    both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=re.escape(to_install("onnx"))):
        choose(Bundle.open(both).graphs, engine="onnxruntime")


def test_unknown_engines_and_devices(both: Path) -> None:
    graphs = Bundle.open(both).graphs
    with pytest.raises(SettingError, match="tensorrt"):
        choose(graphs, engine="tensorrt")
    with pytest.raises(EngineError, match="CPU"):
        choose(graphs, engine="openvino", device="npu:7")
    with pytest.raises(EngineError, match="tpu"):
        choose(graphs, engine="onnxruntime", device="tpu")


def test_openvino_opens_onnx_folders_too(exported_onnx: Path) -> None:
    arguments = {"seed": 1, "num_inference_steps": 2, "width": 64, "height": 64}
    pipes = [
        StableDiffusionPipeline.from_pretrained(exported_onnx, engine=engine, profile="exact")
        for engine in ("openvino", "onnxruntime")
    ]
    one, other = (np.asarray(pipe("boat", **arguments).images[0], int) for pipe in pipes)
    assert np.abs(one - other).max() <= 1


def test_threads_cache_and_precision_reach_openvino(
    exported_openvino: Path, tmp_path: Path, core_calls: list[Call]
) -> None:
    engine = OpenVinoEngine("cpu", threads=1, cache_dir=tmp_path, precision="f32")
    path = exported_openvino / "vae_decoder" / "openvino_model.xml"
    engine.compile(path, {"latent_sample": (1, 4, 8, 8)})
    [compiled] = [call.compiled for call in core_calls]
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert list(tmp_path.glob("*.blob"))


def test_shapes_are_static(exported_openvino: Path, core_calls: list[Call]) -> None:
    path = exported_openvino / "unet" / "openvino_model.xml"
    width = json.loads((path.parent / "config.json").read_text())["cross_attention_dim"]
    OpenVinoEngine().compile(
        path, {"sample": (1, 4, 9, 13), "encoder_hidden_states": (1, 77, width)}
    )
    [compiled] = [call.compiled for call in core_calls]
    assert all(port.partial_shape.is_static for port in [*compiled.inputs, *compiled.outputs])
    assert list(compiled.outputs[0].shape) == [1, 4, 9, 13]


@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxRuntimeEngine])
def test_timesteps_may_be_fractions(
    exported_openvino: Path, exported_onnx: Path, tiny_checkpoint: Path, engine: type[Any]
) -> None:
    """Karras sigmas lie between the training timesteps: a cut fraction is another noise level."""
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    noise = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 4, 8, 8, generator=noise)
    states = torch.randn(1, 77, unet.config.cross_attention_dim, generator=noise)

    def torch_says(t: float) -> Any:
        with torch.no_grad():
            return unet(sample, torch.tensor(t), states).sample.numpy()

    own = engine()
    folder = {"openvino": exported_openvino, "onnx": exported_onnx}[own.format]
    shapes = {"sample": sample.shape, "encoder_hidden_states": states.shape}
    graph = own.compile(Bundle.open(folder).graph("unet", own.format), shapes)
    feeds = {"sample": sample.numpy(), "encoder_hidden_states": states.numpy()}
    (found,) = graph({**feeds, "timestep": np.float32(1.75)}).values()
    step = np.abs(torch_says(1.75) - torch_says(1.0)).max()
    assert np.abs(found - torch_says(1.75)).max() < step / 100


@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxRuntimeEngine])
def test_a_damaged_onnx_file_is_named(
    exported_onnx: Path, tmp_path: Path, engine: type[Any]
) -> None:
    damaged = tmp_path / "model.onnx"
    data = (exported_onnx / "vae_decoder" / "model.onnx").read_bytes()
    damaged.write_bytes(data[: len(data) // 3])
    with pytest.raises(EngineError, match=r"model\.onnx"):
        engine().compile(damaged, {"latent_sample": (1, 4, 8, 8)})
