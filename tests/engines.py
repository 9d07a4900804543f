"""The engines, and a format that is not an engine's own."""

from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.openvino import OpenVinoEngine

ENGINES = {
    "openvino": lambda: OpenVinoEngine(),
    "onnxruntime": lambda: OnnxRuntimeEngine(),
    "openvino of onnx": lambda: OpenVinoEngine(format="onnx"),
}
