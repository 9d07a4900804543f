"""Upsamplers in 8 bits are transposed where they double at the size they are compiled for."""

from typing import Any

import numpy as np
import pytest

from pleinair.runtime.engines.protocol import Feeds
from pleinair.runtime.graphs.upsampling import TransposedUpsamplers

openvino = pytest.importorskip("openvino")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def rounded(source: Any, low: float, high: float) -> Any:
    ends = (np.full((1, 1, 1, 1), end, np.float32) for end in (low, high))
    low, high = map(openvino.opset13.constant, ends)
    return openvino.opset13.fake_quantize(source, low, high, low, high, 256)


def upsampler(
    before: tuple[int, int],
    after: tuple[int, int],
    *,
    integers: bool = True,
    rounds: bool = True,
    low: float = -3.0,
    mode: str = "nearest",
    largest: float = 0.01,
) -> openvino.Model:
    """As NNCF leaves one of diffusers' UNet: enlarged to a size, between two roundings."""
    opset = openvino.opset13
    pixels = opset.parameter([1, 6, *before], np.float32)
    pixels.output(0).set_names({"pixels"})
    larger = opset.interpolate(
        rounded(pixels, low, 4.0) if rounds else pixels,
        opset.constant(np.array(after, np.int64)),
        mode,
        "sizes",
        axes=opset.constant(np.array([2, 3], np.int64)),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    weights = np.clip(np.rint(40 * normal(5, 6, 3, 3)), -127, 127)
    scale = np.linspace(0.001, largest, 5, dtype=np.float32).reshape(5, 1, 1, 1)
    read = (
        opset.multiply(opset.convert(opset.constant(weights.astype(np.int8)), np.float32), scale)
        if integers
        else opset.constant(weights.astype(np.float32) * scale)
    )
    source = rounded(larger, low, 4.0) if rounds else larger
    return openvino.Model(
        [opset.convolution(source, read, [1, 1], [1, 1], [1, 1], [1, 1])], [pixels], "upsampler"
    )


def kinds(model: openvino.Model) -> list[str]:
    return [op.get_type_name() for op in model.get_ops()]


def said(model: openvino.Model, feeds: Feeds) -> np.ndarray:
    """By OpenVINO's plain kernels, in which numbers that are to be rounded are rounded."""
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    (output,) = openvino.Core().compile_model(model, "CPU", config)(feeds).values()
    return np.array(output)


@pytest.mark.parametrize("side", [4, 5])
def test_it_says_what_copies_and_a_convolution_say(side: int) -> None:
    pixels = {"pixels": normal(1, 6, side, 7)}
    expected = said(upsampler((side, 7), (2 * side, 14)), pixels)
    made = TransposedUpsamplers().openvino(upsampler((side, 7), (2 * side, 14)))
    assert "ConvolutionBackpropData" in kinds(made)
    assert not {"Interpolate", "Convolution"} & set(kinds(made))
    found = said(made, pixels)
    assert found.shape == expected.shape
    # Pixels and the sums of weights are rounded anew, to 8 bits each.
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.02 * expected.std()


def test_what_it_reads_and_its_weights_are_signed_8_bit_numbers() -> None:
    made = TransposedUpsamplers().openvino(upsampler((4, 4), (8, 8)))
    (transposed,) = (op for op in made.get_ops() if "Backprop" in op.get_type_name())
    low, high = (
        transposed.input(0).get_source_output().get_node().input(i).get_source_output().get_node()
        for i in (1, 2)
    )
    assert low.data.item() == pytest.approx(-4 * 128 / 127)
    assert high.data.item() == pytest.approx(4)
    product = transposed.input(1).get_source_output().get_node()
    stored = product.input(0).get_source_output().get_node().input(0).get_source_output().get_node()
    assert stored.data.dtype == np.int8
    assert list(stored.data.shape) == [6, 5, 4, 4]
    assert np.abs(stored.data.astype(int)).max((0, 2, 3)).tolist() == [127] * 5


def test_in_floating_point_it_says_the_same_where_asked() -> None:
    plain = upsampler((4, 7), (8, 14), integers=False, rounds=False)
    pixels = {"pixels": normal(1, 6, 4, 7)}
    expected = said(plain, pixels)
    made = TransposedUpsamplers(floats=True).openvino(plain)
    assert "ConvolutionBackpropData" in kinds(made)
    assert not {"Interpolate", "Convolution"} & set(kinds(made))
    # The sums of weights are rounded to float16, 11 bits.
    assert np.abs(said(made, pixels) - expected).max() < 2**-10 * np.abs(expected).max()
    assert TransposedUpsamplers(floats=True).key != TransposedUpsamplers().key


def test_sums_too_large_for_float16_stay() -> None:
    plain = upsampler((4, 4), (8, 8), integers=False, rounds=False, largest=1e6)
    assert kinds(TransposedUpsamplers(floats=True).openvino(plain.clone())) == kinds(plain)


@pytest.mark.parametrize(
    ("after", "choices"),
    [
        pytest.param((7, 8), {}, id="an odd side, which fits the skip connection"),
        pytest.param((12, 8), {}, id="three times as high"),
        pytest.param((8, 8), {"integers": False}, id="weights in floating point"),
        pytest.param((8, 8), {"rounds": False}, id="nothing is rounded"),
        pytest.param((8, 8), {"mode": "linear_onnx"}, id="not by copies"),
    ],
)
def test_others_stay(after: tuple[int, int], choices: dict[str, Any]) -> None:
    made = TransposedUpsamplers().openvino(upsampler((4, 4), after, **choices))
    assert "ConvolutionBackpropData" not in kinds(made)
    assert kinds(made) == kinds(upsampler((4, 4), after, **choices))
