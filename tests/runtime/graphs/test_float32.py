"""What stays in float32 where a processor computes in bfloat16, in numbers and as compiled."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as opset

from fakes import POCKET
from openvino_core import Call
from pleinair.runtime.engines.openvino import OpenVinoEngine, native_precision
from pleinair.runtime.errors import EngineError
from pleinair.runtime.graphs import moments
from pleinair.runtime.graphs.cut import Cut
from pleinair.runtime.graphs.float32 import EXACT
from pleinair.runtime.graphs.norms import norm_by_moments
from pleinair.runtime.graphs.shared_rows import SharedRows
from pleinair.runtime.graphs.upsampling import upsamplers

bfloat16 = pytest.mark.skipif(native_precision() != "bf16", reason="a processor without bfloat16")

STEPS = np.array([0.0, 1.0, 500.0, 501.0, 997.5, 998.0, 998.5, 999.0], np.float32)
FREQUENCIES = np.exp(-np.log(10000) * np.arange(16) / 16).astype(np.float32)
UNET = POCKET / "unet" / "openvino_model.xml"
POCKET_UPSAMPLERS = len(list(upsamplers(openvino.Core().read_model(UNET))))
SHAPES = {"sample": (2, 4, 8, 8), "encoder_hidden_states": (2, 77, 128)}


def saved(model: Any, folder: Path) -> Path:
    file = folder / "openvino_model.xml"
    openvino.save_model(model, file, compress_to_fp16=False)
    return file


def sinusoids(spread: bool) -> Any:
    """An embedding of timesteps as UNets have it, behind a product that 16 bits may compute.

    spread: one timestep for all rows.
    """
    steps = opset.parameter([1 if spread else -1], np.float32, "timestep")
    steps.output(0).set_names({"timestep"})
    rows = opset.broadcast(steps, opset.constant(np.array([len(STEPS)]))) if spread else steps
    angles = opset.multiply(opset.unsqueeze(rows, opset.constant(np.array(1))), FREQUENCIES[None])
    waves = opset.concat([opset.sin(angles), opset.cos(angles)], 1)
    product = opset.matmul(waves, np.eye(32, dtype=np.float32), False, False)
    product.output(0).set_names({"out"})
    return openvino.Model([opset.result(product)], [steps])


@pytest.mark.parametrize("precision", ["bf16", "f16"])
@pytest.mark.parametrize("spread", [False, True])
def test_angles_of_timesteps_are_right(tmp_path: Path, spread: bool, precision: str) -> None:
    """In bfloat16 all from 998 to 1001 are one timestep, and its sine is any."""
    file = saved(sinusoids(spread), tmp_path)
    shapes = {"timestep": (1,) if spread else STEPS.shape}
    try:
        engine = OpenVinoEngine(precision=precision)
    except EngineError as error:
        pytest.skip(str(error))
    graph = engine.compile(file, shapes)
    angles = STEPS[:, None].astype(np.float64) * FREQUENCIES
    right = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    if spread:
        for one, row in zip(STEPS, right, strict=True):
            found = graph({"timestep": np.array([one])})["out"]
            assert np.abs(found - row).max() < 0.005
    else:
        assert np.abs(graph({"timestep": STEPS})["out"] - right).max() < 0.005


def runtime_precisions(compiled: Any) -> dict[str, str]:
    """Original operation -> what it is computed in, in an openvino.CompiledModel."""
    found = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        for name in facts["originalLayersNames"].astype(str).split(","):
            found[name] = facts["runtimePrecision"].astype(str)
    return found


@bfloat16
@pytest.mark.parametrize(
    "edits",
    [[], [SharedRows(("sample", "timestep"))], [Cut(0, False), SharedRows(("sample", "timestep"))]],
    ids=["plain", "shared rows", "cut, shared rows"],
)
def test_marks_survive_fusing_edits_and_the_cache(
    tmp_path: Path, core_calls: list[Call], edits: list[Any]
) -> None:
    for kind in ("compile", "import"):
        engine = OpenVinoEngine(precision="bf16", cache_dir=tmp_path)
        engine.compile(UNET, SHAPES, edits)
        assert core_calls[-1].kind == kind
        found = runtime_precisions(core_calls[-1].compiled)
        angles = {name: one for name, one in found.items() if "time_proj" in name}
        kept = ("/Multiply", "/Sin", "/Cos", "plain")
        assert {one for name, one in angles.items() if any(k in name for k in kept)} == {"f32"}
        convolutions = {one for name, one in found.items() if name.endswith("/Convolution")}
        assert convolutions == {"bf16"}


@bfloat16
@pytest.mark.parametrize("precision", ["bf16", "f32"])
def test_upsamplers_are_transposed_in_bfloat16_alone(
    tmp_path: Path, core_calls: list[Call], precision: str
) -> None:
    for kind in ("compile", "import"):
        engine = OpenVinoEngine(precision=precision, cache_dir=tmp_path)
        engine.compile(UNET, SHAPES)
        assert core_calls[-1].kind == kind
        nodes = core_calls[-1].compiled.get_runtime_model().get_ordered_ops()
        kinds = [node.get_rt_info()["layerType"].astype(str) for node in nodes]
        upsamplers = POCKET_UPSAMPLERS if precision == "bf16" else 0
        assert kinds.count("Deconvolution") == upsamplers


@bfloat16
def test_near_timesteps_are_told_apart() -> None:
    """Each prediction is nearest to its own in float32, of those a fifth of the way apart."""
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    half, full = (
        OpenVinoEngine(precision=precision).compile(UNET, SHAPES) for precision in ("bf16", "f32")
    )

    def said(graph: Any, t: float) -> np.ndarray:
        found: np.ndarray = graph({**feeds, "timestep": np.array(t, np.float32)})["out_sample"]
        return found

    near = [said(half, t) for t in (998.0, 998.5, 999.0)]
    for i, one in enumerate(near):
        assert all(not np.array_equal(one, other) for other in near[:i])
    for t, further in ((500.0, 540.0), (20.0, 24.0), (998.5, 900.0)):
        own, other = said(full, t), said(full, further)
        assert np.abs(said(half, t) - own).mean() < np.abs(said(half, t) - other).mean()


def normed(x: np.ndarray, groups: int, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Wu & He 2018, eq. 1 to 3."""
    parts = x.reshape(len(x), groups, -1).astype(np.float64)
    scaled = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-5)
    return scaled.reshape(x.shape) * gain[:, None, None] + bias[:, None, None]


