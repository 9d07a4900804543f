"""What every engine does with what it is fed, and says of what went wrong."""

import numpy as np
import pytest

from pleinair.runtime.engines.protocol import Renamed, check_fed, conform, first_line
from pleinair.runtime.errors import EngineError


def test_a_renamed_graph_is_fed_by_its_own_names() -> None:
    graph = Renamed(lambda feeds: feeds, {"sample": "x"})
    assert graph({"sample": 1, "other": 2}) == {"x": 1, "other": 2}


def test_values_come_in_the_graph_s_type_and_rank() -> None:
    timestep = np.array(501)
    for rank in (0, 1, 2):
        found = conform(timestep, np.dtype(np.float32), rank)
        assert found.dtype == np.float32
        assert found.shape == (1,) * rank
        assert found.item() == 501
    sample = np.zeros((2, 4, 3), np.float32)[:, ::2]
    found = conform(sample, np.dtype(np.float16), 3)
    assert found.shape == (2, 2, 3)
    assert found.flags.c_contiguous
    assert found.dtype == np.float16


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Exception from src/core.cpp:1:\nCheck 'x' failed\n\n  no such device \n more", "no such"),
        ("Exception from src/core.cpp:1:", "Exception from"),
        ("", "RuntimeError"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_the_line_that_says_something(message: str, expected: str) -> None:
    found = first_line(RuntimeError(message))
    assert found.startswith(expected)
    assert len(found) <= 300
    assert "\n" not in found


@pytest.mark.parametrize(
    ("fed", "message"),
    [
        (["sample"], "wants an input t, which it is not given"),
        (["sample", "t", "other"], "has no input other; it has latents, sample, t"),
    ],
)
def test_what_is_not_fed_would_count_as_zeros(fed: list[str], message: str) -> None:
    inputs = [{"sample", "latents"}, {"t"}]
    check_fed({"latents": np.zeros(1), "t": np.zeros(1)}, inputs)
    with pytest.raises(EngineError, match=message):
        check_fed(dict.fromkeys(fed, np.zeros(1)), inputs)


def test_short_memory_says_what_to_do() -> None:
    for error in (MemoryError(), RuntimeError("can't alloc"), RuntimeError("std::bad_alloc")):
        assert "memory is short; paint smaller" in first_line(error)
    assert first_line(RuntimeError("bad shape")) == "bad shape"
