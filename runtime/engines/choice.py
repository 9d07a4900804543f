"""Which engine and device paint: what was asked for, or the best that is really there."""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, Message, SettingError, shown
from .cache import cache_folder
from .fallback import Fallback
from .onnxruntime import OnnxRuntimeEngine
from .openvino import OpenVinoEngine
from .protocol import Engine

log = logging.getLogger("pleinair")

ENGINES = ("auto", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Setup:
    """What computes on the CPU. threads: None leaves it to the engine."""

    engine: str
    threads: int | None = None


def choose(
    graphs: Mapping[str, Mapping[str, Path]],
    engine: str = "auto",
    device: str = "auto",
    *,
    threads: int | None = None,
    cache_dir: str | Path | None = "auto",
    inference_precision: str | None = "f32",
    tuned: Setup | None = None,
) -> Engine:
    """The engine for a model folder.

    graphs: format -> part -> file, as the folder has them.
    engine: "openvino", "onnxruntime", or "auto".
    device: "cpu", "cuda", any name that the engine itself knows, or "auto": CUDA where its
        provider really opens a session, else the CPU.
    cache_dir: "auto" is this user's cache folder, None no cache.
    tuned: what "auto" is on the CPU; `threads` wins over its own.
    Raises EngineError where what was asked for is not there; "auto" falls back, and logs why, too
        where the memory of the device is short.
    """
    if engine not in ENGINES:
        raise SettingError(
            Message(
                "{engine} {0!r} is unknown; choose from: {1}", shown(engine), ", ".join(ENGINES)
            )
        )
    if threads is not None and threads < 1:
        raise SettingError(Message("{threads} is {0}; give 1 or more", threads))

    if cache_dir == "auto":
        cache_dir = cache_folder()

    def openvino(device: str) -> Engine:
        format = "openvino" if "openvino" in graphs else "onnx"
        return OpenVinoEngine(device, format, threads, cache_dir, inference_precision)

    if device == "auto":
        if engine != "openvino" and _has_cuda_provider():
            try:
                return _cuda(graphs, threads, inference_precision or "auto")
            except EngineError as error:
                log.info("painting on the CPU: %s", error)
        device = "cpu"
    if tuned and engine == "auto" and device.upper() == "CPU":
        engine, threads = tuned.engine, tuned.threads if threads is None else threads
    if engine == "onnxruntime" or (engine == "auto" and device.partition(":")[0] == "cuda"):
        _onnx_graphs(graphs, "ONNX Runtime")
        return OnnxRuntimeEngine(device, threads, inference_precision or "auto")
    return openvino(device)


def _has_cuda_provider() -> bool:
    """Whether one is installed: where none is, painting on the CPU is no news."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _cuda(graphs: Mapping[str, Mapping[str, Path]], threads: int | None, precision: str) -> Engine:
    """ONNX Runtime on CUDA, tried on the smallest graph; raises EngineError where it fails.

    What later does not fit into the device's memory is computed on the CPU.
    """
    smallest = min(_onnx_graphs(graphs, "CUDA").values(), key=_size)
    engine = OnnxRuntimeEngine("cuda", threads, precision)
    engine.compile(smallest, {})
    return Fallback(engine, OnnxRuntimeEngine("cpu", threads))


def _onnx_graphs(graphs: Mapping[str, Mapping[str, Path]], wanted_by: str) -> Mapping[str, Path]:
    if "onnx" not in graphs:
        folder = next(iter(next(iter(graphs.values())).values())).parent.parent
        raise EngineError(
            f"{folder}: has no ONNX graphs for {wanted_by}; make it with: "
            "pleinair-export SOURCE FOLDER --format onnx"
        )
    return graphs["onnx"]


def _size(graph: Path) -> int:
    """Bytes of a graph, with those that it keeps in a file beside it."""
    return sum(file.stat().st_size for file in graph.parent.iterdir() if file.is_file())
