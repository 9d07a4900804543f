"""8-bit products on processors without VNNI: that they saturate, and that they do no more."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openvino import opset13 as opset

from pleinair.runtime.engines import saturation
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.graphs.overflow_fix import OverflowFix, bounded

KINDS = ("3x3", "1x1", "matmul", "transposed")
WITHOUT_VNNI = ("AVX2", "AVX512_CORE")  # as oneDNN names what it may use


def weights(kind: str, least: int = -128) -> Any:
    """All over the range of int8, the largest often beside each other."""
    random = np.random.default_rng(KINDS.index(kind))
    shape = {
        "3x3": (24, 35, 3, 3),
        "1x1": (24, 64, 1, 1),
        "matmul": (24, 66),
        "transposed": (64, 24, 4, 4),
    }
    extremes = random.choice([least, 127], shape[kind])
    spread = random.integers(least, 128, shape[kind])
    return np.where(random.random(shape[kind]) < 0.3, extremes, spread).astype(np.int8)


def model(kind: str) -> Any:
    """An operation on bytes, whose weights have steps of their own for each output channel."""
    stored, product = weights(kind), kind == "matmul"
    channels = stored.shape[0 if kind == "transposed" else 1]
    x = opset.parameter([1, channels] if product else [1, channels, 6, 6], np.float32, name="x")
    ends = (np.float32(end) for end in (0, 255, 0, 255))
    rounded = opset.fake_quantize(x, *ends, 256)
    outputs = 1 if kind == "transposed" else 0
    shape = [1] * stored.ndim
    shape[outputs] = stored.shape[outputs]
    steps = np.linspace(0.5, 2, shape[outputs], dtype=np.float32).reshape(shape)
    scaled = opset.multiply(opset.convert(opset.constant(stored), np.float32), steps)
    if product:
        y = opset.matmul(rounded, scaled, False, True)
    elif kind == "transposed":
        y = opset.convolution_backprop_data(
            rounded, scaled, [2, 2], pads_begin=[1, 1], pads_end=[1, 1]
        )
    else:
        side = [1, 1] if kind == "3x3" else [0, 0]
        y = opset.convolution(rounded, scaled, [1, 1], side, side, [1, 1])
    return openvino.Model([y], [x], kind)


def feed(kind: str) -> Any:
    shape = model(kind).input(0).shape
    return np.random.default_rng(7).integers(128, 256, list(shape)).astype(np.float32)


def computed(graph: Any, kind: str) -> Any:
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.array(openvino.Core().compile_model(graph, "CPU", precision)(feed(kind))[0])


def snr(right: Any, found: Any) -> float:
    noise = np.square(right - found).sum()
    return float(10 * np.log10(np.square(right).sum() / noise)) if noise else np.inf


def stated(graph: Any) -> Any:
    """A graph as numpy would compute it: every constant in floating point, in float32."""
    for op in graph.get_ops():
        if op.get_type_name() == "Constant" and op.get_element_type() == openvino.Type.i8:
            exact = opset.constant(op.data.astype(np.float32))
            (reader,) = op.output(0).get_target_inputs()
            reader.get_node().output(0).replace(exact.output(0))
        if op.get_type_name() == "FakeQuantize":
            op.output(0).replace(op.input(0).get_source_output())
    graph.validate_nodes_and_infer_types()
    return graph


PRETENDED = """
import sys, numpy as np
sys.path.insert(0, sys.argv[2])
import test_overflow_fix as tests
from pleinair.runtime.engines import saturation
import openvino
found = {"saturates": saturation.in_openvino()}
for kind in tests.KINDS:
    for name, edit in (("plain", lambda m: m), ("fixed", tests.OverflowFix().openvino)):
        found[f"{kind} {name}"] = tests.computed(edit(tests.model(kind)), kind)
np.savez(sys.argv[1], **found)
"""


@pytest.mark.parametrize("instructions", WITHOUT_VNNI)
def test_without_vnni_sums_are_right_again(tmp_path: Path, instructions: str) -> None:
    """OpenVINO computing as on lesser processors, against the same numbers in floating point."""
    if saturation.in_openvino() or platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("no VNNI to do without")
    file, here = tmp_path / "found.npz", Path(__file__).parent
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    command = [sys.executable, "-c", PRETENDED, str(file), str(here)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    found = np.load(file)
    assert found["saturates"]
    for kind in KINDS:
        as_made = computed(stated(model(kind)), kind)
        as_fixed = computed(stated(OverflowFix().openvino(model(kind))), kind)
        assert snr(as_fixed, found[f"{kind} fixed"]) > 100, kind
        assert snr(as_made, as_fixed) > 30, kind
        if kind != "transposed":
            assert snr(as_made, found[f"{kind} plain"]) < 25, kind


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 3))
def test_no_pair_of_neighbours_reaches_sixteen_bits(seed: int, inputs: int, rest: int) -> None:
    random = np.random.default_rng(seed)
    made = random.choice([-128, -127, 1, 64, 65, 126, 127], (3, inputs, rest)).astype(np.int8)
    found, factors = bounded(made)
    for first in range(0, inputs, 2):
        pair = found[:, first : first + 2].astype(int)
        assert np.maximum(pair, 0).sum(1).max() * 255 <= 32767
        assert np.minimum(pair, 0).sum(1).min() * 255 >= -32768
    back = found * factors[:, None, None]
    assert np.abs(back - made).max() <= factors.max() / 2 + 1e-3
    assert factors.min() >= 1


def test_what_cannot_saturate_stays_as_it_is() -> None:
    small = np.full((2, 4, 3, 3), 64, np.int8)
    small[:, 1::2] = -128  # of the other sign
    found, factors = bounded(small)
    assert (found == small).all()
    assert (factors == 1).all()


def test_weights_of_floating_point_activations_stay() -> None:
    """As of weights in 8 bits alone, whose products are not of 8 bits."""
    x = opset.parameter([1, 66], np.float32)
    scaled = opset.multiply(
        opset.convert(opset.constant(weights("matmul")), np.float32), np.float32(0.1)
    )
    graph = openvino.Model([opset.matmul(x, scaled, False, True)], [x], "alone")
    OverflowFix().openvino(graph)
    kept = [op.data for op in graph.get_ops() if op.get_type_name() == "Constant"]
    assert any(np.array_equal(one, weights("matmul")) for one in kept)


def test_the_engine_fixes_graphs_of_8_bits_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keeps none compiled, for the weights are in no file."""
    fixed: list[str] = []
    monkeypatch.setattr(saturation, "in_openvino", lambda: True)
    apply = OverflowFix.openvino
    monkeypatch.setattr(
        OverflowFix,
        "openvino",
        lambda edit, graph: apply(edit, graph) if fixed.append(graph.friendly_name) is None else 0,
    )
    x = opset.parameter([1, 4], np.float32, name="x")
    openvino.save_model(openvino.Model([opset.relu(x)], [x], "float"), tmp_path / "float.xml")
    openvino.save_model(model("matmul"), tmp_path / "eight.xml")
    cache = tmp_path / "cache"
    engine = OpenVinoEngine(cache_dir=cache)
    engine.compile(tmp_path / "eight.xml", {})
    assert fixed == ["matmul"]
    assert not cache.exists()
    engine.compile(tmp_path / "float.xml", {})
    assert fixed == ["matmul"]
    assert len(list(cache.iterdir())) == 1
