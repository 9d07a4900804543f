"""What a denoiser's graph takes, told from its file, and held against what it is given."""

from pathlib import Path

import pytest

from fakes import POCKET
from pleinair.runtime.errors import BundleError
from pleinair.runtime.graphs import ir, ports
from pleinair.runtime.model import inputs

GIVEN = {"sample": (1, 4, 8, 8), "encoder_hidden_states": (1, 77, 128)}
WHOLE = {"sample": "?,4,?,?", "timestep": "", "encoder_hidden_states": "?,?,128"}


def graph(folder: Path, **shapes: str | None) -> Path:
    layers = "".join(
        f'<layer name="{name}" type="Parameter"><data shape="{shape}" element_type="f32"/>'
        f'<output><port names="{name}"/></output></layer>'
        for name, shape in {**WHOLE, **shapes}.items()
        if shape is not None
    )
    file = folder / "openvino_model.xml"
    file.write_text(f"<net><layers>{layers}</layers></net>", encoding="utf-8")
    return file


def check(file: Path) -> None:
    inputs.check(file, GIVEN, timestep="timestep", sample="sample")


def test_both_formats_say_the_same() -> None:
    found = [ports.inputs(POCKET / "unet" / name) for name in ("openvino_model.xml", "model.onnx")]
    assert found[0]["sample"] == found[1]["sample"] == (None, 4, None, None)
    assert found[0].keys() == found[1].keys() == WHOLE.keys()


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"sample": "2,4,64,64", "timestep": "2"},  # frozen at a batch of two
        {"sample": "1..8,4,?,?", "timestep": "1"},
        {"encoder_hidden_states": "..."},
        {"timestep": "1,1"},
        dict.fromkeys(WHOLE),  # none that can be read: the engine says so
    ],
)
def test_what_can_be_painted_with(tmp_path: Path, shapes: dict[str, str | None]) -> None:
    check(graph(tmp_path, **shapes))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"timestep": "5"}, r"takes a timestep of shape \[5\], not one number"),
        ({"timestep": "1,3"}, r"takes a timestep of shape \[1, 3\], not one number"),
        ({"timestep": None}, "has no input timestep; it has encoder_hidden_states, sample"),
        ({"sample": "?,9,?,?"}, r"input sample has the shape \[any, 9, any, any\], not \[1, 4, 8"),
        ({"sample": "?,4,?"}, "input sample has the shape"),
        ({"encoder_hidden_states": "?,?,768"}, "input encoder_hidden_states has the shape"),
        ({"timestep_cond": "?,256"}, "wants timestep_cond, which this kind of model is not given"),
    ],
)
def test_what_cannot(tmp_path: Path, shapes: dict[str, str | None], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        check(graph(tmp_path, **shapes))


def test_a_file_of_beginnings_is_read_in_one_pass() -> None:
    """Each tag is looked at once, however many of them have no end."""
    assert ir.inputs(b'<layer type="Parameter"> x' * 100_000) == {}
    assert list(ir.constants(b"<data offset=" * 100_000)) == []


def test_what_is_no_onnx_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x01\x3a\xff")
    with pytest.raises(BundleError, match=r"model\.onnx: not a whole ONNX graph"):
        ports.inputs(tmp_path / "model.onnx")
