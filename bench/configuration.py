"""What `speed` varies: every combination of engines, devices, precisions, ways, sizes and so on."""

import importlib.util
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .way import Way


@dataclass(frozen=True)
class Configuration:
    """One combination; batch: pictures a call; precision: None is the way's own."""

    engine: str
    device: str
    precision: str | None
    way: Way
    size: tuple[int, int]
    steps: int
    guidance: float
    batch: int

    def words(self) -> dict[str, str]:
        """Axis -> what to call the value on it."""
        return {
            "engine": self.engine,
            "device": self.device,
            "precision": self.precision or "",
            "way": self.way.name,
            "size": "x".join(map(str, self.size)),
            "steps": f"{self.steps} steps",
            "guidance": f"guidance {self.guidance:g}",
            "batch": f"{self.batch} a call",
        }

    def job(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """A job of `painting.paint`; shared: what is the same for all configurations."""
        return {
            **shared,
            "engine": self.engine,
            "device": self.device,
            "precision": self.precision,
            "way": self.way.name,
            "width": self.size[0],
            "height": self.size[1],
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "num_images_per_prompt": self.batch,
        }

    @property
    def computes(self) -> tuple[Any, ...]:
        """What its arithmetic depends on: not on who does it."""
        return self.way.name, self.size, self.steps, self.guidance, self.batch

    def peak(self, int8: bool) -> str:
        """The name of the peak that its graphs are held against."""
        return f"{self.engine}, {self.device}, {'int8' if int8 else self.computing}"

    @property
    def computing(self) -> str:
        """What floating point computes in; "auto" is the engine's own choice."""
        own = self.way.computing
        return "f32" if self.engine == "onnxruntime" else self.precision or own


def combined(
    engines: Sequence[str],
    devices: Sequence[str] | None,
    precisions: Sequence[str] | None,
    ways: Sequence[Way],
    sizes: Sequence[tuple[int, int]],
    steps: Sequence[int],
    guidances: Sequence[float],
    batches: Sequence[int],
) -> dict[str, Configuration]:
    """Name -> configuration; a name has the engine, the way, and each axis that varies.

    devices: None is those that each engine finds here. precisions: None is each way's own, as it
    is with ONNX Runtime on a CPU, which computes in the one that a graph is in.
    """
    found = []
    for engine in dict.fromkeys(engines):
        for device in devices or present(engine):
            single = engine == "onnxruntime" and device.lower() == "cpu"
            own = [None] if precisions is None or single else precisions
            axes = (own, ways, sizes, steps, guidances, batches)
            found += [Configuration(engine, device, *values) for values in itertools.product(*axes)]
    return _named(found)


def _named(configurations: Sequence[Configuration]) -> dict[str, Configuration]:
    words = [configuration.words() for configuration in configurations]
    varied = {axis for axis in words[0] if len({one[axis] for one in words}) > 1}
    shown = varied | {"engine", "way"}
    names = (", ".join(one[axis] for axis in one if axis in shown and one[axis]) for one in words)
    return dict(zip(names, configurations, strict=True))


def present(engine: str) -> list[str]:
    """The devices that an engine finds on this machine, the CPU first."""
    if engine == "onnxruntime":
        if importlib.util.find_spec("onnxruntime") is None:
            return ["cpu"]
        import onnxruntime

        cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        return ["cpu", "cuda"] if cuda else ["cpu"]
    import openvino

    found = [name.partition(".")[0].lower() for name in openvino.Core().available_devices]
    return list(dict.fromkeys(["cpu", *found]))
