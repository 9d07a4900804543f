"""Facts of the machine, as the head of a table has them."""

from importlib.metadata import version

import pytest

from pleinair.bench import machine
from pleinair.runtime.speed.machine import features


def test_head_of_a_table_names_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    said = machine.sentence(machine.facts())
    assert f"openvino {version('openvino')}" in said
    assert "ONEDNN" not in said


def test_the_processor_stands_above_every_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 or none is a factor of two, which no name of a processor tells."""
    import openvino

    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    said = machine.sentence(machine.facts())
    assert all(name in said for name in features())
    assert "held to AVX2 by ONEDNN_MAX_CPU_ISA" in said
    capable = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert ("BF16" in said) == ("BF16" in capable)
    assert "EXPORT_IMPORT" not in said
