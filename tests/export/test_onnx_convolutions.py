"""ONNX Runtime really computes convolutions in 8 bits, and they say what they did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pleinair.export.int8.onnx_convolutions import output_ranges, round_outputs  # noqa: E402

X_STEP, ZERO, CHANNELS = np.float32(0.03), np.uint8(100), 8


def chain(bias: float = 1.0, zero: Any = ZERO, scale: float = 1.0) -> Any:
    """Two convolutions of rounded numbers with an activation between, and one that is not."""
    random = np.random.default_rng(0)
    ints = random.integers(-127, 128, (2, CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
    w_step = (random.uniform(0.5, 1.5, CHANNELS) * 0.002 * scale).astype(np.float32)
    stored = {
        "x_step": X_STEP,
        "zero": zero,
        "w_step": w_step,
        "w_zero": np.zeros(CHANNELS, np.int8),
        "w0": ints[0],
        "w1": ints[1],
        "b0": (bias * random.normal(size=CHANNELS)).astype(np.float32),
        "last": random.normal(size=(2, CHANNELS, 1, 1)).astype(np.float32),
    }

    def node(kind: str, inputs: list[str], output: str, **more: Any) -> Any:
        return helper.make_node(kind, inputs, [output], f"{kind} {output}", **more)

    def rounded(source: str, name: str) -> list[Any]:
        return [
            node("QuantizeLinear", [source, "x_step", "zero"], f"{name}_q"),
            node("DequantizeLinear", [f"{name}_q", "x_step", "zero"], name),
        ]

    def weights(i: int) -> Any:
        return node("DequantizeLinear", [f"w{i}", "w_step", "w_zero"], f"w{i}_f", axis=0)

    nodes = [
        *rounded("x", "x_f"),
        weights(0),
        node("Conv", ["x_f", "w0_f", "b0"], "first", pads=[1] * 4),
        node("Sigmoid", ["first"], "between"),
        *rounded("between", "between_f"),
        weights(1),
        node("Conv", ["between_f", "w1_f"], "second", pads=[1] * 4),
        node("Conv", ["second", "last"], "y"),
    ]
    shape = [1, CHANNELS, "rows", "columns"]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "rows", "columns"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(seed: int) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed).normal(size=(1, CHANNELS, 6, 5))
    return {"x": drawn.astype(np.float32)}


def said(model: Any, seed: int = 9) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.asarray(session.run(None, feeds(seed))[0])


def distance(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def computed(model: Any, folder: Path) -> list[str]:
    """The operations that ONNX Runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


def seen(model: Any, folder: Path) -> dict[str, tuple[float, float]]:
    file = folder / "model.onnx"
    onnx.save_model(model, file)
    told: list[None] = []
    found = output_ranges(file, [feeds(seed) for seed in range(4)], lambda: told.append(None))
    assert len(told) == 4
    return found


def test_ranges_are_of_all_samples(tmp_path: Path) -> None:
    model = chain()
    found = seen(model, tmp_path)
    assert list(found) == ["first", "second", "y"]
    values = [said(model, seed) for seed in range(4)]
    assert found["y"] == pytest.approx((np.min(values), np.max(values)))


@pytest.mark.parametrize("zero", [ZERO, np.int8(-28)])
def test_they_are_in_8_bits_and_say_the_same(tmp_path: Path, zero: Any) -> None:
    model = chain(zero=zero)
    before, ranges = said(model), seen(model, tmp_path)
    assert "QLinearConv" not in computed(model, tmp_path)
    assert round_outputs(model, ranges) == 2
    onnx.checker.check_model(model, full_check=True)
    kinds = computed(model, tmp_path)
    assert kinds.count("QLinearConv") == 2
    assert sum(kind.endswith("Conv") for kind in kinds) == 3
    assert 0 < distance(said(model), before) < 0.02
    read = {name for node in model.graph.node for name in node.input}
    assert {weight.name for weight in model.graph.initializer} <= read


def test_what_was_never_seen_is_clipped_and_not_wrapped(tmp_path: Path) -> None:
    model = chain()
    narrow = {name: (0.2 * low, 0.2 * high) for name, (low, high) in seen(model, tmp_path).items()}
    before = said(model)
    round_outputs(model, narrow)
    after = said(model)
    assert np.abs(after).max() < np.abs(before).max()
    assert np.corrcoef(after.ravel(), before.ravel())[0, 1] > 0.5


def test_a_range_without_zero_gets_it(tmp_path: Path) -> None:
    """Zero is what a convolution's padding is made of."""
    model = chain()
    ranges = {"first": (3.0, 4.0), "second": (-2.0, -1.0), "y": (0.0, 0.0)}
    round_outputs(model, ranges)
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert stored["first/ends/0"] == pytest.approx(4 / 255)
    assert stored["first/ends/1"] == 0
    assert stored["second/ends/0"] == pytest.approx(2 / 255)
    assert stored["second/ends/1"] == 255


def test_a_bias_that_fits_no_32_bits_stays(tmp_path: Path) -> None:
    model = chain(bias=1e4, scale=1e-6)
    before, ranges = said(model), seen(model, tmp_path)
    assert round_outputs(model, ranges) == 1  # the one without a bias
    assert distance(said(model), before) < 0.02
