"""OpenVINO: the CPU's own engine here, and Intel's GPUs and NPUs by the same names."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..graphs.edit import Edit
from ..graphs.weights import ChangedWeights
from . import telemetry
from .cache import Cache, identity, key_of
from .heap import give_back
from .mapped import read_once
from .merged import MergedGraphs
from .protocol import Feeds, Shapes, check_fed, conform, first_line

_importing = threading.Lock()
_TIMESTEP_NAMES = {"timestep", "t"}


class OpenVinoEngine:
    """Compiles OpenVINO IR, or ONNX, for an OpenVINO device.

    device: an OpenVINO device name; any case.
    threads: CPU threads; None leaves it to OpenVINO (one a physical core).
    cache_dir: compiled models are kept there and found again; None keeps none.
    inference_precision: "f32" computes in full precision; "bf16", "f16" or None (the device's own
        choice) may trade digits for time where the hardware has them.
    """

    name = "openvino"

    def __init__(
        self,
        device: str = "CPU",
        format: str = "openvino",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
        inference_precision: str | None = "f32",
    ) -> None:
        openvino = _import()
        self.device = device.upper()
        self.format = format
        self._core = openvino.Core()
        self._config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = threads
        if inference_precision is not None:
            self._config["INFERENCE_PRECISION_HINT"] = inference_precision
        self._cache: Cache | None = None
        self._merged: MergedGraphs | None = None
        family = self.device.partition(":")[0].partition(".")[0]
        present = {name.partition(".")[0] for name in self._core.available_devices}
        if family not in present | {"AUTO", "HETERO", "MULTI", "BATCH"}:
            raise EngineError(
                f"OpenVINO finds no device {device!r} here; it finds: {', '.join(sorted(present))}"
            )
        if cache_dir is not None and family != "CPU":
            self._config["CACHE_DIR"] = str(cache_dir)  # theirs: kernels are in it too
        elif cache_dir is not None and "WEIGHTS_PATH" in self._core.get_property(
            self.device, "SUPPORTED_PROPERTIES"
        ):
            self._cache = Cache(Path(cache_dir))
            self._merged = MergedGraphs(Path(cache_dir) / "merged")

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> "OpenVinoGraph":
        try:
            path, edits = self._with_weights(path, edits)
            weights = path.with_suffix(".bin")
            with read_once(weights):
                key = self._key([path, weights], shapes, edits) if path.suffix == ".xml" else None
                if self._cache is None or key is None:
                    return OpenVinoGraph(self.compiled(self.model(path, shapes, edits)))
                config = {"CACHE_MODE": "OPTIMIZE_SIZE", "WEIGHTS_PATH": str(weights)}
                model = self._kept(self._cache, key, config)
                if model is None:
                    model = self.compiled(self.model(path, shapes, edits), config)
                    self._cache.write(key, model.export_model().getvalue())
                return OpenVinoGraph(model)
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
            with read_once(weights), read_once(exact):
                _save(changed.openvino(self._core.read_model(path)), file)
            give_back()

        merged = self._merged.graph(key, weights.stat().st_size, write)
        if merged is None:
            return path, edits
        return merged, [edit for edit in edits if edit is not changed]

    def model(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Any:
        """The openvino.Model that `compile` compiles, for those who only look at it."""
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
        config = {**self._config, **(properties or {})}
        return self._core.compile_model(model, self.device, config)

    def _key(self, files: Sequence[Path], shapes: Shapes, edits: Sequence[Edit]) -> str | None:
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
                "precision": self._config.get("INFERENCE_PRECISION_HINT"),
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
    """One compiled graph with one request, so that its working memory exists once.

    Calls from several threads take turns: each uses all cores anyway.
    request: OpenVINO's, which also tells how long the operations of the last call took.
    """

    def __init__(self, compiled: Any) -> None:
        self._names = [set(port.names) for port in compiled.inputs]
        self._inputs = {name: port for port in compiled.inputs for name in port.names}
        self._outputs = [min(port.names, default=str(i)) for i, port in enumerate(compiled.outputs)]
        self.request = compiled.create_infer_request()
        self._turn = threading.Lock()

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        check_fed(feeds, self._names)
        inputs = {self._inputs[name]: self._fit(name, value) for name, value in feeds.items()}
        batch = max(value.shape[0] for value in feeds.values() if value.ndim)
        with self._turn:
            try:
                results = self.request.infer(inputs, share_inputs=True, share_outputs=True)
            except (RuntimeError, MemoryError) as error:
                raise EngineError(f"OpenVINO cannot compute it: {first_line(error)}") from error
            return {
                name: np.array(results[i][:batch], dtype=np.float32)
                for i, name in enumerate(self._outputs)
            }

    def _fit(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        port = self._inputs[name]
        shape = port.partial_shape
        value = conform(value, port.element_type.to_dtype(), len(shape))
        if value.ndim and shape.is_static and shape[0].get_length() > len(value):
            # A graph fixed at a larger batch is given the same sample again.
            value = np.repeat(value, shape[0].get_length() // len(value), axis=0)
        return value


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
