"""What ONNX Runtime is given to read."""

from collections.abc import Sequence
from typing import Any

import onnxruntime
import pytest

from fakes import POCKET
from pleinair.runtime.engines import saturation
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.graphs.edit import Edit
from pleinair.runtime.graphs.shared_rows import SharedRows


@pytest.mark.parametrize("edits", [(), (SharedRows(("sample",)),)])
def test_a_graph_that_no_edit_changes_is_read_from_its_file(
    edits: Sequence[Edit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would lie in memory beside the session's own copy of them."""
    saturation.in_onnxruntime()  # which opens a session of its own, once
    given: list[Any] = []
    session = onnxruntime.InferenceSession

    def spy(model: Any, *arguments: Any) -> Any:
        given.append(model)
        return session(model, *arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    path = POCKET / "unet" / "model.onnx"
    OnnxRuntimeEngine("cpu").compile(path, {}, edits)
    assert given == [str(path)]


@pytest.mark.parametrize(("saturates", "expected"), [(True, "1"), (False, None)])
def test_sums_are_exact_where_they_would_saturate(
    saturates: bool, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a session's setting, whose name ONNX Runtime's header states."""
    given: dict[str, str] = {}
    add = onnxruntime.SessionOptions.add_session_config_entry

    def noted(options: Any, name: str, value: str) -> None:
        given[name] = value
        add(options, name, value)

    monkeypatch.setattr(onnxruntime.SessionOptions, "add_session_config_entry", noted)
    monkeypatch.setattr(saturation, "in_onnxruntime", lambda: saturates)
    OnnxRuntimeEngine("cpu").compile(POCKET / "vae_decoder_tiny" / "model.onnx", {})
    assert given.get("session.x64quantprecision") == expected


def test_threads_are_for_all_streams_together() -> None:
    """Of ONNX Runtime a session has threads beside those of its callers."""
    opened = {
        (threads, streams): OnnxRuntimeEngine("cpu", threads, streams=streams).session_threads
        for threads, streams in [(None, 1), (4, 1), (4, 2), (4, 4), (1, 1)]
    }
    assert list(opened.values()) == [None, 4, 3, 1, 1]
