"""Fixtures of a kind of model: what diffusers and what we paint from one tiny checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pleinair.runtime import StableDiffusionPipeline


def side_by_side(name: str, make: Callable[[Path], object], their_class: str) -> tuple[Any, ...]:
    """The fixtures `checkpoint`, `reference`, `folder` and `pipe`; a module binds them so.

    make: writes the checkpoint to the folder it is given.
    their_class: diffusers' pipeline, of which `reference` is one.
    `folder` is the export for OpenVINO.
    """

    @pytest.fixture(scope="module")
    def checkpoint(made: Any) -> Path:
        return made(f"checkpoint/{name}", make)

    @pytest.fixture(scope="module")
    def reference(checkpoint: Path) -> Any:
        import diffusers

        pipe = getattr(diffusers, their_class).from_pretrained(checkpoint)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @pytest.fixture(scope="module")
    def folder(both: Any) -> Path:
        return both(name, make, "openvino")[1]

    @pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
    def pipe(request: pytest.FixtureRequest, both: Any) -> StableDiffusionPipeline:
        _, folder = both(name, make, request.param)
        return StableDiffusionPipeline.from_pretrained(
            folder, engine=request.param, device="cpu", profile="exact"
        )

    return checkpoint, reference, folder, pipe