@pytest.fixture(scope="module")
def norm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A graph with a group norm as the 8-bit graphs have it, numbers for it, and what it gives.

    Of each channel the mean is 20 deviations from zero.
    """
    random = np.random.default_rng(1)
    gain, bias = random.normal(size=(2, 24)).astype(np.float32)
    centre = np.where(random.random((24, 1, 1)) < 0.5, 20.0, 21.0)
    x = (random.normal(size=(2, 24, 12, 20)) + centre).astype(np.float32)
    taken = opset.parameter([-1, 24, -1, -1], np.float32, "x")
    taken.output(0).set_names({"x"})
    # Between convolutions that change nothing: OpenVINO computes what stands behind the last
    # in float32 by itself.
    same = np.eye(24, dtype=np.float32)[:, :, None, None]
    ends = [1, 1], [0, 0], [0, 0], [1, 1]
    node = opset.convolution(taken, same, *ends)
    node = opset.group_normalization(node, gain, bias, 4, 1e-5)
    node = opset.convolution(node, same, *ends)
    model = openvino.Model([opset.result(node)], [taken])
    assert norm_by_moments(model) == 1
    return saved(model, tmp_path_factory.mktemp("norm")), x, normed(x, 4, gain, bias)


def test_a_norm_written_anew_is_the_same(norm: Any) -> None:
    file, x, right = norm
    model = OpenVinoEngine().model(file, {"x": x.shape})
    assert moments.rewrite(model, lambda node: node) == 1
    model.validate_nodes_and_infer_types()
    kinds = {node.get_type_name() for node in model.get_ordered_ops()}
    assert not kinds & {"Broadcast", "Divide"}  # OpenVINO would write them otherwise
    found = OpenVinoEngine().compiled(model)([x])[0]
    assert np.abs(found - right).max() < 0.01


@bfloat16
def test_moments_far_from_zero_are_right_in_bfloat16(norm: Any) -> None:
    file, x, right = norm
    graph = OpenVinoEngine(precision="bf16").compile(file, {"x": x.shape})
    (found,) = graph({"x": x}).values()
    # An input of 20 is rounded by up to 1/16 of a deviation, and so is each of both terms.
    assert np.abs(found - right).max() < 0.3
    assert np.abs(found - right).mean() < 0.04


def offset_norm(folder: Path, read_again: bool) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """A graph that adds a number to each channel before its norm; inputs, and what it gives.

    read_again: the sum is a result, too.
    """
    random = np.random.default_rng(2)
    gain, bias = random.normal(size=(2, 24)).astype(np.float32)
    x = random.normal(size=(2, 24, 12, 20)).astype(np.float32)
    offset = random.normal(size=(2, 24, 1, 1)).astype(np.float32)
    taken = opset.parameter([-1, 24, -1, -1], np.float32, "x")
    added = opset.parameter([-1, 24, 1, 1], np.float32, "offset")
    for end, name in ((taken, "x"), (added, "offset")):
        end.output(0).set_names({name})
    total = opset.add(added, taken) if read_again else opset.add(taken, added)
    normed_sum = opset.group_normalization(total, gain, bias, 4, 1e-5)
    results = [opset.result(one) for one in (normed_sum, total)[: 1 + read_again]]
    model = openvino.Model(results, [taken, added])
    assert norm_by_moments(model) == 1
    return saved(model, folder), x, offset, normed(x + offset, 4, gain, bias)


@pytest.mark.parametrize("read_again", [False, True])
def test_an_offset_of_each_channel_goes_into_the_norm(tmp_path: Path, read_again: bool) -> None:
    file, x, offset, right = offset_norm(tmp_path, read_again)
    model = OpenVinoEngine().model(file, {"x": x.shape, "offset": offset.shape})
    assert moments.rewrite(model, lambda node: node) == 1
    model.validate_nodes_and_infer_types()
    whole = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Add" and list(node.get_output_shape(0)) == list(x.shape)
    ]
    assert len(whole) == read_again
    found = OpenVinoEngine().compiled(model)({"x": x, "offset": offset})
    assert np.abs(found[0] - right).max() < 1e-4
    if read_again:
        assert np.allclose(found[1], x + offset)


def test_other_graphs_have_no_such_norms() -> None:
    engine = OpenVinoEngine()
    assert moments.rewrite(engine.model(UNET, SHAPES), lambda node: node) == 0


@bfloat16
def test_moments_are_float32_in_the_compiled_graph(norm: Any, core_calls: list[Call]) -> None:
    file, x, _ = norm
    OpenVinoEngine(precision="bf16").compile(file, {"x": x.shape})
    compiled = core_calls[-1].compiled.get_runtime_model().get_ordered_ops()
    small = {
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled
        if node.get_rt_info()["layerType"].astype(str) in ("Subgraph", "Reduce")
        and node.get_output_shape(0)[1:] in ([4, 6], [4, 1])
    }
    assert small == {"f32"}


@bfloat16
def test_exact_is_float32_throughout(core_calls: list[Call]) -> None:
    OpenVinoEngine(precision="bf16").compile(UNET, SHAPES, [EXACT])
    assert "bf16" not in runtime_precisions(core_calls[-1].compiled).values()
