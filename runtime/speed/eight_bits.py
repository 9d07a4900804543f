"""What becomes of 8-bit graphs on this processor, by each engine."""

import platform

from ..engines import saturation

_ARM = ("arm64", "aarch64")


def gains_nothing(engine: str, device: str = "CPU") -> bool:
    """Whether an engine computes the products of 8-bit graphs in floating point all the same.

    OpenVINO does on Arm: the Compute Library's convolutions in 8 bits give rounded results alone,
    its products of matrices have one scale for all channels, and our graphs have neither.
    """
    return engine == "openvino" and device == "CPU" and platform.machine().lower() in _ARM


def described(engine: str) -> str:
    """In words, for the CPU; the engine has to be installed."""
    if gains_nothing(engine):
        return "are not taken: the float ones are as fast on Arm"
    saturates = {"openvino": saturation.in_openvino, "onnxruntime": saturation.in_onnxruntime}
    if not saturates[engine]():
        return "as they are"
    remedy = {"openvino": "weights in coarser steps", "onnxruntime": "slower, exact sums"}
    return f"with {remedy[engine]}, for the processor has no VNNI"
