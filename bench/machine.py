"""Where a measurement was made: without it a figure means nothing."""

import argparse
import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pleinair.runtime.engines.cores import physical_cores
from pleinair.runtime.speed.machine import cpu_name, features

_LIBRARIES = (
    "pleinair",
    "numpy",
    "openvino",
    "openvino-genai",
    "openvino-tokenizers",
    "onnxruntime",
    "torch",
    "diffusers",
    "transformers",
    "optimum-intel",
    "optimum-onnx",
    "stable-diffusion-cpp-python",
)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads, by default as many as the machine has physical cores."""
    parser.add_argument(
        "--threads", type=int, default=physical_cores(), help="default: physical cores"
    )


def facts() -> dict[str, Any]:
    """CPU, what it computes in, cores, system, library versions, and how busy it is right now."""
    return {
        "cpu": cpu_name(),
        "features": features(),
        "openvino": _capabilities(),
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "architecture": platform.machine(),
        "physical_cores": physical_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": versions(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def sentence(facts: dict[str, Any]) -> str:
    """The facts for the head of a table."""
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    load = facts["load_average"]
    busy = f" Load average at the start: {load[0]:.1f}." if load else ""
    limit = facts["onednn_max_cpu_isa"]
    limited = f", held to {limit} by ONEDNN_MAX_CPU_ISA" if limit else ""
    return (
        f"{facts['cpu']} ({facts['architecture']}), {facts['physical_cores']} cores, with "
        f"{', '.join(facts['features']) or 'features unknown'}{limited}; OpenVINO computes in "
        f"{', '.join(facts['openvino']) or 'nothing: it is not installed'}. "
        f"{facts['system']}, Python {facts['python']}, {libraries}.{busy}"
    )


def _capabilities() -> list[str]:
    """The number types that OpenVINO finds its CPU device good for."""
    if importlib.util.find_spec("openvino") is None:
        return []
    import openvino

    found = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for name in found if name.startswith(("FP", "BF", "INT", "BIN"))]


def versions() -> dict[str, str]:
    """Library -> version, of those that are in this environment."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
