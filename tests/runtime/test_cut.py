"""A UNet cut at a skip connection: its two parts together say what the whole does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ENGINES

from fakes import controlnet
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.graphs.edit import Edit
from pleinair.runtime.graphs.onnx_graph import OnnxGraph
from pleinair.runtime.graphs.residuals import Residuals
from pleinair.runtime.graphs.weights import ChangedWeights

pytestmark = pytest.mark.usefixtures("compiled_once")

BRANCHES = range(6)
SHAPES = {"sample": (2, 4, 9, 13), "encoder_hidden_states": (2, 7, 128)}  # odd: rounded up
CONFIG = {"block_out_channels": [32, 64, 64], "layers_per_block": 1}
Feeds = dict[str, np.ndarray]


def feeds_of(seed: int, shapes: dict[str, Any] = SHAPES) -> Feeds:
    random = np.random.default_rng(seed)
    made = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**made, "timestep": np.array(501 - 40 * seed)}


def check(engine: Any, file: Path, branch: int, plain: Any, feeds: Feeds, *edits: Edit) -> None:
    """The whole says what the plain graph says, and the shallow part goes on where it is cut.

    edits: what all three are compiled with.
    """
    shapes = {name: value.shape for name, value in feeds.items() if name in SHAPES}
    whole = engine.compile(file, shapes, [*edits, Cut(branch, shallow=False)])
    shallow = engine.compile(file, shapes, [*edits, Cut(branch, shallow=True)])
    expected, features = whole(feeds).values()
    np.testing.assert_allclose(expected, plain(feeds)["out_sample"], atol=1e-6)
    (found,) = shallow({**feeds, DEEP_FEATURES: features}).values()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (other,) = shallow({**feeds, DEEP_FEATURES: features * 2}).values()
    assert np.abs(other - expected).max() > 1e-3


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_the_parts_are_the_whole(engine: Any, file: Path, branch: int) -> None:
    check(engine, file, branch, engine.compile(file, SHAPES), feeds_of(0))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
def test_steered_by_controlnets(engine: Any, file: Path) -> None:
    """The deepest cut has the middle block's residual below it, all others have some above."""
    ends = controlnet(CONFIG).residuals(2, 9, 13)
    feeds = feeds_of(0, {**SHAPES, **ends})
    plain = engine.compile(file, SHAPES, [Residuals(ends)])
    for branch in (1, 5):
        check(engine, file, branch, plain, feeds, Residuals(ends))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
def test_changed_as_by_lora(engine: Any, file: Path) -> None:
    """Of a changed weight above the cut, and of one that the shallow part does not have."""
    changed = ChangedWeights(
        {
            f"{layer}.conv1.weight": lambda weight: weight * 3
            for layer in ("mid_block.resnets.0", "up_blocks.2.resnets.1")
        }
    )
    plain = engine.compile(file, SHAPES, [changed])
    unchanged = engine.compile(file, SHAPES)(feeds_of(0))["out_sample"]
    assert np.abs(plain(feeds_of(0))["out_sample"] - unchanged).max() > 1e-3
    check(engine, file, 0, plain, feeds_of(0), changed)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino of onnx"], indirect=True)
def test_quantized_for_onnxruntime(engine: Any, exported_onnx: Path, tmp_path: Path) -> None:
    """Quantizers before and behind the joins, where other tools put them."""
    import onnx

    model = onnx.load(exported_onnx / "unet" / "model.onnx")
    file = tmp_path / "model.onnx"
    quantize_onnx(model.graph)
    onnx.save(model, file)
    plain = engine.compile(file, SHAPES)
    for branch in (0, 3):
        check(engine, file, branch, plain, feeds_of(0))


