"""Graphs that several checkpoints have in common, the VAE above all, traced once a run."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from checkpoints import values_of
from pleinair.runtime.files import replacing

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
Traced = dict[tuple[str, Path], Path]
"""By format and a graph's folder: where its files were copied from."""


def share(made: Callable[[str, Make], Path], patch: pytest.MonkeyPatch) -> None:
    """Let exports copy a graph that another one has traced, of the same module, weight for weight.

    It is compared with its module once: the next export has the figures of the first.
    """
    from pleinair.export import conversion, onnx_model, openvino_ir

    if openvino_ir.write.__name__ == _copying.__name__:
        return  # a test that shares them is making a folder that others share
    traced: Traced = {}
    for backend in (openvino_ir, onnx_model):
        patch.setattr(backend, "write", _copying(made, backend.__name__, backend.write, traced))
    check = conversion.Conversion._check
    patch.setattr(conversion.Conversion, "_check", _checked_once(check, traced))


@contextmanager
def shared(made: Callable[[str, Make], Path]) -> Iterator[None]:
    """`share` for the exports of a block, such as a module's fixture makes."""
    with pytest.MonkeyPatch.context() as patch:
        share(made, patch)
        yield


def _copying(
    made: Any, backend: str, write: Callable[..., None], traced: Traced
) -> Callable[..., None]:
    def copying(graph: Any, folder: Path, half: bool) -> None:
        name = f"traced/{backend}-{graph.name}-{_digest(graph, half)}"
        source = made(name, lambda new: write(graph, new, half))
        shutil.copytree(source, folder, dirs_exist_ok=True)
        traced[backend, folder] = source

    copying.__name__ = _copying.__name__
    return copying


def _checked_once(check: Callable[..., Any], traced: Traced) -> Callable[..., Any]:
    from pleinair.export.formats import backend

    def checked(conversion: Any, name: str, trials: Any) -> dict[str, Any]:
        sources = {
            form: traced[backend(form).__name__, conversion.target / name]
            for form in conversion.request.formats
        }
        notes = {form: source.with_name(f"{source.name}.json") for form, source in sources.items()}
        if all(note.exists() for note in notes.values()):
            measured = {form: json.loads(note.read_text()) for form, note in notes.items()}
            if name in conversion.rounding:
                measured["rounding"] = conversion.rounding[name].as_json()
            return measured
        measured = check(conversion, name, trials)
        for form, note in notes.items():
            with replacing(note) as partial:
                partial.write_text(json.dumps(measured[form]))
        return dict(measured)

    return checked


def _digest(graph: Any, half: bool) -> str:
    """Of all that the files of a graph depend on."""
    networks = [part for part in graph.module.children() if hasattr(part, "config")]
    digest = hashlib.sha256(repr([half, graph.inputs, graph.outputs]).encode())
    for network in networks:
        config = network.config
        config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        told = {k: v for k, v in config.items() if k not in _BESIDE and not k.startswith("_")}
        digest.update(repr([type(graph.module), sorted(told.items())]).encode())
        for name, value in sorted(values_of(network).items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
