"""Networks too large for memory: painted with in pieces, quantized with their weights in files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.export import ir_pieces
from pleinair.export.int8 import openvino_graph, piecewise, post_training, smoothing, trajectories
from pleinair.runtime import families
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import EngineError

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


def test_large_denoisers_are_calibrated_in_pieces(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def painted() -> trajectories.Trajectories:
        family = families.open_model(exported_openvino)
        words = ["a red apple", "a cat"]
        return trajectories.record(family, words, 1, steps=1, side=64, tell=lambda: None)

    right = painted()
    monkeypatch.setattr(trajectories, "LARGE", 0)
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


@pytest.mark.parametrize("half", [True, False])
def test_smoothed_weights_lie_in_a_file_and_are_rounded_as_in_memory(
    tmp_path: Path, half: bool
) -> None:
    pytest.importorskip("nncf")
    from openvino import opset13 as opset

    random = np.random.default_rng(0)

    def model() -> Any:
        tokens = opset.parameter([1, 7, 16], np.float32)
        tokens.output(0).set_names({"tokens"})
        output = tokens
        for seed in range(2):
            weight = np.random.default_rng(seed).normal(size=(16, 16))
            stored = opset.constant(weight.astype(np.float16 if half else np.float32))
            output = opset.matmul(
                opset.gelu(output, "erf"), opset.convert(stored, "f32"), False, True
            )
        return openvino.Model([output], [tokens])

    spread = np.logspace(-1, 1, 16)  # SmoothQuant has something to move
    cases = [{"tokens": np.float32(random.normal(size=(1, 7, 16)) * spread)}]

    def rounded() -> list[np.ndarray]:
        calibration = post_training.Calibration(cases, lambda: None)
        made = post_training.quantize(model(), calibration, [])
        constants = [op for op in made.get_ordered_ops() if op.get_type_name() == "Constant"]
        return [op.data.copy() for op in constants if op.data.dtype == np.int8]

    right = rounded()
    file = tmp_path / "smoothed"
    with smoothing.smoothed_in_file(file, 4096):
        found = rounded()
    assert len(found) == 2
    for one, other in zip(right, found, strict=True):
        assert np.array_equal(one, other)
    assert np.any(np.fromfile(file, np.uint8))
