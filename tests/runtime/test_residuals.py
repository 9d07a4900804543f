"""A UNet's ends for ControlNets, added to exported graphs: what diffusers' UNet does with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ENGINES

from fakes import controlnet
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.graphs.edit import Edit
from pleinair.runtime.graphs.residuals import MIDDLE, Residuals
from pleinair.runtime.graphs.weights import ChangedWeights

pytestmark = pytest.mark.usefixtures("compiled_once")

torch = pytest.importorskip("torch")

CONFIG = {"block_out_channels": [32, 64, 64], "layers_per_block": 1}
SAMPLE = (2, 4, 9, 13)  # odd sizes: halved, they are rounded up


@pytest.fixture(scope="module")
def unet(tiny_checkpoint: Path) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet").eval()


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    ends = controlnet(CONFIG).residuals(SAMPLE[0], *SAMPLE[2:])
    shapes = {"sample": SAMPLE, "encoder_hidden_states": (2, 7, 128), **ends}
    made = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**made, "timestep": np.array([501])}


def split(feeds: dict[str, np.ndarray]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The UNet's own inputs, and those for ControlNets."""
    ends = {name: value for name, value in feeds.items() if "additional_residual" in name}
    return {name: value for name, value in feeds.items() if name not in ends}, ends


def right(unet: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    own, ends = ({k: torch.from_numpy(v) for k, v in part.items()} for part in split(feeds))
    middle = ends.pop(MIDDLE)
    with torch.no_grad():
        return unet(
            **own,
            down_block_additional_residuals=tuple(ends.values()),
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0].numpy()


def found(engine: Any, file: Path, feeds: dict[str, np.ndarray], *edits: Edit) -> np.ndarray:
    own, ends = ({k: v.shape for k, v in part.items()} for part in split(feeds))
    del own["timestep"]
    return engine.compile(file, own, [*edits, Residuals(ends)])(feeds)["out_sample"]


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_every_residual_has_its_place(
    engine: Any, file: Path, unet: Any, feeds: dict[str, np.ndarray]
) -> None:
    expected = right(unet, feeds)
    np.testing.assert_allclose(found(engine, file, feeds), expected, atol=2e-5)
    for name in split(feeds)[1]:
        without = {**feeds, name: np.zeros_like(feeds[name])}
        assert np.abs(right(unet, without) - expected).max() > 1e-3, name


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
def test_with_changed_weights(
    engine: Any, file: Path, unet: Any, feeds: dict[str, np.ndarray]
) -> None:
    """As LoRA files change them."""
    layer = unet.mid_block.resnets[0].conv1
    kept = layer.weight.data.clone()
    try:
        layer.weight.data *= 3
        expected = right(unet, feeds)
    finally:
        layer.weight.data = kept
    changed = ChangedWeights({"mid_block.resnets.0.conv1.weight": lambda weight: weight * 3})
    np.testing.assert_allclose(found(engine, file, feeds, changed), expected, atol=3e-5)


def test_weights_beside_the_graph(
    exported_onnx: Path, unet: Any, feeds: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """As those of a whole Stable Diffusion are."""
    import onnx

    model = onnx.load(exported_onnx / "unet" / "model.onnx")
    onnx.save_model(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights")
    assert (tmp_path / "weights").stat().st_size > 1_000_000
    out = found(OnnxRuntimeEngine(), tmp_path / "model.onnx", feeds)
    np.testing.assert_allclose(out, right(unet, feeds), atol=2e-5)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_controlnet_of_another_shape(engine: Any, file: Path) -> None:
    ends = controlnet({**CONFIG, "layers_per_block": 2}).residuals(1, 8, 8)
    shapes = {"sample": (1, 4, 8, 8), "encoder_hidden_states": (1, 77, 128)}
    with pytest.raises(AdapterError, match=r"has 6 skip connections .* adds to 9") as caught:
        engine.compile(file, shapes, [Residuals(ends)])
    assert "\n" not in str(caught.value)
