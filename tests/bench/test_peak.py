"""The graphs that peaks are measured with compute what they should, in 8 bits where they say."""

import io
import time
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest

from pleinair.bench import flops, peak
from pleinair.bench.worker import Watch
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine

SIDE = 64


def _found(engine: str, int8: bool, x: np.ndarray) -> np.ndarray:
    """What the engine itself makes of the chain."""
    if engine == "onnxruntime":
        session = onnxruntime.InferenceSession(peak.onnx_chain(SIDE, int8))
        return session.run(None, {"x": x})[0]
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(peak.openvino_chain(SIDE, int8), "CPU", exact)
    return compiled({"x": x})[0]


def _expected(engine: str, x: np.ndarray) -> np.ndarray:
    """Both chains have the same weights, but x stands on the other side of them."""
    nodes = peak.openvino_chain(SIDE, int8=False).get_ops()
    data = [node.data for node in nodes if node.get_type_name() == "Constant"]
    [weights] = [values for values in data if values.size == SIDE**2]
    product = np.linalg.matrix_power(weights.reshape(SIDE, SIDE), 4)
    return product @ x if engine == "openvino" else x @ product


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_chain_is_a_chain_of_products(engine: str, int8: bool) -> None:
    x = np.random.default_rng(1).standard_normal((SIDE, SIDE), np.float32)
    found = _found(engine, int8, x)
    expected = _expected(engine, x)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert error < (0.05 if int8 else 1e-5)
    assert (error > 1e-4) == int8  # 8 bits are not exact, and that shows


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_the_count_of_its_own_arithmetic(format: str, int8: bool, tmp_path: Path) -> None:
    """FakeQuantize in OpenVINO's graphs, pairs of Quantize and Dequantize in ONNX."""
    if format == "onnx":
        (tmp_path / "peak.onnx").write_bytes(peak.onnx_chain(SIDE, int8))
        model = openvino.Core().read_model(tmp_path / "peak.onnx")
    else:
        model = peak.openvino_chain(SIDE, int8)
    found = flops.count(model)
    assert found.total == 4 * 2 * SIDE**3
    assert found.total == (found.linear if format == "onnx" else found.convolution)
    assert found.int8 == (found.total if int8 else 0)


def test_onnx_runtime_fuses_the_chain_into_products_of_integers(tmp_path: Path) -> None:
    import onnx

    file = tmp_path / "peak.onnx"
    file.write_bytes(peak.onnx_chain(SIDE, int8=True))
    onnx.checker.check_model(str(file))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert sum("MatMul" in kind and kind != "MatMul" for kind in operators) == 4, operators
    assert OnnxRuntimeEngine("cpu", 1).compile(file, {"x": (SIDE, SIDE)})


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_rate_comes_out(engine: str, int8: bool) -> None:
    job = {"engine": engine, "device": "cpu", "precision": "f32", "threads": 1, "int8": int8}
    found = peak.measure(job | {"side": SIDE}, Watch(time.perf_counter(), io.StringIO()))
    assert found["flops"] > 0
