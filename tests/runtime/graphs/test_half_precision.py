"""A denoiser in half precision: near float32 where that counts, and everything else left alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.graphs.half_precision import HalfPrecision
from pleinair.runtime.graphs.onnx_graph import OnnxGraph
from pleinair.runtime.graphs.weights import ChangedWeights

POCKET = Path(__file__).parents[3] / "models" / "pocket"
UNET = POCKET / "unet" / "model.onnx"


def _feeds(timestep: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "sample": random.standard_normal((2, 4, 16, 16), np.float32),
        "encoder_hidden_states": random.standard_normal((2, 77, 128), np.float32),
        "timestep": np.float32(timestep),
    }


def _half() -> onnx.ModelProto:
    return onnx.load_from_string(bytes(HalfPrecision().onnx(OnnxGraph.open(UNET)).content))


def _elements(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> element type, as ONNX itself infers them; raises where a node's do not agree."""
    found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = {value.name: value.type.tensor_type.elem_type for value in found.value_info}
    return values | {one.name: one.data_type for one in found.initializer}


def test_the_prediction_stays_near_float32() -> None:
    engine = OnnxRuntimeEngine(threads=1)
    exact, half = engine.compile(UNET, {}), engine.compile(UNET, {}, [HalfPrecision()])
    found = {t: next(iter(half(_feeds(t)).values())) for t in (998, 998.6, 999, 1.75)}
    for t, prediction in found.items():
        wanted = next(iter(exact(_feeds(t)).values()))
        error = np.square(wanted - prediction).mean() / np.square(wanted).mean()
        assert 10 * np.log10(error) < -60, t
        assert prediction.dtype == np.float32


def test_timesteps_reach_their_sines_unrounded() -> None:
    """float16 holds 998.5 and 999, and no timestep between them."""
    model = _half()
    elements = _elements(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    waiting = [name for node in model.graph.node if node.op_type == "Sin" for name in node.input]
    passed = set()
    while waiting:
        name = waiting.pop()
        passed.add(name)
        assert elements.get(name) != onnx.TensorProto.FLOAT16, name
        waiting += (
            [one for one in makers[name].input if one not in passed] if name in makers else []
        )
    assert "timestep" in passed


def test_what_computes_in_half_and_what_does_not() -> None:
    model = _half()
    elements = _elements(model)
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    computed = {"half": set(), "full": set()}
    for node in model.graph.node:
        kind = elements.get(node.output[0])
        if kind in (half, full):
            computed["half" if kind == half else "full"].add(node.op_type)
    assert {"Conv", "MatMul", "Gemm", "Softmax", "Add"} <= computed["half"]
    assert not {"Conv", "MatMul", "Gemm", "Softmax"} & computed["full"]
    assert {"InstanceNormalization", "LayerNormalization", "Sin", "Cos"} <= computed["full"]
    assert not {"InstanceNormalization", "LayerNormalization", "Sin"} & computed["half"]
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {full}


def test_weights_stored_in_half_are_not_widened() -> None:
    model = _half()
    stored = {one.name for one in model.graph.initializer if one.data_type == 10}
    widened = [
        node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored
    ]
    assert len(stored) > 100
    # Those of norms alone, which compute in float32.
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    assert {readers[node.output[0]] for node in widened} <= {"LayerNormalization", "Mul", "Add"}
    assert len(widened) < len(stored) / 4


@pytest.mark.parametrize("part", ["text_encoder", "vae_decoder", "vae_encoder"])
def test_what_runs_once_a_picture_stays_float32(part: str) -> None:
    graph = OnnxGraph.open(POCKET / part / "model.onnx")
    assert HalfPrecision().onnx(graph) is graph


def test_a_graph_in_8_bits_stays_as_it_is(tmp_path: Path) -> None:
    model = onnx.load(UNET)
    node = onnx.helper.make_node("DequantizeLinear", ["x", "scale"], ["y"])
    model.graph.node.append(node)
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    graph = OnnxGraph.open(file)
    assert HalfPrecision().onnx(graph) is graph


def test_other_edits_come_before_it() -> None:
    """Cut in two and with changed weights, the halves together still give the whole."""
    engine = OnnxRuntimeEngine(threads=1)
    name = "up_blocks.2.resnets.1.conv1.weight"
    edits = [ChangedWeights({name: lambda weight: weight * np.float32(1.5)})]
    feeds = _feeds(500)
    wanted = next(iter(engine.compile(UNET, {}, edits)(feeds).values()))
    full = engine.compile(UNET, {}, [*edits, Cut(0, shallow=False), HalfPrecision()])(feeds)
    shallow = engine.compile(UNET, {}, [*edits, Cut(0, shallow=True), HalfPrecision()])
    kept = {DEEP_FEATURES: full[DEEP_FEATURES]}
    again = next(iter(shallow(feeds | kept).values()))
    plain = next(iter(engine.compile(UNET, {})(feeds).values()))
    scale = np.abs(wanted).max()
    assert np.abs(plain - wanted).max() > scale / 50  # the weight counts
    assert np.abs(next(iter(full.values())) - wanted).max() < scale / 500
    assert np.abs(again - wanted).max() < scale / 500


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    model = onnx.load(UNET)
    model.graph.node[0].input[:] = []
    model.graph.input[0].type.Clear()
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(AdapterError, match=r"model\.onnx: not a whole ONNX graph"):
        HalfPrecision().onnx(OnnxGraph.open(file))
