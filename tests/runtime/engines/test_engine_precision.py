"""What an engine computes in: its own choice by the device's features, and what it refuses."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openvino
import pytest

from fakes import POCKET, model_folder, opened
from pleinair.runtime import Pipeline
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.openvino import OpenVinoEngine, native_precision
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.graphs.float32 import EXACT
from pleinair.runtime.options.groups import PRECISIONS
from pleinair.runtime.speed.profiles import Profile

XEON = ("bf16", ["FP32", "BF16", "FP16", "INT8"])
ZEN_3 = ("f32", ["FP32", "INT8"])
EMULATING = ("bf16", ["FP32", "INT8"])  # what it would take by itself, but not compute in
ARM = ("f16", ["FP32", "FP16", "INT8"])
OLD_ARM = ("f32", ["FP32", "INT8"])


class Core:
    """An openvino.Core of another machine."""

    available_devices = ("CPU",)

    def __init__(self, own: str, abilities: list[str]) -> None:
        self.own, self.abilities = own, abilities

    def get_property(self, device: str, name: str) -> Any:
        if device == "AUTO":
            raise RuntimeError("AUTO has no such property")
        if name == "INFERENCE_PRECISION_HINT":
            return SimpleNamespace(to_string=lambda: self.own)
        return {"OPTIMIZATION_CAPABILITIES": self.abilities, "SUPPORTED_PROPERTIES": []}[name]


def on(machine: Any, monkeypatch: pytest.MonkeyPatch, precision: str, device: str = "cpu") -> str:
    """What an engine computes in on a machine."""
    monkeypatch.setattr(openvino, "Core", lambda: Core(*machine))
    return OpenVinoEngine(device, precision=precision).precision


@pytest.mark.parametrize(
    ("machine", "native"),
    [(XEON, "bf16"), (ZEN_3, "f32"), (EMULATING, "f32"), (ARM, "f16"), (OLD_ARM, "f32")],
)
def test_auto_is_the_device_s_own(
    machine: Any, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native_precision(Core(*machine)) == native
    assert on(machine, monkeypatch, "auto") == native
    assert on(machine, monkeypatch, "f32") == "f32"
    assert on(machine, monkeypatch, native) == native


@pytest.mark.parametrize(
    ("machine", "precision"),
    [(ZEN_3, "bf16"), (EMULATING, "bf16"), (ARM, "bf16"), (ZEN_3, "f16"), (OLD_ARM, "f16")],
)
def test_what_a_processor_lacks_is_refused_in_one_line(
    machine: Any, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=f"precision is {precision}, which CPU has not") as caught:
        on(machine, monkeypatch, precision)
    assert "give auto" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_f16_on_x86_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pleinair"):
        assert on(XEON, monkeypatch, "f16") == "f16"
    assert "f16 may be slower here than bf16" in caplog.text


def test_a_name_for_several_devices_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(XEON, monkeypatch, "auto", "AUTO") == "f32"


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_onnx_runtime_has_float32(precision: str) -> None:
    for known in ("auto", "f32"):
        assert OnnxRuntimeEngine("cpu", precision=known).precision == "f32"
    with pytest.raises(
        EngineError, match=f"precision is {precision}; ONNX Runtime computes in f32"
    ):
        OnnxRuntimeEngine("cpu", precision=precision)


@pytest.mark.parametrize(
    ("profile", "asked", "found"),
    [
        ("exact", None, "f32"),
        ("native", None, "auto"),
        ("balanced", None, "auto"),
        ("fast", None, "auto"),
        ("exact", "bf16", "bf16"),
        ("fast", "f32", "f32"),
        ("native", "full", "f32"),
        ("exact", "autocast", "auto"),
    ],
)
def test_what_is_given_wins_over_the_profile(profile: str, asked: str | None, found: str) -> None:
    assert Profile.of(profile).computing(asked) == found


def test_unknown_words_are_one_line() -> None:
    with pytest.raises(SettingError, match=r"precision 'bf166' is unknown.*did you mean bf16\?"):
        Pipeline.from_pretrained(POCKET, precision="bf166")
    with pytest.raises(SettingError, match="precision"):
        Pipeline.from_pretrained(POCKET, precision=32)
    with pytest.raises(SettingError, match=r"an earlier version's name.*: give precision$"):
        Pipeline.from_pretrained(POCKET, inference_precision="f32")
    assert set(PRECISIONS) == {"auto", "f32", "bf16", "f16"}


def test_text_encoders_and_the_checker_are_exact(tmp_path: Path) -> None:
    pipe = opened(model_folder(tmp_path / "tree"))
    pipe.engine.precision = "bf16"
    pipe("boat", num_inference_steps=1, width=64, height=64)
    exact = {part for part, _, edits in pipe.engine.compiled if EXACT in edits}
    assert exact == {"text_encoder"}
    assert {part for part, *_ in pipe.engine.compiled} > exact
    assert "safety_checker" in pipe.parts.exact
    pipe.engine.precision = "f32"
    pipe.engine.compiled.clear()
    pipe("a boat " * 80, num_inference_steps=1, width=72, height=64)
    assert not any(EXACT in edits for *_, edits in pipe.engine.compiled)
