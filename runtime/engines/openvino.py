"""OpenVINO: the CPU's own engine here, and Intel's GPUs and NPUs by the same names."""

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, Message, shown
from ..graphs.edit import Edit
from ..graphs.float32 import EXACT, KeptInFloat32
from ..graphs.mapped import read_once
from ..graphs.norms import NormsByMoments
from ..graphs.overflow_fix import OverflowFix
from ..graphs.upsampling import TransposedUpsamplers
from ..graphs.weights import ChangedWeights
from . import cores, saturation, telemetry
from .cache import Cache, identity, key_of
from .heap import give_back
from .merged import MergedGraphs
from .protocol import Feeds, Shapes, check_fed, conform, first_line

log = logging.getLogger("pleinair")

_importing = threading.Lock()
_TIMESTEP_NAMES = {"timestep", "t"}
_EIGHT_BIT = b'element_type="i8"'  # of a constant, in the text of an IR
_ABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
"""Precision -> what OpenVINO calls a device's ability to compute in it."""


class OpenVinoEngine:
    """Compiles OpenVINO IR, or ONNX, for an OpenVINO device.

    device: an OpenVINO device name; any case.
    threads: CPU threads; None leaves it to OpenVINO (one a physical core).
    streams: calls of a graph that are computed at once; they share its weights and the threads.
    cache_dir: compiled models are kept there and found again; None keeps none.
    precision: "f32", "bf16" or "f16"; "auto" is what the device takes by itself: bfloat16 where a
        processor has it, float16 on Arm and on GPUs, else float32.
    Raises EngineError for a device that is not there, or has no such precision.
    """

    name = "openvino"

    def __init__(
        self,
        device: str = "CPU",
        format: str = "openvino",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
        precision: str = "f32",
        *,
        streams: int = 1,
    ) -> None:
        openvino = _import()
        self.device = device.upper()
        self.format = format
        self.streams, self.threads = streams, threads
        self._core = openvino.Core()
        self._config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = threads
        self._cache: Cache | None = None
        self._merged: MergedGraphs | None = None
        family = self.device.partition(":")[0].partition(".")[0]
        present = {name.partition(".")[0] for name in self._core.available_devices}
        if family not in present | {"AUTO", "HETERO", "MULTI", "BATCH"}:
            raise EngineError(
                f"OpenVINO finds no device {device!r} here; it finds: {', '.join(sorted(present))}"
            )
        self.precision = _precision(self._core, self.device, precision)
        self._on_cpu = family == "CPU"
        if streams > 1:
            self._config["NUM_STREAMS"] = streams
        if self._on_cpu and (streams > 1 or cores.leave_some(threads)):
            # OpenVINO pins the threads of every graph to the first cores that there are. Those of
            # a UNet's and a decoder's streams, and of several processes, would share these while
            # others idle.
            self._config["ENABLE_CPU_PINNING"] = False
        if cache_dir is not None and not self._on_cpu:
            self._config["CACHE_DIR"] = str(cache_dir)  # theirs: kernels are in it too
        elif cache_dir is not None and "WEIGHTS_PATH" in self._core.get_property(
            self.device, "SUPPORTED_PROPERTIES"
        ):
            self._cache = Cache(Path(cache_dir))
            self._merged = MergedGraphs(Path(cache_dir) / "merged")

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> "OpenVinoGraph":
        precision = "f32" if EXACT in edits else self.precision
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
        if precision == "bf16":
            edits = [*edits, NormsByMoments(), TransposedUpsamplers(floats=True)]
        if precision != "f32":
            edits = [*edits, KeptInFloat32()]
        try:
            path, edits = self._with_weights(path, edits)
            weights = _weights(path)
            if self._saturates(path):
                edits = [*edits, OverflowFix()]
            with read_once(weights):
                key = None
                if path.suffix == ".xml":
                    key = self._key([path, weights], shapes, edits, precision)
                if self._cache is not None and key is not None:
                    config |= {"CACHE_MODE": "OPTIMIZE_SIZE", "WEIGHTS_PATH": str(weights)}
                    kept = self._kept(self._cache, key, config)
                    if kept is not None:
                        return OpenVinoGraph(kept)
                model = self.model(path, shapes, edits)  # held until the block's end
                compiled = self.compiled(model, config)
                if self._cache is not None and key is not None:
                    self._cache.write(key, compiled.export_model().getvalue())
                return OpenVinoGraph(compiled)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(
                f"{path}: OpenVINO cannot compile it for {self.device}: {first_line(error)}"
            ) from error

    def _with_weights(self, path: Path, edits: Sequence[Edit]) -> tuple[Path, Sequence[Edit]]:
        """The graph whose weights of 8 bits one of the edits changes, kept, and the other edits.

        All as it was where none does, or where such graphs are not kept.
        """
        changed = next((edit for edit in edits if isinstance(edit, ChangedWeights)), None)
        if changed is None or changed.exact is None:
            return path, edits
        if self._merged is None or path.suffix != ".xml":
            return path, edits
        weights, exact = path.with_suffix(".bin"), changed.exact.with_suffix(".bin")
        files = [identity(file) for file in (path, weights, changed.exact, exact)]
        version = _import().get_version()
        key = key_of({"engine": version, "files": files, "asked": changed.asked})

        def write(file: Path) -> None:
            with read_once(weights):
                model = self._core.read_model(path)  # held until the block's end
                _save(changed.openvino(model), file)
            give_back()

        merged = self._merged.graph(key, weights.stat().st_size, write)
        if merged is None:
            return path, edits
        return merged, [edit for edit in edits if edit is not changed]

    def model(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Any:
        """The openvino.Model of a graph with its shapes and edits, for those who look at it."""
        model = self._core.read_model(path)
        _take_fractions(model)
        _reshape(model, shapes)
        for edit in edits:
            model = edit.openvino(model)
        return model

    def compiled(self, model: Any, properties: Mapping[str, Any] | None = None) -> Any:
        """The openvino.CompiledModel of a model, or of the file of one as it stands.

        properties: OpenVINO's, beside those that the engine sets.
        """
        hint = {"INFERENCE_PRECISION_HINT": self.precision}
        config = {**self._config, **hint, **(properties or {})}
        return self._core.compile_model(model, self.device, config)

    def _saturates(self, path: Path) -> bool:
        """Whether a graph has products of 8 bits whose sums the processor would cut."""
        if not self._on_cpu:
            return False
        may = path.suffix != ".xml" or (path.is_file() and _EIGHT_BIT in path.read_bytes())
        return may and saturation.in_openvino()

    def _key(
        self, files: Sequence[Path], shapes: Shapes, edits: Sequence[Edit], precision: str
    ) -> str | None:
        """What a compiled graph is kept under; None where one of the edits allows no keeping."""
        import openvino

        keys = [edit.key for edit in edits]
        if self._cache is None or None in keys:
            return None
        device = "FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"
        return key_of(
            {
                "engine": openvino.get_version(),
                "device": [str(self._core.get_property(self.device, name)) for name in device],
                "instructions": os.environ.get("ONEDNN_MAX_CPU_ISA"),
                "precision": precision,
                "streams": self.streams,
                "files": [identity(file) for file in files],
                "shapes": sorted([name, *map(int, shape)] for name, shape in shapes.items()),
                "edits": keys,
            }
        )

    def _kept(self, cache: Cache, key: str, config: Mapping[str, Any]) -> Any:
        """The compiled model of an earlier run; None where there is none of use."""
        content = cache.read(key)
        if content is None:
            return None
        try:
            return self._core.import_model(content, self.device, {**self._config, **config})
        except RuntimeError:  # it is compiled anew then, and kept in its place
            return None


class OpenVinoGraph:
    """One compiled graph, its weights in memory once, its working memory once a stream.

    Calls from as many threads as it has streams are computed at once; further ones wait.
    request: the first of OpenVINO's, made on demand, one for each call under way; it also tells how
        long the operations of its last call took.
    """

    def __init__(self, compiled: Any) -> None:
        self._names = [set(port.names) for port in compiled.inputs]
        self._inputs = {name: port for port in compiled.inputs for name in port.names}
        self._outputs = [min(port.names, default=str(i)) for i, port in enumerate(compiled.outputs)]
        self._compiled = compiled
        self.request = compiled.create_infer_request()
        self._idle = [self.request]
        streams = _streams(compiled)
        self._has_one_stream = streams == 1
        self._streams = threading.Semaphore(streams)

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        check_fed(feeds, self._names)
        inputs = {self._inputs[name]: self._fit(name, value) for name, value in feeds.items()}
        batch = max(value.shape[0] for value in feeds.values() if value.ndim)
        with self._request() as request:
            try:
                if self._has_one_stream:
                    request.infer(inputs, share_inputs=True, share_outputs=True)
                else:
                    # infer() computes in the caller's thread: OpenVINO then deals the callers out
                    # among the streams by their order, busy or not.
                    request.start_async(inputs, share_inputs=True)
                    request.wait()
            except (RuntimeError, MemoryError) as error:
                raise EngineError(f"OpenVINO cannot compute it: {first_line(error)}") from error
            return {
                name: np.array(request.get_output_tensor(i).data[:batch], dtype=np.float32)
                for i, name in enumerate(self._outputs)
            }

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """A request that no other call has, as soon as a stream is free."""
        with self._streams:
            request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
            try:
                yield request
            finally:
                self._idle.append(request)

    def _fit(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        port = self._inputs[name]
        shape = port.partial_shape
        value = conform(value, port.element_type.to_dtype(), len(shape))
        if value.ndim and shape.is_static and shape[0].get_length() > len(value):
            # A graph fixed at a larger batch is given the same sample again.
            value = np.repeat(value, shape[0].get_length() // len(value), axis=0)
        return value


def _weights(graph: Path) -> Path:
    """The file of a graph's weights: beside an ONNX graph it is there where they are large."""
    return Path(f"{graph}_data") if graph.suffix == ".onnx" else graph.with_suffix(".bin")


def _streams(compiled: Any) -> int:
    """How many calls a compiled graph computes at once; one where its device does not say."""
    try:
        return max(1, int(compiled.get_property("NUM_STREAMS")))
    except (RuntimeError, TypeError, ValueError):
        return 1


def _import() -> Any:
    """The binding, ready for threads.

    Its first conversion of a number type fills a C++ static while it waits for Python's lock: two
    threads that do it at once can hang each other for ever. So it is done here, one at a time.
    """
    with _importing:
        telemetry.switch_off()
        import openvino

        openvino.Tensor(np.zeros(1, openvino.Type.f32.to_dtype()))
    return openvino


def native_precision(core: Any = None, device: str = "CPU") -> str:
    """What a device computes in by itself: "bf16" or "f16"; "f32" too where it does not say.

    core: an openvino.Core; None makes one.
    """
    core = core or _import().Core()
    try:
        own = str(core.get_property(device, "INFERENCE_PRECISION_HINT").to_string())
    except RuntimeError:
        return "f32"
    return own if _is_able(core, device, own) else "f32"


def _precision(core: Any, device: str, asked: str) -> str:
    """What to compute in. Raises EngineError where the device would only imitate what is asked."""
    own = native_precision(core, device)
    if asked == "auto":
        return own
    if asked not in ("f32", own) and not _is_able(core, device, asked):
        raise EngineError(
            Message(
                "{precision} is {0}, which {1} has not, and OpenVINO would imitate many times "
                "slower than f32: give auto, which is {2} here",
                shown(asked),
                device,
                own,
            )
        )
    if asked == "f16" != own:
        log.info("f16 may be slower here than %s, which OpenVINO takes by itself", own)
    return asked


def _is_able(core: Any, device: str, precision: str) -> bool:
    try:
        abilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError:  # of AUTO and other names for several devices
        return precision == "f32"
    return _ABILITIES.get(precision) in abilities


def _save(model: Any, file: Path) -> None:
    import openvino

    try:
        openvino.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(first_line(error)) from error


def _take_fractions(model: Any) -> None:
    """Let timesteps be fractions, as Karras sigmas make them.

    Exporters declare them int64, for openvino-genai's sake; the graph turns them to float at once.
    """
    import openvino

    for port in model.inputs:
        if port.names & _TIMESTEP_NAMES and port.element_type.is_integral():
            port.get_node().set_element_type(openvino.Type.f32)
            model.validate_nodes_and_infer_types()


def _reshape(model: Any, shapes: Shapes) -> None:
    """Fix the graph's shapes: static ones compile to faster code and less memory."""
    names = {name for port in model.inputs for name in port.names}
    unknown = shapes.keys() - names
    if unknown:
        raise EngineError(
            f"{model.friendly_name}: has no input {', '.join(sorted(unknown))}; "
            f"it has {', '.join(sorted(names))}: the graph is not of the expected kind"
        )
    wanted = {name: list(shape) for name, shape in shapes.items()}
    for port in model.inputs:
        if not port.names & shapes.keys() and port.partial_shape.is_dynamic:
            wanted[port.any_name] = [1] * len(port.partial_shape)
    try:
        model.reshape(wanted)
    except RuntimeError:
        if not _differs_in_batch_alone(model, shapes):
            raise


def _differs_in_batch_alone(model: Any, shapes: Shapes) -> bool:
    """Older exports are frozen at one shape; one frozen at a batch of 2 can still be used."""
    for name, shape in shapes.items():
        fixed = model.input(name).partial_shape
        if fixed.is_dynamic or list(fixed.to_shape())[1:] != list(shape)[1:]:
            return False
        if fixed.to_shape()[0] % shape[0]:
            return False
    return True
