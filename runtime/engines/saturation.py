"""Whether 8-bit products saturate here: asked of the engine itself, by a product that is known.

Processors of x86 without VNNI add pairs of such products in 16 bits (see graphs/overflow_fix.py).
Which instructions an engine takes depends on the processor, on its own version and on its settings,
and not every system names the instructions that there are.
"""

import functools
from typing import Any

import numpy as np

from ..graphs import protobuf

_LENGTH, _ACTIVATION, _WEIGHT = 64, 255, 127  # the largest of their types
_RIGHT = _LENGTH * _ACTIVATION * _WEIGHT


@functools.cache
def in_openvino() -> bool:
    """By OpenVINO on the CPU."""
    import openvino
    from openvino import opset13 as opset

    given = opset.parameter([1, _LENGTH], np.float32)
    ends = (np.float32(end) for end in (0, _ACTIVATION, 0, _ACTIVATION))
    rounded = opset.fake_quantize(given, *ends, 256)
    stored = opset.constant(np.full((16, _LENGTH), _WEIGHT, np.int8))
    weights = opset.multiply(opset.convert(stored, np.float32), np.float32(1))
    model = openvino.Model([opset.matmul(rounded, weights, False, True)], [given], "product")
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    return _cut_short(compiled(np.full((1, _LENGTH), _ACTIVATION, np.float32))[0])


@functools.cache
def in_onnxruntime() -> bool:
    """By ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(_product(), options, ["CPUExecutionProvider"])
    activations = np.full((1, _LENGTH), _ACTIVATION, np.uint8)
    weights = np.full((_LENGTH, 16), _WEIGHT, np.int8)
    return _cut_short(session.run(None, {"a": activations, "b": weights})[0])


def _cut_short(found: Any) -> bool:
    return bool(float(found.flat[0]) < 0.9 * _RIGHT)


def _product() -> bytes:
    """An ONNX model of one MatMulInteger: a ModelProto with a GraphProto and a NodeProto."""
    field, integer = protobuf.field, protobuf.integer

    def port(name: bytes, element: int, *shape: int) -> bytes:
        sizes = b"".join(field(1, integer(1, size)) for size in shape)
        return field(1, name) + field(2, field(1, integer(1, element) + field(2, sizes)))

    node = field(1, b"a") + field(1, b"b") + field(2, b"y") + field(4, b"MatMulInteger")
    graph = field(1, node) + field(2, b"product")
    graph += field(11, port(b"a", 2, 1, _LENGTH)) + field(11, port(b"b", 3, _LENGTH, 16))
    graph += field(12, port(b"y", 6, 1, 16))
    return integer(1, 8) + field(7, graph) + field(8, field(1, b"") + integer(2, 13))
