"""Keys and values from every second row and column: what diffusers' UNet gives with a processor
that does so, from every exporter's graphs, at even and at odd sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import tiny_unet
from pleinair.export import onnx_model, openvino_ir
from pleinair.export.graphs import unet as graphs
from pleinair.export.int8 import onnx_graph, openvino_graph
from pleinair.export.int8.attention import highest, self_attentions
from pleinair.runtime.errors import ExportError

torch = pytest.importorskip("torch")
openvino = pytest.importorskip("openvino")

FORMATS = {"openvino": (openvino_ir, openvino_graph), "onnx": (onnx_model, onnx_graph)}
SIZES = [(8, 8), (16, 12), (9, 13), (7, 2)]  # rows and columns; odd ones are rounded up
# The tiny UNet's blocks by resolution, the largest first; as many attentions are in each.
BLOCKS = [("down_blocks.0", "up_blocks.2"), ("down_blocks.1", "up_blocks.1"), ("mid_block",)]
COUNTS = [3, 3, 1]


class Strided:
    """diffusers' attention with every second row's and column's tokens as what is attended to."""

    def __init__(self) -> None:
        from diffusers.models.attention_processor import AttnProcessor2_0

        self.whole = AttnProcessor2_0()
        self.size = (0, 0)

    def __call__(self, attention: Any, hidden_states: Any, *others: Any, **more: Any) -> Any:
        batch, _, width = hidden_states.shape
        grid = hidden_states.view(batch, *self.size, width)[:, ::2, ::2]
        return self.whole(attention, hidden_states, grid.reshape(batch, -1, width))


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(0)
    return tiny_unet().eval()


@pytest.fixture(scope="module", params=list(FORMATS))
def traced(unet: Any, request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The module of a format's, and the UNet's graph in it."""
    exporter, backend = FORMATS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    exporter.write(graphs.unet(unet), folder, half=False)
    return backend, folder / backend.FILE


def feeds(rows: int, columns: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows * columns)
    return {
        "sample": random.normal(size=(2, 4, rows, columns)).astype(np.float32),
        "timestep": np.array(501),
        "encoder_hidden_states": random.normal(size=(2, 5, 128)).astype(np.float32),
    }


def right(unet: Any, levels: int, rows: int, columns: int) -> np.ndarray:
    """What diffusers gives, strided in the `levels` upper levels."""
    before = unet.attn_processors
    processors = dict(before)
    for level, blocks in enumerate(BLOCKS[:levels]):
        strided = Strided()
        strided.size = -(-rows // 2**level), -(-columns // 2**level)
        own = {name: strided for name in before if "attn1" in name and name.startswith(blocks)}
        assert len(own) == COUNTS[level]
        processors |= own
    unet.set_attn_processor(processors)
    try:
        with torch.no_grad():
            given = {name: torch.from_numpy(value) for name, value in feeds(rows, columns).items()}
            return unet(**given, return_dict=False)[0].numpy()
    finally:
        unet.set_attn_processor(before)


def run(file: Path) -> Any:
    """The graph, for any size."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda given: session.run(
            None, given | {"timestep": given["timestep"].astype(np.float32)}
        )[0]
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(file, "CPU", precise)
    return lambda given: compiled(given | {"timestep": given["timestep"].repeat(2)})[0]


@pytest.mark.parametrize("levels", [1, 2])
def test_strided_attention_is_diffusers_with_strided_keys(
    unet: Any, traced: tuple[Any, Path], levels: int, tmp_path: Path
) -> None:
    backend, source = traced
    chosen = lambda model: highest(model, self_attentions(model), 8, levels)  # noqa: E731
    graph, strided = backend.prepare(source, tmp_path, chosen, 2)
    assert strided == sum(COUNTS[:levels])
    found, whole = run(graph), run(source)
    for rows, columns in SIZES:
        given, wanted = feeds(rows, columns), right(unet, levels, rows, columns)
        assert np.abs(found(given) - wanted).max() <= 1e-4 * np.abs(wanted).max()
        # The test would be empty if it made no difference.
        assert np.abs(whole(given) - wanted).max() > 1e-3 * np.abs(wanted).max()


def test_it_is_left_alone_where_there_is_little_to_gain(traced: tuple[Any, Path]) -> None:
    """By itself only a resolution of 1024 tokens or more is strided."""
    _, source = traced
    model = openvino.Core().read_model(source)
    attentions = self_attentions(model)
    assert len(attentions) == sum(COUNTS)
    assert highest(model, attentions, 8, None) == []
    assert len(highest(model, attentions, 32, None)) == COUNTS[0]
    assert len(highest(model, attentions, 8, 3)) == sum(COUNTS)
    assert model.inputs[0].partial_shape.is_dynamic  # looking has fixed no size


def test_deep_transformers_as_in_xl(tmp_path: Path) -> None:
    """Two blocks a transformer, linear projections, no attention at the largest resolution."""
    shallow = ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
    module = tiny_unet(
        transformer_layers_per_block=2,
        use_linear_projection=True,
        down_block_types=shallow,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()
    openvino_ir.write(graphs.unet(module), tmp_path, half=True)
    model = openvino.Core().read_model(tmp_path / openvino_ir.FILE)
    attentions = self_attentions(model)
    # One transformer going down, two coming up, one in the middle.
    assert len(attentions) == 8
    assert len(highest(model, attentions, 64, 1)) == 6


def test_a_graph_of_a_fixed_size_is_refused(
    traced: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older exports shape keys for just so many tokens; OpenVINO finds that out."""
    backend, source = traced
    if backend is onnx_graph:
        pytest.skip("ONNX Runtime, not the file, would find out: seen when it is measured")
    from openvino import opset13 as opset

    model = openvino.Core().read_model(source)
    for one in self_attentions(model):
        (reader,) = [port.get_node() for port in one.keys.output(0).get_target_inputs()]
        fixed = opset.constant(np.array([1, 64, 8, 4 if "s.0" in reader.friendly_name else 8]))
        reader.input(1).replace_source_output(fixed.output(0))
        break
    model.reshape({"sample": [1, 4, 8, 8], "timestep": [1], "encoder_hidden_states": [1, 5, 128]})
    openvino.save_model(model, tmp_path / "fixed.xml", compress_to_fp16=False)
    with pytest.raises(ExportError, match="takes no fewer keys"):
        backend.prepare(tmp_path / "fixed.xml", tmp_path, lambda model: self_attentions(model), 2)


@pytest.mark.interop
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_what_optimum_exports(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"optimum_{engine}")
    backend = FORMATS[engine][1]
    source = folder / "unet" / backend.FILE
    chosen = lambda model: highest(model, self_attentions(model), 8, 1)  # noqa: E731
    graph, strided = backend.prepare(source, tmp_path, chosen, 2)
    assert strided == COUNTS[0]
    assert {"conv_in", "conv_out", "time embedding"} < set(backend.groups(graph).values())
