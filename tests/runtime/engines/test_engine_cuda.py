"""ONNX Runtime on CUDA, with a CPU in the GPU's place: precision, bound inputs, short memory."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_inference_collection import IOBinding, OrtValue

from pleinair.bench.device import stand_in
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.bound import Bound
from pleinair.runtime.engines.choice import choose
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.protocol import MemoryShortError, failure
from pleinair.runtime.errors import EngineError
from pleinair.runtime.images.similarity import psnr
from pleinair.runtime.model.bundle import Bundle

POCKET = Path(__file__).parents[3] / "models" / "pocket"
CALL = {"seed": 1, "num_inference_steps": 2}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for owner, name in (
        (onnxruntime, "InferenceSession"),
        (onnxruntime, "get_available_providers"),
        (IOBinding, "bind_output"),
        (OrtValue, "ortvalue_from_numpy"),
    ):
        monkeypatch.setattr(owner, name, owner.__dict__[name])  # put back afterwards
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stand_in.install()
    yield
    stand_in.full = False


def _picture(**opened: Any) -> np.ndarray:
    pipe = StableDiffusionPipeline.from_pretrained(POCKET, **opened)
    return np.asarray(pipe("a rocket", **CALL).images[0])


def test_auto_paints_on_cuda_in_either_precision(cuda: None) -> None:
    exact = _picture(engine="onnxruntime", device="cpu")
    full = _picture(device="auto", precision="f32")
    half = _picture(device="auto", precision="auto")
    assert np.abs(full.astype(int) - exact.astype(int)).max() <= 2
    assert psnr(half, exact) > 45
    assert (half != exact).any()


def test_precisions_that_a_device_has_not(cuda: None) -> None:
    assert OnnxRuntimeEngine("cuda").precision == "f16"
    assert OnnxRuntimeEngine("cuda:1", precision="f32").precision == "f32"
    assert OnnxRuntimeEngine("cpu").precision == "f32"
    for device, precision in (("cpu", "f16"), ("cuda", "bf16")):
        with pytest.raises(EngineError, match=f"precision is {precision}; .* on {device.upper()}"):
            OnnxRuntimeEngine(device, precision=precision)


def test_full_precision_is_no_tensor_float(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = onnxruntime.InferenceSession

    def session(model: Any, options: Any, providers: Any) -> Any:
        asked.append(providers[0])
        return real(model, options, providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    path = POCKET / "vae_decoder" / "model.onnx"
    for precision in ("f32", "f16"):
        OnnxRuntimeEngine("cuda:1", precision=precision).compile(path, {})
    assert asked == [
        ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"}),
        ("CUDAExecutionProvider", {"device_id": "1"}),
    ]


def test_inputs_that_stay_the_same_are_copied_once(
    cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = OnnxRuntimeEngine("cuda", precision="f32").compile(POCKET / "unet" / "model.onnx", {})
    plain = OnnxRuntimeEngine("cpu").compile(POCKET / "unet" / "model.onnx", {})
    copied: list[tuple[int, ...]] = []
    update = OrtValue.update_inplace
    monkeypatch.setattr(
        OrtValue,
        "update_inplace",
        lambda self, data: (copied.append(data.shape), update(self, data)),
    )
    random = np.random.default_rng(0)
    states = random.standard_normal((2, 77, 128), np.float32)
    for step in range(3):
        sample = random.standard_normal((2, 4, 16, 16), np.float32)
        feeds = {"sample": sample, "encoder_hidden_states": states, "timestep": np.float32(step)}
        assert np.allclose(*(g(feeds)["out_sample"] for g in (graph, plain)), atol=1e-5)
    assert sorted(copied) == [(), (), (2, 4, 16, 16), (2, 4, 16, 16)]
    states[0, 76] += 1.0  # the same array, other numbers in it
    assert np.allclose(*(g(feeds)["out_sample"] for g in (graph, plain)), atol=1e-5)
    larger = {name: np.repeat(v, 2, 0) if np.ndim(v) else v for name, v in feeds.items()}
    assert np.allclose(*(g(larger)["out_sample"] for g in (graph, plain)), atol=1e-5)


def test_threads_take_turns_at_one_binding() -> None:
    path = POCKET / "vae_decoder" / "model.onnx"
    bound = Bound(onnxruntime.InferenceSession(str(path)), "cpu", 0)
    random = np.random.default_rng(0)
    inputs = [random.standard_normal((1, 4, 8, 8), np.float32) for _ in range(4)]
    wanted = [bound({"latent_sample": value})[0].copy() for value in inputs]
    found: dict[int, np.ndarray] = {}

    def run(i: int) -> None:
        found[i] = bound({"latent_sample": inputs[i]})[0]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], wanted[i]) for i in range(4))


def test_short_memory_is_one_line_and_auto_goes_to_the_cpu(
    cuda: None, caplog: pytest.LogCaptureFixture
) -> None:
    exact = _picture(engine="onnxruntime", device="cpu")
    stand_in.full = True
    with pytest.raises(EngineError) as raised:
        _picture(device="cuda")
    said = str(raised.value)
    assert said.endswith(
        "the memory of CUDA is short; paint smaller, with tile, or with device cpu"
    )
    assert "unet" in said
    assert "\n" not in said
    pipe = StableDiffusionPipeline.from_pretrained(POCKET, device="auto")
    assert pipe.engine.device == "CUDA"
    with caplog.at_level(logging.WARNING, logger="pleinair"):
        picture = np.asarray(pipe("a rocket", **CALL).images[0])
    assert pipe.engine.device == "CPU"
    assert np.abs(picture.astype(int) - exact.astype(int)).max() <= 2
    [line] = [record.message for record in caplog.records]
    assert line.startswith("unet is computed on the CPU: ")


def test_a_graph_that_does_not_fit_is_opened_on_the_cpu(
    cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = choose(Bundle.open(POCKET).graphs)
    real = onnxruntime.InferenceSession

    def session(model: Any, options: Any, providers: Any) -> Any:
        if providers[0][0] == "CUDAExecutionProvider":
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc")
        return real(model, options, providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    graph = engine.compile(POCKET / "vae_decoder" / "model.onnx", {})
    assert engine.device == "CPU"
    assert next(iter(graph({"latent_sample": np.zeros((1, 4, 8, 8))}).values())).shape[1] == 3


def test_a_provider_without_a_gpu_falls_back(
    cuda: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with caplog.at_level(logging.INFO, logger="pleinair"):
        engine = choose(Bundle.open(POCKET).graphs)
    assert (engine.name, engine.device) == ("openvino", "CPU")
    assert "does not start" in caplog.records[0].message


@pytest.mark.parametrize(
    "said",
    [
        "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 134217728",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=x",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
    ],
)
def test_what_cuda_says_of_short_memory(said: str) -> None:
    assert isinstance(failure(RuntimeError(said), "x", "CUDA"), MemoryShortError)
    assert "with device cpu" in str(failure(RuntimeError(said), "x", "CUDA"))
    assert not isinstance(failure(RuntimeError("Conv: wrong shape"), "x", "CUDA"), MemoryShortError)


def test_libraries_that_pip_installed_are_loaded_in_silence(
    cuda: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def preload() -> None:
        asked.append("loaded")
        print("Failed to load libcudnn.so.9")
        raise RuntimeError("no such directory")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    OnnxRuntimeEngine("cuda")
    assert asked == ["loaded"]
    assert capsys.readouterr().out == ""
