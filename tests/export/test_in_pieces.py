"""Networks too large for memory: painted with in pieces, quantized with their weights in files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.export import ir_pieces
from pleinair.export.int8 import (
    compression,
    openvino_graph,
    piecewise,
    post_training,
    smoothing,
    statistics,
    trajectories,
)
from pleinair.runtime import families
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import EngineError, ExportError

openvino = pytest.importorskip("openvino")


@pytest.mark.parametrize(("watched", "limit"), [(True, 1_000_000), (False, 60_000)])
def test_what_goes_from_piece_to_piece_is_read_from_files(
    exported_openvino: Path,
    tmp_path: Path,
    watched: bool,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ir_pieces, "_LARGE", 1000)
    file = exported_openvino / "unet" / openvino_graph.FILE
    shapes = {"sample": (1, 4, 8, 8), "encoder_hidden_states": (1, 7, 128)}
    random = np.random.default_rng(0)
    cases: list[dict[str, Any]] = [
        {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        | {"timestep": np.array(timestep)}
        for timestep in (7, 999)
    ]

    def read() -> Any:
        model = openvino.Core().read_model(file)
        model.reshape(shapes | {"timestep": []})
        return model

    found = list(ir_pieces.run(read, cases, limit, watched=watched, aside=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case-0", "case-1"]
    assert not list(tmp_path.glob("*/*"))  # what nobody reads any more is gone
    graph = OpenVinoEngine().compile(file, shapes)
    for case, got in zip(cases, found, strict=True):
        ((name, right),) = graph(case).items()
        assert np.abs(got[name] - right).max() < 1e-4 * np.abs(right).max()


def test_what_further_outputs_are_made_of_is_not_kept_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openvino import opset13 as opset

    monkeypatch.setattr(ir_pieces, "_LARGE", 1000)
    files: list[int] = []
    weights = np.random.default_rng(0).normal(size=(6, 128, 128)).astype(np.float32) / 11

    def read() -> Any:
        files.append(len(list(tmp_path.glob("case-0/*"))))
        tokens = opset.parameter([1, 8, 128], np.float32)
        tokens.output(0).set_names({"tokens"})
        layers = [tokens]
        for weight in weights:
            layers.append(
                opset.relu(opset.matmul(layers[-1], opset.constant(weight), False, False))
            )
        # As NNCF does it: what it wants of each layer comes after the model's own output.
        largest = [opset.reduce_max(one, np.array([0, 1])) for one in layers[1:]]
        model = openvino.Model([layers[-1], *largest], [tokens])
        for i, port in enumerate(model.outputs):
            port.set_names({f"output {i}"})
        return model

    tokens = np.random.default_rng(1).normal(size=(1, 8, 128)).astype(np.float32)
    (found,) = ir_pieces.run(read, [{"tokens": tokens}], 100_000, watched=True, aside=tmp_path)
    assert files == [0, 1, 1, 1, 1, 1]  # before each piece, the feature map of the last layer
    for i, weight in enumerate(weights, 1):
        tokens = np.maximum(tokens @ weight, 0)
        assert np.allclose(found[f"output {i}"], tokens.max((0, 1)), rtol=1e-4)
    assert np.allclose(found["output 0"], tokens, rtol=1e-4, atol=1e-5)


def test_a_disk_without_room_for_values_is_one_line(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    monkeypatch.setattr(ir_pieces, "_LARGE", 1000)
    monkeypatch.setattr(ir_pieces, "LIMIT", 60_000)

    def full(file: Path, value: np.ndarray) -> None:
        raise OSError(f"Not enough free space to write {value.nbytes} bytes after offset 128")

    monkeypatch.setattr(np, "save", full)
    case = {"latent_sample": np.zeros((1, 4, 8, 8), np.float32)}
    graph, _ = openvino_graph.prepare(
        exported_openvino / "vae_decoder" / openvino_graph.FILE, tmp_path, lambda model: [], 1
    )
    (tmp_path / "made").mkdir()
    with pytest.raises(ExportError, match=r"passed-.* cannot hold .* \(Not enough .*; free some"):
        openvino_graph.quantized(graph, [case], lambda: None, [], tmp_path / "made")


def test_samples_in_turn_give_what_they_give_together(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nncf")
    random = np.random.default_rng(2)
    cases = [
        {"latent_sample": random.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(3)
    ]
    source = exported_openvino / "vae_decoder" / openvino_graph.FILE
    made = []
    for together in (8, 2):
        monkeypatch.setattr(statistics, "TOGETHER", together)
        folder = tmp_path / str(together)
        (folder / "made").mkdir(parents=True)
        graph, _ = openvino_graph.prepare(source, folder, lambda model: [], 1)
        file = openvino_graph.quantized(graph, cases, lambda: None, [], folder / "made")
        model = openvino.Core().read_model(file)
        constants = [op for op in model.get_ordered_ops() if op.get_type_name() == "Constant"]
        made.append([op.data.copy() for op in constants])
    for one, other in zip(*made, strict=True):
        assert np.array_equal(one, other)


def test_the_engine_in_pieces_is_openvinos(exported_openvino: Path) -> None:
    file = exported_openvino / "unet" / openvino_graph.FILE
    random = np.random.default_rng(1)
    feeds = {
        "sample": random.normal(size=(2, 4, 8, 8)),
        "timestep": np.array(31.5),
        "encoder_hidden_states": random.normal(size=(2, 7, 128)),
    }
    shapes = {name: value.shape for name, value in feeds.items() if value.ndim}
    engines = OpenVinoEngine(), piecewise.PiecewiseEngine()
    right, found = (engine.compile(file, shapes)(feeds) for engine in engines)
    assert found.keys() == right.keys()
    for name, value in right.items():
        assert np.abs(found[name] - value).max() < 1e-4 * np.abs(value).max()
    with pytest.raises(EngineError, match="has no input mask"):
        engines[1].compile(file, shapes)(feeds | {"mask": feeds["sample"]})


@pytest.mark.parametrize("form", ["openvino", "onnx"])
def test_large_denoisers_are_calibrated_in_pieces(
    form: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def painted() -> trajectories.Trajectories:
        family = families.open_model(request.getfixturevalue(f"exported_{form}"))
        words = ["a red apple", "a cat"]
        return trajectories.record(family, words, 1, steps=1, side=64, tell=lambda: None)

    right = painted()
    monkeypatch.setattr(piecewise, "LARGE", 0)
    monkeypatch.setattr(OpenVinoEngine, "compile", None)  # nothing is compiled as a whole
    found = painted()
    for part, samples in right.seen.items():
        for one, other in zip(samples, found.seen[part], strict=True):
            assert one.keys() == other.keys()
            assert all(np.allclose(one[name], other[name], atol=1e-3) for name in one)


def test_decoders_are_calibrated_on_the_middle_of_large_pictures() -> None:
    latents = np.arange(1 * 4 * 12 * 9).reshape(1, 4, 12, 9)
    middle = trajectories._middle(latents, 8)
    assert np.array_equal(middle, latents[:, :, 2:10, :8])
    assert np.array_equal(trajectories._middle(latents, 64), latents)


def test_arrays_lie_in_a_file_as_long_as_there_is_room(tmp_path: Path) -> None:
    file = tmp_path / "arrays"
    arrays = smoothing.MappedArrays(file, 1000)
    given = [np.full((3, 4), 1.5, np.float16), np.arange(100, dtype=np.float32)]
    kept = [arrays.keep(one) for one in given]
    for one, other in zip(given, kept, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)
    large = np.zeros(1000, np.float32)
    assert arrays.keep(large) is large
    content = file.read_bytes()
    assert all(one.tobytes() in content for one in given)
    del arrays, kept


def two_products(half: bool) -> Any:
    """An openvino.Model that NNCF has quantized."""
    from openvino import opset13 as opset

    tokens = opset.parameter([1, 7, 16], np.float32)
    tokens.output(0).set_names({"tokens"})
    output = tokens
    for seed in range(2):
        weight = np.random.default_rng(seed).normal(size=(16, 16))
        stored = opset.constant(weight.astype(np.float16 if half else np.float32))
        output = opset.matmul(opset.gelu(output, "erf"), opset.convert(stored, "f32"), False, True)
    model = openvino.Model([output], [tokens])
    model.output(0).set_names({"product"})
    spread = np.logspace(-1, 1, 16)  # SmoothQuant has something to move
    case = {"tokens": np.float32(np.random.default_rng(0).normal(size=(1, 7, 16)) * spread)}
    calibration = post_training.Calibration([case], lambda: None)
    return post_training.quantize(model, calibration, [])


def integers(model: Any) -> list[np.ndarray]:
    """Its weights in 8 bits."""
    constants = [op for op in model.get_ordered_ops() if op.get_type_name() == "Constant"]
    return [op.data.copy() for op in constants if op.data.dtype == np.int8]


@pytest.mark.parametrize("half", [True, False])
def test_smoothed_weights_lie_in_a_file_and_are_rounded_as_in_memory(
    tmp_path: Path, half: bool
) -> None:
    pytest.importorskip("nncf")
    right = integers(two_products(half))
    file = tmp_path / "smoothed"
    with smoothing.smoothed_in_file(file, 4096):
        found = integers(two_products(half))
    assert len(found) == 2
    for one, other in zip(right, found, strict=True):
        assert np.array_equal(one, other)
    assert np.any(np.fromfile(file, np.uint8))


def test_weights_are_stored_one_by_one_as_nncf_stores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf")
    from nncf.openvino.quantization import quantize_model

    def operations(model: Any) -> list[tuple[str, list[set[str]]]]:
        return [
            (op.get_type_name(), [port.get_names() for port in op.outputs()])
            for op in model.get_ordered_ops()
        ]

    right = two_products(half=True)
    rounded: list[int] = []
    theirs = quantize_model.compress_quantize_weights_transformation

    def counting(model: Any) -> None:
        before = len(integers(model))
        theirs(model)
        rounded.append(len(integers(model)) - before)

    monkeypatch.setattr(quantize_model, "compress_quantize_weights_transformation", counting)
    with compression.stored_one_by_one():
        found = two_products(half=True)
    assert rounded == [1, 1, 0]
    assert operations(found) == operations(right)
    for one, other in zip(integers(found), integers(right), strict=True):
        assert np.array_equal(one, other)
    two_products(half=True)
    assert rounded == [1, 1, 0, 2]  # NNCF's own way is back
