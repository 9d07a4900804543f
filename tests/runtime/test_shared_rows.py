"""What guidance compares is computed once up to where the prompt is read, and is the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ENGINES

from fakes import controlnet
from pleinair.bench.flops import count
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.graphs.edit import Edit
from pleinair.runtime.graphs.residuals import Residuals
from pleinair.runtime.graphs.shared_rows import SharedRows

SHAPES = {"sample": (2, 4, 9, 13), "encoder_hidden_states": (2, 7, 128)}
SHARED = SharedRows(("sample", "timestep"))
CONFIG = {"block_out_channels": [32, 64, 64], "layers_per_block": 1}
ENDS = controlnet(CONFIG).residuals(2, 9, 13)


def check(engine: Any, file: Path, more: dict[str, Any], *edits: Edit) -> dict[str, np.ndarray]:
    """Of one row of sample the graph says what it says of two like it; returns that.

    more: what it is given besides, each for itself.
    """
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    feeds |= {**more, "timestep": np.array(501)}
    feeds["sample"] = feeds["sample"][:1]
    twice = {**feeds, "sample": np.repeat(feeds["sample"], 2, axis=0)}
    found = engine.compile(file, SHAPES, [*edits, SHARED])(feeds)
    expected = engine.compile(file, SHAPES, edits)(twice)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-6)
    assert np.abs(found["out_sample"][0] - found["out_sample"][1]).max() > 1e-3
    return found


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_one_sample_for_two_prompts(engine: Any, file: Path) -> None:
    check(engine, file, {})


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
def test_steered_apart_by_controlnets(engine: Any, file: Path) -> None:
    random = np.random.default_rng(1)
    added = {name: random.normal(size=shape).astype(np.float32) for name, shape in ENDS.items()}
    check(engine, file, added, Residuals(ENDS))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
@pytest.mark.parametrize("branch", [0, 5])
def test_cut(engine: Any, file: Path, branch: int) -> None:
    features = check(engine, file, {}, Cut(branch, shallow=False))[DEEP_FEATURES]
    assert len(features) == 2
    check(engine, file, {DEEP_FEATURES: features}, Cut(branch, shallow=True))


def test_what_is_computed_once(exported_openvino: Path) -> None:
    """What no prompt has reached: in this layout all before the first attention to it."""
    import openvino

    model = openvino.Core().read_model(exported_openvino / "unet" / "openvino_model.xml")
    model.reshape({**{name: list(shape) for name, shape in SHAPES.items()}, "timestep": [1]})
    twice = count(model)
    shared = SHARED.openvino(model)
    single = {
        node.get_friendly_name().removeprefix("__module.model.").partition("/")[0]
        for node in shared.get_ordered_ops()
        if node.get_type_name() == "Convolution" and node.get_output_shape(0)[0] == 1
    }
    resnet = "down_blocks.0.resnets.0"
    projected = "down_blocks.0.attentions.0.proj_in"
    assert single == {"conv_in", f"{resnet}.conv1", f"{resnet}.conv2", projected}
    cells, width = 9 * 13, 32
    assert twice.attention - count(shared).attention == 4 * cells**2 * width  # one self-attention
    shapes = {end.any_name: tuple(end.shape) for end in shared.inputs}
    assert shapes == {**SHAPES, "sample": (1, 4, 9, 13), "timestep": (1,)}
