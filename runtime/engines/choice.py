"""Which engine and device paint: what was asked for, or the best that is really there."""

import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, Message, SettingError, unknown
from . import cores
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
    streams: int = 1,
    cache_dir: str | Path | None = "auto",
    precision: str = "auto",
    tuned: Setup | None = None,
) -> Engine:
    """The engine for a model folder.

    graphs: format -> part -> file, as the folder has them.
    engine: "openvino", "onnxruntime", or "auto".
    device: "cpu", "cuda", any name that the engine itself knows, or "auto": CUDA where its
        provider really opens a session, else the CPU.
    threads: None is what a container is granted of its CPUs, else the engine's choice.
    streams: calls of a graph that the CPU computes at once.
    cache_dir: "auto" is this user's cache folder, None no cache.
    precision: "f32", "bf16", "f16", or "auto", what the engine takes by itself on the device.
    tuned: what "auto" is on the CPU; `threads` wins over its own.
    Raises EngineError where what was asked for is not there; "auto" falls back, and logs why, too
        where the memory of the device is short.
    """
    if engine not in ENGINES:
        raise SettingError(unknown("engine", engine, ENGINES))
    if threads is not None and threads < 1:
        raise SettingError(Message("{threads} is {0}; give 1 or more", threads))

    if streams < 1:
        raise SettingError(Message("{streams} is {0}; give 1 or more", streams))

    if cache_dir == "auto":
        cache_dir = cache_folder()

    def openvino(device: str) -> Engine:
        format = "openvino" if "openvino" in graphs else "onnx"
        return OpenVinoEngine(
            device,
            format,
            _threads(threads, streams, device),
            cache_dir,
            precision,
            streams=streams,
        )

    if device == "auto":
        if engine != "openvino" and _has_cuda_provider():
            try:
                return _cuda(graphs, threads, precision, streams)
            except EngineError as error:
                log.info("painting on the CPU: %s", error)
        device = "cpu"
    if tuned and engine == "auto" and device.upper() == "CPU":
        engine, threads = tuned.engine, tuned.threads if threads is None else threads
    if engine == "onnxruntime" or (engine == "auto" and device.partition(":")[0] == "cuda"):
        _onnx_graphs(graphs, "ONNX Runtime")
        shared = _threads(threads, streams, device)
        return OnnxRuntimeEngine(device, shared, precision, streams=streams)
    return openvino(device)


def _threads(asked: int | None, streams: int, device: str) -> int | None:
    """Threads of the CPU, for all streams together; None leaves them to the engine.

    Raises SettingError where there are more streams than threads.
    """
    if device.upper() != "CPU":
        return asked
    threads = _cpu_threads(asked, streams)
    if threads is not None and streams > threads:
        raise SettingError(
            Message(
                "{streams} is {0}, more than there are threads to share out: give 1 to {1}",
                streams,
                threads,
            )
        )
    return threads


def _cpu_threads(asked: int | None, streams: int) -> int | None:
    """Those asked for, or a container's share; to be shared out, else all cores'."""
    threads = cores.granted() if asked is None else asked
    return cores.physical_cores() if threads is None and streams > 1 else threads


def _has_cuda_provider() -> bool:
    """Whether one is installed: where none is, painting on the CPU is no news."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _cuda(
    graphs: Mapping[str, Mapping[str, Path]], threads: int | None, precision: str, streams: int
) -> Engine:
    """ONNX Runtime on CUDA, tried on the smallest graph; raises EngineError where it fails.

    What later does not fit into the device's memory is computed on the CPU.
    """
    smallest = min(_onnx_graphs(graphs, "CUDA").values(), key=_size)
    engine = OnnxRuntimeEngine("cuda", threads, precision, streams=streams)
    engine.compile(smallest, {})
    cpu = OnnxRuntimeEngine("cpu", _cpu_threads(threads, streams), streams=streams)
    return Fallback(engine, cpu)


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
