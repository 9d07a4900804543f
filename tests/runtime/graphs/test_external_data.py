"""ONNX graphs whose weights lie beside them, and such as point elsewhere."""

import os
from pathlib import Path

import numpy as np
import pytest

from loras import run
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.graphs import onnx_weights, protobuf
from pleinair.runtime.graphs.onnx_graph import OnnxGraph

onnx = pytest.importorskip("onnx")

links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
CHANGES = {"proj_in.weight": lambda old: old + 1, "proj_in.bias": lambda old: old + 2}


def graph(folder: Path, location: str, **entries: str) -> Path:
    """y = x W, whose W of sixteen ones lies where it is said."""
    folder.mkdir(exist_ok=True)
    held = onnx.TensorProto(
        name="onnx::MatMul_7",
        data_type=onnx.TensorProto.FLOAT,
        dims=[4, 4],
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in {"location": location, "offset": "0", "length": "64", **entries}.items():
        held.external_data.add(key=key, value=value)
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.FLOAT, [None, 4]) for name in "xy"]
    node = onnx.helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["y"], "/proj_in/MatMul")
    made = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [held])
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(made, opset_imports=opset, ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def numbers(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.ones((4, 4), "f4").tobytes())
    return path


def changed(path: Path) -> np.ndarray:
    feeds = {"x": np.eye(4, dtype="f4")}
    return run("onnxruntime", path, CHANGES, feeds)


@pytest.mark.parametrize("location", ["weights", "deep/weights"])
def test_weights_beside_a_graph_are_changed(location: str, tmp_path: Path) -> None:
    path = graph(tmp_path / "unet", location)
    numbers(path.parent / location)
    np.testing.assert_array_equal(changed(path), np.full((4, 4), 4))


@links
def test_a_cache_of_links_is_a_model(tmp_path: Path) -> None:
    """The hub keeps contents in one folder, and a model as links into it."""
    blobs = tmp_path / "blobs"
    made = graph(blobs, "model.onnx_data")
    numbers(blobs / "abc")
    made.rename(blobs / "def")
    snapshot = tmp_path / "snapshot" / "unet"
    snapshot.mkdir(parents=True)
    os.symlink(blobs / "def", snapshot / "model.onnx")
    os.symlink(blobs / "abc", snapshot / "model.onnx_data")
    made_of = onnx_weights.change(OnnxGraph.open(snapshot / "model.onnx"), CHANGES)
    (weight,) = made_of.weights.values()
    np.testing.assert_array_equal(weight, np.full((4, 4), 2))


ELSEWHERE = ["../secret", "{secret}", "link", "deep/../../secret", "/dev/zero", "", "absent", "."]


@links
@pytest.mark.parametrize("location", ELSEWHERE)
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    """As ONNX Runtime itself refuses them, where a LoRA makes us read them first."""
    secret = numbers(tmp_path / "secret")
    path = graph(tmp_path / "unet", location.format(secret=secret))
    (path.parent / "deep").mkdir()
    os.symlink(secret, path.parent / "link")
    with pytest.raises(AdapterError, match=r"model\.onnx.*(outside|leaves|missing)") as error:
        onnx_weights.change(OnnxGraph.open(path), CHANGES)
    assert "\n" not in str(error.value)
    with pytest.raises(AdapterError, match=r"outside|leaves|missing"):  # nor handed on
        OnnxGraph.open(path).hand_to(None)


@pytest.mark.parametrize(
    "entries",
    [{"offset": "-4"}, {"offset": "1000"}, {"offset": "9" * 5000}, {"offset": "x"}],
    ids=["negative", "far", "long", "text"],
)
def test_offsets_that_lie_are_refused(entries: dict[str, str], tmp_path: Path) -> None:
    path = graph(tmp_path / "unet", "weights", **entries)
    numbers(path.parent / "weights")
    with pytest.raises(AdapterError, match=r"model\.onnx"):
        onnx_weights.change(OnnxGraph.open(path), CHANGES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        protobuf.integer(7, 10**12),  # a number where the graph belongs
        protobuf.field(7, protobuf.integer(1, 2**40)),  # and where a node does
        protobuf.field(7, protobuf.field(1, protobuf.integer(4, 2**40))),  # and a node's operator
        protobuf.field(7, protobuf.field(5, protobuf.integer(8, 2**40))),  # and a weight's name
        protobuf.field(7, protobuf.field(5, protobuf.integer(13, 2**40))),
        protobuf.field(7, b"\xff" * 100_000),  # a number of any length
        protobuf.field(7, protobuf.field(5, protobuf.field(8, b"\xff\xfe"))),  # no text
    ],
    ids=["empty", "graph", "node", "operator", "name", "external", "long", "bytes"],
)
def test_damaged_messages_are_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(AdapterError, match=r"x\.onnx: not a whole ONNX graph"):
        onnx_weights.shapes(tmp_path / "x.onnx")
    with pytest.raises(AdapterError, match="not a whole ONNX graph"):
        OnnxGraph.open(tmp_path)
