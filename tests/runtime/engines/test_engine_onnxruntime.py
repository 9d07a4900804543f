"""What ONNX Runtime is given to read."""

from collections.abc import Sequence
from typing import Any

import onnxruntime
import pytest

from fakes import POCKET
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.graphs.edit import Edit
from pleinair.runtime.graphs.shared_rows import SharedRows


@pytest.mark.parametrize("edits", [(), (SharedRows(("sample",)),)])
def test_a_graph_that_no_edit_changes_is_read_from_its_file(
    edits: Sequence[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would lie in memory beside the session's own copy of them."""
    given: list[Any] = []
    session = onnxruntime.InferenceSession

    def spy(model: Any, *arguments: Any) -> Any:
        given.append(model)
        return session(model, *arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    path = POCKET / "unet" / "model.onnx"
    OnnxRuntimeEngine("cpu").compile(path, {}, edits)
    assert given == [str(path)]
