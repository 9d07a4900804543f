"""8-bit graphs on processors that are not this one."""

import logging
import platform
from pathlib import Path

import pytest

from fakes import model_folder
from pleinair.runtime.engines import saturation
from pleinair.runtime.engines.protocol import Engine
from pleinair.runtime.model.bundle import Bundle
from pleinair.runtime.speed import eight_bits
from pleinair.runtime.speed.profiles import Profile


class OfEngine:
    format, streams, threads = "openvino", 1, None

    def __init__(self, name: str, device: str = "CPU") -> None:
        self.name, self.device = name, device

    compile = Engine.compile


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ARM64"])
def test_on_arm_openvino_takes_float_graphs(
    machine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And says so in a line; LoRA files are welcome then, and 8-bit graphs need not be there."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with caplog.at_level(logging.INFO, "pleinair"):
        balanced = Profile.of("balanced").on(OfEngine("openvino"))
    assert balanced.files(Bundle.open(model_folder(tmp_path / "tree")), "openvino", "unet") == {}
    assert balanced.name == "balanced"
    (line,) = caplog.messages
    assert line.startswith("profile balanced takes the float graphs here: OpenVINO gains nothing")
    assert Profile.of("fast").on(OfEngine("openvino")).reuse == Profile.of("fast").reuse


@pytest.mark.parametrize(
    ("machine", "engine"),
    [
        ("x86_64", OfEngine("openvino")),
        ("aarch64", OfEngine("onnxruntime")),
        ("arm64", OfEngine("openvino", "GPU")),
    ],
)
def test_elsewhere_profiles_are_as_they_are(
    machine: str, engine: OfEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for name in ("exact", "balanced", "fast"):
        assert Profile.of(name).on(engine) is Profile.of(name)


def test_the_words_of_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(saturation, "in_openvino", lambda: True)
    monkeypatch.setattr(saturation, "in_onnxruntime", lambda: False)
    found = "with weights in coarser steps, for the processor has no VNNI"
    assert eight_bits.described("openvino") == found
    assert eight_bits.described("onnxruntime") == "as they are"
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert eight_bits.described("openvino").startswith("are not taken")
