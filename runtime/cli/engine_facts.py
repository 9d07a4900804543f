"""What an engine says of this machine. Loading one may end the process: ask in another."""

from ..engines import telemetry
from ..speed.eight_bits import described

_NUMBERS = ("FP32", "BF16", "FP16", "INT8")


def openvino() -> str:
    telemetry.switch_off()
    import openvino

    core = openvino.Core()
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    numbers = ", ".join(name.lower() for name in _NUMBERS if name in can)
    devices = ", ".join(core.available_devices)
    return f"{devices}; computes in {numbers}; 8-bit graphs {described('openvino')}"


def onnxruntime() -> str:
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    return f"{providers}; 8-bit graphs {described('onnxruntime')}"
