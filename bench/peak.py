"""The machine's peak rate: what an engine reaches in large matrix products, and nothing else.

A chain of products through the same engine, device and precision as the model's graphs; with int8
each is of 8-bit activations with 8-bit weights. Written as a small graph when it is asked for.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pleinair.runtime.graphs import protobuf

from .worker import Watch

_CHAIN = 4  # products in a graph: more than its ends cost
_SIDE = {"cpu": 2048}  # of the matrices; on other devices larger ones
_LARGE_SIDE = 8192
_RUNS = 8
_ROWS = 32  # of the feature maps that stand for a matrix's columns
# Activations of these graphs are standard normal; this step holds what lies within four deviations.
_STEP = 4 / 127


def measure(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: `job` has "engine", "device", "precision", "threads", "int8".

    {"flops": the best rate of a few runs, operations a second}; raises EngineError as the engine.
    """
    side = job.get("side") or _SIDE.get(job["device"].partition(":")[0], _LARGE_SIDE)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        graph = _compiled(job, side, Path(folder))
        feeds = {"x": np.random.default_rng(1).standard_normal((side, side), np.float32)}
        graph(feeds)
        seconds = []
        for run in range(_RUNS):
            begun = time.perf_counter()
            graph(feeds)
            seconds.append(time.perf_counter() - begun)
            watch.advance((run + 1) / _RUNS)
        del graph
    return {"flops": _CHAIN * 2 * side**3 / min(seconds)}


def _compiled(job: dict[str, Any], side: int, folder: Path) -> Any:
    shapes = {"x": (side, side)}
    if job["engine"] == "onnxruntime":
        from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine

        file = folder / "peak.onnx"
        engine = OnnxRuntimeEngine(job["device"], job["threads"], job["precision"])
        file.write_bytes(onnx_chain(side, job["int8"], engine.precision == "f16"))
        return engine.compile(file, shapes)
    import openvino

    from pleinair.runtime.engines.openvino import OpenVinoEngine

    file = folder / "peak.xml"
    openvino.save_model(openvino_chain(side, job["int8"]), file, compress_to_fp16=False)
    engine = OpenVinoEngine(job["device"], threads=job["threads"], precision=job["precision"])
    return engine.compile(file, shapes)


def openvino_chain(side: int, int8: bool) -> Any:
    """w @ w … @ x, an openvino.Model; quantized as NNCF does it, by FakeQuantize.

    As 1x1 convolutions, which OpenVINO computes a fifth faster than products in floating point.
    """
    import openvino
    from openvino import opset13 as opset

    def quantized(value: Any, step: float, levels: int) -> Any:
        low, high = (np.float32(end * step) for end in (levels % 2 - 128, 127))
        return opset.fake_quantize(value, low, high, low, high, levels)

    x = opset.parameter([side, side], np.float32, "x")
    x.output(0).set_names({"x"})
    weights = opset.constant(_weights(side).reshape(side, side, 1, 1))
    product = opset.reshape(x, [1, side, _ROWS, side // _ROWS], False)
    for _ in range(_CHAIN):
        operands = product, weights
        if int8:
            operands = quantized(product, _STEP, 256), quantized(weights, _step(side), 255)
        product = opset.convolution(*operands, [1, 1], [0, 0], [0, 0], [1, 1])
    chain = opset.reshape(product, [side, side], False)
    chain.output(0).set_names({"y"})
    return openvino.Model([opset.result(chain)], [x], "peak")


def _weights(side: int) -> np.ndarray:
    """Such that the product of what is standard normal with them is standard normal again."""
    random = np.random.default_rng(0).standard_normal((side, side), np.float32)
    return random / np.float32(np.sqrt(side))


def _step(side: int) -> float:
    return float(_STEP / np.sqrt(side))


# The same in ONNX, by the fields' numbers in onnx.proto, for machines without the onnx package.

_FLOAT, _INT8, _HALF = 1, 3, 10  # TensorProto.DataType


def onnx_chain(side: int, int8: bool, half: bool = False) -> bytes:
    """The chain as an ONNX model; quantized by pairs of QuantizeLinear and DequantizeLinear.

    half: in float16, between float32 ends, where it is not quantized.
    """
    weights = _weights(side)
    if int8:
        rounded = (weights / _step(side)).round().clip(-127, 127).astype(np.int8)
        tensors = [_tensor("w8", _INT8, rounded)]
        tensors += [_tensor("zero", _INT8, np.zeros((), np.int8))]
        for name, step in (("step", _STEP), ("w_step", _step(side))):
            tensors.append(_tensor(name, _FLOAT, np.float32(step)))
        nodes = [_node("DequantizeLinear", ["w8", "w_step", "zero"], "w"), *_rounded("x", "x0")]
    elif half:
        tensors = [_tensor("w", _HALF, weights.astype(np.float16))]
        nodes = [_cast("x", "x0", _HALF)]
    else:
        tensors, nodes = [_tensor("w", _FLOAT, weights)], [_node("Identity", ["x"], "x0")]
    for i in range(_CHAIN):
        made = f"p{i}" if int8 else f"x{i + 1}"
        nodes.append(_node("MatMul", [f"x{i}", "w"], made))
        if int8:
            nodes += _rounded(made, f"x{i + 1}")
    nodes.append(_cast(f"x{_CHAIN}", "y", _FLOAT))
    graph = [protobuf.field(1, node) for node in nodes] + [protobuf.field(2, b"peak")]
    graph += [protobuf.field(5, tensor) for tensor in tensors]
    graph += [protobuf.field(11, _port("x", side)), protobuf.field(12, _port("y", side))]
    version, opset = protobuf.integer(1, 8), protobuf.field(8, protobuf.integer(2, 13))
    return version + opset + protobuf.field(7, b"".join(graph))


def _rounded(name: str, result: str) -> list[bytes]:
    return [
        _node("QuantizeLinear", [name, "step", "zero"], f"{name}_8"),
        _node("DequantizeLinear", [f"{name}_8", "step", "zero"], result),
    ]


def _node(operator: str, inputs: list[str], output: str) -> bytes:
    read = b"".join(protobuf.field(1, name.encode()) for name in inputs)
    return read + protobuf.field(2, output.encode()) + protobuf.field(4, operator.encode())


def _cast(source: str, output: str, kind: int) -> bytes:
    to = protobuf.field(1, b"to") + protobuf.integer(3, kind) + protobuf.integer(20, 2)
    return _node("Cast", [source], output) + protobuf.field(5, to)


def _tensor(name: str, kind: int, values: Any) -> bytes:
    values = np.asarray(values)
    sizes = b"".join(protobuf.integer(1, size) for size in values.shape)
    named = protobuf.integer(2, kind) + protobuf.field(8, name.encode())
    return sizes + named + protobuf.field(9, values.tobytes())


def _port(name: str, side: int) -> bytes:
    size = protobuf.field(1, protobuf.integer(1, side))
    tensor = protobuf.integer(1, _FLOAT) + protobuf.field(2, size + size)
    return protobuf.field(1, name.encode()) + protobuf.field(2, protobuf.field(1, tensor))
