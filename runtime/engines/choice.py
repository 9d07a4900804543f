"""Which engine and device paint: what was asked for, or the best that is really there."""

import importlib.util
import logging
from pathlib import Path

from ..errors import EngineError, SettingError
from ..model.bundle import EXPORT_HINT, Bundle
from ..speed.tuning import Setup
from .cache import user_folder
from .onnxruntime import OnnxRuntimeEngine
from .openvino import OpenVinoEngine
from .protocol import Engine

log = logging.getLogger("pleinair")

ENGINES = ("auto", "openvino", "onnxruntime")


def choose(
    bundle: Bundle,
    engine: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    cache_dir: str | Path | None = "auto",
    inference_precision: str | None = "f32",
    tuned: Setup | None = None,
) -> Engine:
    """The engine for a model folder.

    engine: "openvino", "onnxruntime", or "auto".
    device: "cpu", "cuda", any name that the engine itself knows, or "auto": CUDA where its
        provider really opens a session, else the CPU.
    cache_dir: "auto" is this user's cache folder, None no cache.
    tuned: what "auto" is on the CPU; `threads` wins over its own.
    Raises EngineError where what was asked for is not there; "auto" falls back, and logs why.
    """
    if engine not in ENGINES:
        raise SettingError(f"engine {engine!r} is unknown; choose from: {', '.join(ENGINES)}")
    if threads is not None and threads < 1:
        raise SettingError(f"threads is {threads}; give 1 or more")

    if cache_dir == "auto":
        cache_dir = user_folder()

    def openvino(device: str) -> Engine:
        format = "openvino" if "openvino" in bundle.graphs else "onnx"
        return OpenVinoEngine(device, format, threads, cache_dir, inference_precision)

    def onnxruntime(device: str) -> Engine:
        if "onnx" not in bundle.graphs:
            raise EngineError(
                f"{bundle.path}: has no ONNX graphs for ONNX Runtime; "
                + EXPORT_HINT.format(format="onnx")
            )
        return OnnxRuntimeEngine(device, threads)

    if device == "auto":
        if engine != "openvino" and _has_cuda_provider():
            try:
                return _cuda(bundle, threads)
            except EngineError as error:
                log.info("painting on the CPU: %s", error)
        device = "cpu"
    if tuned and engine == "auto" and device.upper() == "CPU":
        engine, threads = tuned.engine, tuned.threads if threads is None else threads
    if engine == "onnxruntime" or (engine == "auto" and device.partition(":")[0] == "cuda"):
        return onnxruntime(device)
    return openvino(device)


def _has_cuda_provider() -> bool:
    """Whether one is installed: where none is, painting on the CPU is no news."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _cuda(bundle: Bundle, threads: int | None) -> Engine:
    """ONNX Runtime on CUDA, tried on the smallest graph; raises EngineError where it fails."""
    if "onnx" not in bundle.graphs:
        hint = EXPORT_HINT.format(format="onnx")
        raise EngineError(f"{bundle.path} has no ONNX graphs for CUDA; {hint}")
    engine = OnnxRuntimeEngine("cuda", threads)
    encoder = "text_encoder" if "text_encoder" in bundle.graphs["onnx"] else "text_encoder_2"
    engine.compile(bundle.graph(encoder, "onnx"), {})
    return engine
