"""ONNX Runtime: any CPU, and NVIDIA's GPUs through its CUDA provider."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, Message, shown, to_install
from ..graphs.edit import Edit
from ..graphs.float32 import EXACT
from ..graphs.half_precision import HalfPrecision
from ..graphs.onnx_graph import OnnxGraph, reading
from . import saturation
from .bound import Bound
from .heap import give_back
from .protocol import Feeds, Shapes, check_fed, conform, failure

_PROVIDERS = {"CPU": "CPUExecutionProvider", "CUDA": "CUDAExecutionProvider"}
# What each computes in; the first is what "auto" is.
_PRECISIONS = {"CPU": ("f32",), "CUDA": ("f16", "f32")}


class OnnxRuntimeEngine:
    """Opens ONNX graphs on "cpu" or "cuda".

    threads: CPU threads; None leaves it to ONNX Runtime (physical cores).
    precision: "f32", "f16" (of denoisers, on "cuda"), or "auto": the device's faster one.
    streams: calls of a graph that are computed at once, and share the threads.
    bound: whether inputs stay on the device from call to call (IO binding), where it is no CPU.
    Raises EngineError where ONNX Runtime, or the provider for the device, is not there, or does
    not compute in that precision.
    """

    name = "onnxruntime"
    format = "onnx"

    def __init__(
        self,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "auto",
        *,
        streams: int = 1,
    ) -> None:
        self._runtime = _import()
        self.device = device.upper()
        kind, _, number = self.device.partition(":")
        provider = _PROVIDERS.get(kind)
        if provider is None:
            raise EngineError(f"ONNX Runtime has no device {device!r} here; it has cpu and cuda")
        if provider not in self._runtime.get_available_providers():
            raise EngineError(
                f"this ONNX Runtime has no {provider}; install it with: "
                f"pip uninstall onnxruntime && {to_install('cuda')}"
            )
        self.precision = _precision(kind, precision)
        self.streams, self.threads = streams, threads
        # Each caller computes, too, beside the threads that a session has for all of them.
        self.session_threads = None if threads is None else max(1, threads - streams + 1)
        self.bound = kind != "CPU"
        self._provider = provider, {"device_id": number} if number else {}
        if kind == "CUDA":
            _load_libraries(self._runtime)
            if self.precision == "f32":  # to rounding: not by TensorFloat-32's ten binary digits
                self._provider[1]["use_tf32"] = "0"

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> "OnnxRuntimeGraph":
        options = self._runtime.SessionOptions()
        options.log_severity_level = 4  # failures reach the user as one line, below
        if self.session_threads is not None:
            options.intra_op_num_threads = self.session_threads
        if self.device == "CPU" and saturation.in_onnxruntime():
            # Signed weights become unsigned, whose products are added exactly.
            options.add_session_config_entry("session.x64quantprecision", "1")
        if self.precision == "f16" and EXACT not in edits:
            edits = [*edits, HalfPrecision()]
        edited = _edited(path, edits)
        if edited:
            edited.hand_to(options)
        providers = [self._provider]
        if self._provider[0] != _PROVIDERS["CPU"]:
            providers.append((_PROVIDERS["CPU"], {}))  # for the odd operator CUDA lacks
        try:
            session = self._runtime.InferenceSession(
                bytes(edited.content) if edited else str(path), options, providers
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise failure(
                error, f"{path}: ONNX Runtime cannot open it on {self.device}", self.device
            ) from error
        # Where the provider's libraries do not load, ONNX Runtime goes on without a word.
        if session.get_providers()[0] != self._provider[0]:
            raise EngineError(
                f"{self._provider[0]} is installed but does not start; "
                "its CUDA and cuDNN libraries or the driver are missing"
            )
        _check_inputs(path, session, shapes)
        give_back()  # what widening and packing the weights took
        run = self._bound(session) if self.bound else lambda inputs: session.run(None, inputs)
        return OnnxRuntimeGraph(session, run, self.device, edited.weights if edited else None)

    def _bound(self, session: Any) -> Bound:
        kind, _, number = self.device.partition(":")
        return Bound(session, kind.lower(), int(number or 0))


class OnnxRuntimeGraph:
    """One session; ONNX Runtime itself lets several threads run it at once."""

    def __init__(
        self,
        session: Any,
        run: Callable[[Mapping[str, Any]], Sequence[Any]],
        device: str,
        weights: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self._run = run
        self._device = device
        self._weights = weights  # the session reads them where they are
        self._inputs = {port.name: port for port in session.get_inputs()}
        self._outputs = [port.name for port in session.get_outputs()]
        # What the graph calls the rows of a batch: what shares the name has to share the number.
        rows = (port.shape[0] for port in self._inputs.values() if len(port.shape) > 1)
        self._batch = {name for name in rows if isinstance(name, str)}

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        check_fed(feeds, [{name} for name in self._inputs])
        inputs, batch = {}, max(value.shape[0] for value in feeds.values() if value.ndim)
        for name, value in feeds.items():
            port = self._inputs[name]
            value = conform(value, _dtype(port.type), len(port.shape))
            tied = value.ndim > 1 or (value.ndim == 1 and port.shape[0] in self._batch)
            if tied and len(value) < batch:
                value = np.repeat(value, batch // len(value), axis=0)
            inputs[name] = value
        try:
            results = self._run(inputs)
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise failure(error, "ONNX Runtime cannot compute it", self._device) from error
        return {
            name: np.asarray(result, np.float32)
            for name, result in zip(self._outputs, results, strict=True)
        }


def _precision(kind: str, asked: str) -> str:
    """The precision that a device computes in; EngineError where it does not in the one asked."""
    known = _PRECISIONS[kind]
    if asked == "auto":
        return known[0]
    if asked not in known:
        raise EngineError(
            Message(
                "{precision} is {0}; ONNX Runtime computes in {1} on {2}: give auto, or {engine} "
                "openvino",
                shown(asked),
                " and ".join(known),
                kind,
            )
        )
    return asked


def _load_libraries(runtime: Any) -> None:
    """Load CUDA's and cuDNN's libraries where pip has installed them, which no loader searches.

    What it cannot find it prints; whether the provider starts is looked at when a graph opens.
    """
    if load := getattr(runtime, "preload_dlls", None):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            load()


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise EngineError(
            f"ONNX Runtime is not installed; install it with: {to_install('onnx')}"
        ) from None
    return onnxruntime


def _edited(path: Path, edits: Sequence[Edit]) -> OnnxGraph | None:
    """The graph; None where no edit changes it, so that the session reads the file once, itself."""
    if not edits:
        return None
    graph = opened = OnnxGraph.open(path)
    with reading(path):
        for edit in edits:
            graph = edit.onnx(graph)
    return None if graph is opened else graph


def _check_inputs(path: Path, session: Any, shapes: Shapes) -> None:
    ports = {port.name: port.shape for port in session.get_inputs()}
    for name, shape in shapes.items():
        if name not in ports:
            raise EngineError(
                f"{path}: has no input {name}; it has {', '.join(sorted(ports))}: "
                "the graph is not of the expected kind"
            )
        fixed = zip(ports[name], shape, strict=False)
        if any(isinstance(size, int) and size != given for size, given in fixed):
            raise EngineError(
                f"{path}: its input {name} is fixed at {ports[name]}, not {list(shape)}; "
                "choose the size it was exported for, or export it anew"
            )


def _dtype(onnx_type: str) -> np.dtype[Any]:
    """numpy's type for ONNX Runtime's "tensor(float16)" and the like."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))
