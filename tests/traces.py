"""Graphs that several checkpoints have in common, the VAE above all, traced once a run."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Of a network's config what its graph does not depend on.
_BESIDE = {
    "scaling_factor",
    "shift_factor",
    "latents_mean",
    "latents_std",
    "force_upcast",
    "sample_size",
    "transformers_version",
}

Make = Callable[[Path], object]


def share(made: Callable[[str, Make], Path], patch: pytest.MonkeyPatch) -> None:
    """Let exports copy a graph that another one has traced, of the same module, weight for weight.

    They still compare every graph with its module, those copied too.
    """
    from pleinair.export import onnx_model, openvino_ir

    for backend in (openvino_ir, onnx_model):
        patch.setattr(backend, "write", _copying(made, backend.__name__, backend.write))


def _copying(made: Any, backend: str, write: Callable[..., None]) -> Callable[..., None]:
    def copying(graph: Any, folder: Path, half: bool) -> None:
        name = f"traced/{backend}-{graph.name}-{_digest(graph, half)}"
        shutil.copytree(made(name, lambda new: write(graph, new, half)), folder, dirs_exist_ok=True)

    return copying


def _digest(graph: Any, half: bool) -> str:
    """Of all that the files of a graph depend on."""
    from pleinair.export.stored_weight import StoredWeight

    networks = [part for part in graph.module.children() if hasattr(part, "config")]
    digest = hashlib.sha256(repr([half, graph.inputs, graph.outputs]).encode())
    for network in networks:
        config = network.config
        config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        told = {k: v for k, v in config.items() if k not in _BESIDE and not k.startswith("_")}
        digest.update(repr([type(graph.module), sorted(told.items())]).encode())
        for name, value in sorted(network.state_dict(keep_vars=True).items()):
            values = value.read() if isinstance(value, StoredWeight) else value.detach()
            digest.update(name.encode())
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
