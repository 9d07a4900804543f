"""Graphs are prepared for 8 bits: less to compute and to copy, and they say the same as before."""

from pathlib import Path

import numpy as np
import pytest

from pleinair.export.int8.gated import split_projections
from pleinair.export.int8.upsampling import sign_inputs, transpose_upsamplers
from pleinair.runtime.graphs.norms import norm_by_moments

openvino = pytest.importorskip("openvino")


def said(model: openvino.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    (output,) = openvino.Core().compile_model(model, "CPU", config)(feeds).values()
    return np.array(output)


def kinds(model: openvino.Model) -> list[str]:
    return [op.get_type_name() for op in model.get_ops()]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("side", [8, 9])
def test_gated_projections_are_split(exported_openvino: Path, side: int) -> None:
    model = openvino.Core().read_model(exported_openvino / "unet" / "openvino_model.xml")
    width = model.input("encoder_hidden_states").get_partial_shape()[2].get_length()
    feeds = {
        "sample": normal(2, 4, side, side),
        "timestep": np.array(500, np.int64),
        "encoder_hidden_states": normal(2, 7, width),
    }
    before, gates = said(model, feeds), kinds(model).count("VariadicSplit")
    assert gates > 0
    assert split_projections(model) == gates
    assert "VariadicSplit" not in kinds(model)
    assert np.abs(said(model, feeds) - before).max() < 1e-5 * np.abs(before).max()
    names = [op.friendly_name for op in model.get_ops() if "half_" in op.friendly_name]
    assert len(names) == len(set(names)) == 4 * gates
    assert split_projections(model) == 0


def test_a_unets_upsamplers_serve_odd_sizes_and_stay(exported_openvino: Path) -> None:
    model = openvino.Core().read_model(exported_openvino / "unet" / "openvino_model.xml")
    assert transpose_upsamplers(model) == 0


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5)])
def test_upsamplers_are_transposed(exported_openvino: Path, rows: int, columns: int) -> None:
    model = openvino.Core().read_model(exported_openvino / "vae_decoder" / "openvino_model.xml")
    feeds = {"latent_sample": normal(1, 4, rows, columns)}
    before, upsamplers = said(model, feeds), kinds(model).count("Interpolate")
    assert transpose_upsamplers(model) == upsamplers > 0
    assert "Interpolate" not in kinds(model)
    assert np.abs(said(model, feeds) - before).max() < 1e-5 * np.abs(before).max()


def upsampler(scale: float, mode: str, padding: int) -> openvino.Model:
    from openvino import opset13 as opset

    pixels = opset.parameter([1, 4, 6, 6], np.float32, name="pixels")
    larger = opset.interpolate(
        pixels,
        opset.constant(np.array([scale, scale], np.float32)),
        mode,
        "scales",
        axes=opset.constant(np.array([2, 3], np.int64)),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    weights, pads = opset.constant(normal(4, 4, 3, 3)), [padding, padding]
    return openvino.Model(
        [opset.convolution(larger, weights, [1, 1], pads, pads, [1, 1])], [pixels], "upsampler"
    )


@pytest.mark.parametrize(
    ("scale", "mode", "padding"), [(3, "nearest", 1), (2, "linear_onnx", 1), (2, "nearest", 0)]
)
def test_other_upsamplers_stay(scale: float, mode: str, padding: int) -> None:
    assert transpose_upsamplers(upsampler(scale, mode, padding)) == 0


def test_what_is_transposed_is_rounded_to_signed_numbers() -> None:
    from openvino import opset13 as opset

    model = upsampler(2, "nearest", 1)
    transpose_upsamplers(model)
    (transposed,) = (op for op in model.get_ops() if "Backprop" in op.get_type_name())
    low, high = (opset.constant(np.full((1, 1, 1, 1), end, np.float32)) for end in (-1, 4))
    source = transposed.input(0).get_source_output()
    rounded = opset.fake_quantize(source, low, high, low, high, 256)
    transposed.input(0).replace_source_output(rounded.output(0))
    sign_inputs(model)
    signed = transposed.input(0).get_source_output().get_node()
    ends = [signed.input(i).get_source_output().get_node().data.item() for i in range(1, 5)]
    assert ends == pytest.approx([-4 * 128 / 127, 4, -4 * 128 / 127, 4])
    # Zero, of which there is much around a feature map, stays zero.
    assert not said(model, {"pixels": np.zeros((1, 4, 6, 6), np.float32)}).any()


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("part", ["unet", "vae_decoder"])
def test_group_norms_by_their_moments(exported_openvino: Path, part: str, side: int) -> None:
    model = openvino.Core().read_model(exported_openvino / part / "openvino_model.xml")
    feeds = {"latent_sample": normal(1, 4, side, 7)}
    if part == "unet":
        width = model.input("encoder_hidden_states").get_partial_shape()[2].get_length()
        feeds = {
            "sample": normal(2, 4, side, 7),
            "timestep": np.array(500, np.int64),
            "encoder_hidden_states": normal(2, 7, width),
        }
    before, norms = said(model, feeds), kinds(model).count("GroupNormalization")
    done = norm_by_moments(model)
    assert done > 10
    assert kinds(model).count("GroupNormalization") == norms - done <= 1  # that of tokens
    assert np.abs(said(model, feeds) - before).max() < 2e-5 * np.abs(before).max()


def group_norm(channels: int, groups: int) -> openvino.Model:
    opset = openvino.opset13
    x = opset.parameter([-1, channels, -1, -1], np.float32)
    x.output(0).set_names({"x"})
    gain, bias = (opset.constant(normal(channels) + shift) for shift in (2, 0))
    norm = opset.group_normalization(x, gain, bias, groups, 1e-6)
    return openvino.Model([opset.result(norm)], [x], "norm")


@pytest.mark.parametrize("mean", [0, 30])
def test_a_group_norm_far_from_zero(mean: float) -> None:
    """Farther than activations are: digits are lost then, but not those of 8 bits."""
    model = group_norm(8, 4)
    x = normal(2, 8, 33, 31) + np.float32(mean)
    before = said(model, {"x": x})
    norm_by_moments(model)
    assert np.abs(said(model, {"x": x}) - before).max() < 2e-4 * np.abs(before).max()


def test_a_group_norm_of_what_is_all_the_same() -> None:
    model = group_norm(8, 4)
    x = np.full((1, 8, 5, 5), 3, np.float32)
    norm_by_moments(model)
    after = said(model, {"x": x})
    assert np.isfinite(after).all()
    assert np.abs(after - normal(8).reshape(1, 8, 1, 1)).max() < 0.05
