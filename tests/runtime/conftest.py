"""An engine by its name, and what it compiles."""

from pathlib import Path
from typing import Any

import pytest
from engines import ENGINES


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Any:
    """For tests with `@pytest.mark.parametrize("engine", ENGINES, indirect=True)`."""
    return ENGINES[request.param]()


@pytest.fixture
def file(engine: Any, request: pytest.FixtureRequest) -> Path:
    """The tiny model's UNet in that engine's format."""
    name = {"openvino": "openvino_model.xml", "onnx": "model.onnx"}[engine.format]
    return request.getfixturevalue(f"exported_{engine.format}") / "unet" / name
