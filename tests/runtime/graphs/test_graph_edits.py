"""Edits of graphs: their keys, and what they make of a smallest graph and of pocket's."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ENGINES

from fakes import POCKET
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.graphs.residuals import MIDDLE, Residuals, names
from pleinair.runtime.graphs.shared_rows import SharedRows
from pleinair.runtime.graphs.upsampling import TransposedUpsamplers
from pleinair.runtime.graphs.weights import ChangedWeights, shapes

FILES = {"openvino": "openvino_model.xml", "onnx": "model.onnx"}
UNET = {"sample": (2, 4, 4, 6), "encoder_hidden_states": (2, 5, 128)}
# What comes down three levels of a layer each: conv_in, three layers, two downsamplers.
RESIDUALS = {
    name: (2, width, rows, rows * 3 // 2 if rows > 1 else 2)
    for name, width, rows in zip(
        names(6), [48, 48, 48, 80, 80, 112, 112], [4, 4, 2, 2, 1, 1, 1], strict=True
    )
}
both = pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])


def unet(engine: Any) -> Path:
    return POCKET / "unet" / FILES[engine.format]


@functools.cache
def unedited(engine: str) -> np.ndarray:
    """What the UNet itself says of `feeds()`."""
    made = ENGINES[engine]()
    (expected,) = made.compile(unet(made), UNET)(feeds()).values()
    return expected


def feeds(rows: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    made = {name: random.normal(size=shape).astype(np.float32) for name, shape in UNET.items()}
    made["sample"] = np.repeat(made["sample"][:1], rows, axis=0)
    return {**made, "timestep": np.array(501)}


def test_keys_are_json_and_tell_edits_apart() -> None:
    edits = [
        Cut(0, shallow=False),
        Cut(0, shallow=True),
        Cut(1, shallow=True),
        SharedRows(("sample",)),
        SharedRows(("sample", "timestep")),
        Residuals({"a": (1, 2, 3, 4)}),
        Residuals({"a": (1, 2, 3, 5)}),
        TransposedUpsamplers(),
    ]
    keys = [json.dumps(edit.key) for edit in edits]
    assert len(set(keys)) == len(keys)
    assert SharedRows(("a", "b")).key == SharedRows(("b", "a")).key
    assert Residuals({"a": (1,), "b": (2,)}).key == Residuals({"b": [2], "a": [1]}).key
    assert ChangedWeights({}).key is None  # what is in no file cannot be found again


# The smallest graph that two rows have something in common in.


def smallest(batch: int, *, dynamic_shape: bool = False) -> Any:
    """y = relu(2 x) + words + t; x and t may be shared, words may not."""
    import openvino
    from openvino import opset13 as opset

    x = opset.parameter([batch, 3], np.float32, name="x")
    words = opset.parameter([batch, 3], np.float32, name="words")
    t = opset.parameter([1], np.float32, name="t")
    for node, name in ((x, "x"), (words, "words"), (t, "t")):
        node.output(0).set_names({name})
    half = opset.relu(opset.multiply(x, opset.constant(np.float32(2))))
    if dynamic_shape:  # as exporters ask for a batch they do not know
        half = opset.broadcast(half, opset.shape_of(x))
    total = opset.add(opset.add(half, words), t)
    total.output(0).set_names({"y"})
    return openvino.Model([opset.result(total)], [x, words, t], "smallest")


def computed(model: Any, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    import openvino

    return next(iter(openvino.compile_model(model, "CPU")(dict(feeds)).values()))


@pytest.mark.parametrize("dynamic_shape", [False, True])
def test_one_row_of_what_is_the_same_stands_for_all(dynamic_shape: bool) -> None:
    x, t = np.array([[1, -1, 0.5]], np.float32), np.array([10], np.float32)
    words = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    shared = SharedRows(("x", "t")).openvino(smallest(2, dynamic_shape=dynamic_shape))
    sizes = {port.any_name: tuple(port.shape) for port in shared.inputs}
    assert sizes == {"x": (1, 3), "words": (2, 3), "t": (1,)}
    found = computed(shared, {"x": x, "words": words, "t": t})
    np.testing.assert_allclose(found, np.maximum(2 * x, 0) + words + 10)
    (multiply,) = [n for n in shared.get_ordered_ops() if n.get_type_name() == "Multiply"]
    assert tuple(multiply.get_output_shape(0)) == (1, 3)  # computed once


def test_of_one_row_nothing_changes() -> None:
    x, t = np.array([[1, -1, 0.5]], np.float32), np.array([10], np.float32)
    shared = SharedRows(("x", "t")).openvino(smallest(1))
    found = computed(shared, {"x": x, "words": x, "t": t})
    np.testing.assert_allclose(found, np.maximum(2 * x, 0) + x + 10)


def test_onnx_graphs_are_left_as_they_are() -> None:
    graph: Any = object()
    assert SharedRows(("x",)).onnx(graph) is graph


# The bundled model's UNet, in both formats.


@both
def test_sharing_rows_changes_no_prediction(engine: str) -> None:
    made = ENGINES[engine]()
    shared = made.compile(unet(made), UNET, [SharedRows(("sample", "timestep"))])
    (found,) = shared(feeds(rows=1)).values()
    np.testing.assert_allclose(found, unedited(engine), atol=1e-5)


@both
def test_both_sides_of_a_cut_are_the_unet(engine: str) -> None:
    made = ENGINES[engine]()
    expected = unedited(engine)
    full = made.compile(unet(made), UNET, [Cut(3, shallow=False)])(feeds())
    features = full.pop(DEEP_FEATURES)
    shallow = made.compile(unet(made), UNET, [Cut(3, shallow=True)])
    (found,) = shallow({**feeds(), DEEP_FEATURES: features}).values()
    np.testing.assert_allclose(next(iter(full.values())), expected, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (other,) = shallow({**feeds(), DEEP_FEATURES: 0 * features}).values()
    assert np.abs(other - expected).max() > 1e-3


@both
def test_a_cut_that_is_not_there(engine: str) -> None:
    made = ENGINES[engine]()
    with pytest.raises(AdapterError, match="this UNet has 6 skip connections to cut it at"):
        made.compile(unet(made), UNET, [Cut(6, shallow=True)])


@both
def test_residuals_of_zero_add_nothing_and_others_do(engine: str) -> None:
    made = ENGINES[engine]()
    expected = unedited(engine)
    graph = made.compile(unet(made), UNET, [Residuals(RESIDUALS)])
    zeros = {name: np.zeros(shape, np.float32) for name, shape in RESIDUALS.items()}
    (found,) = graph({**feeds(), **zeros}).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for name in (MIDDLE, names(6)[0], names(6)[5]):
        (found,) = graph({**feeds(), **zeros, name: zeros[name] + 1}).values()
        assert np.abs(found - expected).max() > 1e-3


@both
def test_residuals_of_another_shape_of_unet(engine: str) -> None:
    made = ENGINES[engine]()
    fewer = {name: RESIDUALS[name] for name in (names(6)[0], MIDDLE)}
    with pytest.raises(AdapterError, match=r"6 skip connections .* the ControlNet adds to 1"):
        made.compile(unet(made), UNET, [Residuals(fewer)])


def test_both_formats_name_the_same_weights() -> None:
    """But for norms, some of which torch.onnx renames; no LoRA file changes those."""
    openvino, onnx = (shapes(POCKET / "unet" / file) for file in FILES.values())
    for name in openvino.keys() ^ onnx.keys():
        assert "norm" in name
    common = openvino.keys() & onnx.keys()
    assert len(common) > 100
    assert {name: openvino[name] for name in common} == {name: onnx[name] for name in common}
    assert openvino["conv_in.weight"] == (48, 4, 3, 3)


@both
def test_changed_weights(engine: str) -> None:
    made = ENGINES[engine]()
    expected = unedited(engine)
    seen: list[np.ndarray] = []

    def twice(weight: np.ndarray) -> np.ndarray:
        seen.append(weight)
        return weight * 2

    def halved(weight: np.ndarray) -> np.ndarray:
        return weight * np.float32(0.5)

    changes = {"conv_in.weight": twice}
    (other,) = made.compile(unet(made), UNET, [ChangedWeights(changes)])(feeds()).values()
    assert np.abs(other - expected).max() > 1e-3
    assert (seen[0].shape, seen[0].dtype) == ((48, 4, 3, 3), np.float32)
    edits = [ChangedWeights(changes), ChangedWeights({"conv_in.weight": halved})]
    (back,) = made.compile(unet(made), UNET, edits)(feeds()).values()
    np.testing.assert_allclose(back, expected, atol=1e-5)


@both
def test_weights_that_a_graph_does_not_have(engine: str) -> None:
    made = ENGINES[engine]()
    with pytest.raises(AdapterError, match="has no weight tree"):
        made.compile(unet(made), UNET, [ChangedWeights({"tree.weight": lambda weight: weight})])


@pytest.mark.parametrize("file", FILES.values())
def test_a_file_that_is_no_graph(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"tree")
    with pytest.raises(AdapterError, match=file):
        shapes(tmp_path / file)


def test_edits_are_applied_in_their_order() -> None:
    """The shallow part of a UNet that residuals were added to has the upper ones alone."""
    engine = OpenVinoEngine()
    model = engine.model(
        unet(engine), UNET, [Residuals(RESIDUALS), Cut(0, shallow=True), SharedRows(("sample",))]
    )
    sizes = {name: tuple(port.shape) for port in model.inputs for name in port.names}
    assert sizes["sample"] == (1, 4, 4, 6)
    assert sizes[DEEP_FEATURES] == (2, 48, 4, 6)
    assert set(RESIDUALS) <= set(sizes)  # those below the cut are fed and not read