def quantize_onnx(graph: Any) -> None:
    from onnx import helper

    convolved = {name for node in graph.node if node.op_type == "Conv" for name in node.input}
    joins = [n for n in graph.node if n.op_type == "Concat" and n.output[0] in convolved]
    assert len(joins) == 6
    graph.initializer.append(helper.make_tensor("q_scale", 1, [], [0.05]))
    graph.initializer.append(helper.make_tensor("q_zero", 2, [], [128]))

    def pair(name: str) -> list[Any]:
        return [
            helper.make_node("QuantizeLinear", [name, "q_scale", "q_zero"], [f"{name}/q"]),
            helper.make_node("DequantizeLinear", [f"{name}/q", "q_scale", "q_zero"], [f"{name}/d"]),
        ]

    nodes = []
    for node in graph.node:
        if node in joins:
            nodes += pair(node.input[0])
            node.input[0] = f"{node.input[0]}/d"
        joined = [join.output[0] for join in joins if join.output[0] in node.input]
        if node.op_type == "Conv" and joined:
            node.input[0] = f"{joined[0]}/d"
        nodes.append(node)
        if node in joins:
            nodes += pair(node.output[0])
    del graph.node[:]
    graph.node.extend(nodes)


def test_quantized_for_openvino(exported_openvino: Path, tmp_path: Path) -> None:
    import openvino
    from openvino import opset13 as opset

    model = openvino.Core().read_model(exported_openvino / "unet" / "openvino_model.xml")
    joins = [op for op in model.get_ordered_ops() if op.get_type_name() == "Concat"]
    joins = [op for op in joins if op.get_output_partial_shape(0).rank.get_length() == 4]
    assert len(joins) == 6
    bounds = [opset.constant(np.float32(bound)) for bound in (-6, 6, -6, 6)]
    for join in joins:
        for port in join.inputs():
            quantizer = opset.fake_quantize(port.get_source_output(), *bounds, levels=256)
            port.replace_source_output(quantizer.output(0))
    file = tmp_path / "openvino_model.xml"
    openvino.save_model(model, file, compress_to_fp16=False)
    engine = OpenVinoEngine()
    for branch in (0, 3):
        check(engine, file, branch, engine.compile(file, SHAPES), feeds_of(0))
        # What is cut is not yet quantized: the shallow part does that itself.
        model = openvino.Core().read_model(file)
        Cut(branch, shallow=True).openvino(model)
        (reader,) = model.input(DEEP_FEATURES).get_target_inputs()
        assert reader.get_node().get_type_name() == "FakeQuantize"


def sizes(file: Path) -> Iterator[int]:
    """Numbers in the weights of the whole UNet, then of its shallow parts, the deepest last."""
    if file.suffix == ".onnx":
        whole = OnnxGraph.open(file)
        yield len(whole.content)
        yield from (len(Cut(branch, shallow=True).onnx(whole).content) for branch in BRANCHES)
        return
    import openvino

    for branch in (None, *BRANCHES):
        model = openvino.Core().read_model(file)
        if branch is not None:
            Cut(branch, shallow=True).openvino(model)
        constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
        yield sum(int(np.prod(op.shape)) for op in constants)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
def test_nothing_below_the_cut_is_kept(engine: Any, file: Path) -> None:
    whole, *shallow = sizes(file)
    assert shallow == sorted(shallow)
    assert shallow[0] < 0.2 * whole
    assert shallow[-1] < whole


def test_weights_beside_the_graph(exported_onnx: Path, tmp_path: Path) -> None:
    """As those of a whole Stable Diffusion are."""
    import onnx

    model = onnx.load(exported_onnx / "unet" / "model.onnx")
    file = tmp_path / "model.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="weights")
    engine = OnnxRuntimeEngine()
    check(engine, file, 1, engine.compile(file, SHAPES), feeds_of(0))


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_cut_that_is_too_deep(engine: Any, file: Path) -> None:
    with pytest.raises(AdapterError, match=r"cache_branch is 6; .* give 0 to 5") as caught:
        engine.compile(file, SHAPES, [Cut(6, shallow=False)])
    assert "\n" not in str(caught.value)


def test_weights_that_are_gone_are_not_handed_over(exported_onnx: Path) -> None:
    file = exported_onnx / "unet" / "model.onnx"
    changed = ChangedWeights({"mid_block.resnets.0.conv1.weight": lambda weight: weight})
    graph = changed.onnx(OnnxGraph.open(file))
    assert len(graph.weights) == 1
    assert not Cut(0, shallow=True).onnx(graph).weights
