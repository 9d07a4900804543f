"""Arithmetic counted from graphs: against hand counts, and against torch's own counter."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as opset

from pleinair.bench import flops
from pleinair.bench.flops import Flops


def _constant(*shape: int) -> Any:
    return opset.constant(np.ones(shape, np.float32))


def _parameter(*shape: int) -> Any:
    return opset.parameter(list(shape), np.float32)


def _count(result: Any, *parameters: Any) -> Flops:
    return flops.count(openvino.Model([opset.result(result)], list(parameters), "one"))


def _rounded(value: Any, levels: int = 256) -> Any:
    low, high = np.float32(-1), np.float32(1)
    return opset.fake_quantize(value, low, high, low, high, levels)


def test_a_convolution_by_hand() -> None:
    x = _parameter(2, 3, 8, 6)
    # 3x3 kernels, stride 2, padded by 1: outputs of 4x3, each a sum over 3 channels x 9.
    one = opset.convolution(x, _constant(5, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1])
    assert _count(one, x) == Flops(convolution=2 * (2 * 5 * 4 * 3) * (3 * 9))


def test_a_convolution_in_groups_and_a_transposed_one_by_hand() -> None:
    x = _parameter(1, 4, 5, 5)
    grouped = opset.group_convolution(x, _constant(4, 2, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    assert _count(grouped, x).total == 2 * (8 * 25) * 9
    y = _parameter(1, 4, 5, 5)
    back = opset.convolution_backprop_data(y, _constant(4, 6, 2, 2), [2, 2])
    assert _count(back, y).total == 2 * (4 * 25) * (6 * 4)


@pytest.mark.parametrize("transposed", [False, True])
def test_products_by_hand(transposed: bool) -> None:
    x = _parameter(*((2, 5, 7) if transposed else (2, 7, 5)))
    linear = opset.matmul(x, _constant(5, 11), transposed, False)
    assert _count(linear, x) == Flops(linear=2 * 2 * 7 * 11 * 5)
    q, k = _parameter(2, 7, 5), _parameter(2, 9, 5)
    assert _count(opset.matmul(q, k, False, True), q, k) == Flops(attention=2 * 2 * 7 * 9 * 5)


def test_attention_in_one_operation_by_hand() -> None:
    q, k, v = _parameter(1, 2, 6, 4), _parameter(1, 2, 9, 4), _parameter(1, 2, 9, 3)
    whole = opset.scaled_dot_product_attention(q, k, v)
    assert _count(whole, q, k, v) == Flops(attention=2 * 2 * 6 * 9 * (4 + 3))


def test_int8_is_what_both_operands_are() -> None:
    x = _parameter(4, 4)
    weights = _rounded(_constant(4, 4), 255)
    full = 2 * 4 * 4 * 4
    both = opset.matmul(opset.transpose(_rounded(x), [1, 0]), weights, False, False)
    assert _count(both, x) == Flops(linear=full, int8=full)
    assert _count(opset.matmul(x, weights, False, False), x) == Flops(linear=full)  # weights alone
    coarse = opset.matmul(_rounded(x, 65536), weights, False, False)
    assert _count(coarse, x).int8 == 0


def test_a_shape_that_is_not_fixed_is_an_error() -> None:
    x = opset.parameter(openvino.PartialShape([-1, 4]), np.float32)
    with pytest.raises(ValueError, match="not fixed"):
        _count(opset.matmul(x, _constant(4, 4), False, False), x)


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_the_unet_is_what_torch_counts(
    format: str, tiny_checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from torch.utils.flop_counter import FlopCounterMode

    shapes = {"sample": (2, 4, 8, 8), "encoder_hidden_states": (2, 77, 128)}
    unet = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    unet.set_attn_processor(AttnProcessor())  # its counter does not know the CPU's fused attention
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(torch.zeros(shapes["sample"]), 1, torch.zeros(shapes["encoder_hidden_states"]))
    folder = request.getfixturevalue(f"exported_{format}")
    file = {"openvino": "openvino_model.xml", "onnx": "model.onnx"}[format]
    model = openvino.Core().read_model(folder / "unet" / file)
    timestep = [1] * len(model.input("timestep").partial_shape)  # a scalar in ONNX
    model.reshape({"timestep": timestep, **{name: list(shape) for name, shape in shapes.items()}})
    found = flops.count(model)
    theirs = counter.get_flop_counts()["Global"]
    names = {str(name).partition(".")[2]: amount for name, amount in theirs.items()}
    convolutions = sum(amount for name, amount in names.items() if "convolution" in name)
    assert found.convolution == convolutions
    # The time embedding is computed once for both halves, or once for each: 0.1 % of all.
    assert found.total == pytest.approx(counter.get_total_flops(), rel=2e-3)
    assert found.int8 == 0
