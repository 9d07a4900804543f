"""ONNX graphs quantized in little memory: values as they are known, weights left in their file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("nncf")
pytest.importorskip("openvino")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pleinair.export import ir_pieces, onnx_file  # noqa: E402
from pleinair.export.int8 import onnx_graph, onnx_stored  # noqa: E402
from pleinair.export.int8.onnx_pieces import values  # noqa: E402

TOKENS, WIDTH = 7, 64


def layers(folder: Path, half: bool = False) -> Path:
    """A graph of two matrix products with a SiLU between, weights in a file beside it."""
    drawn = np.random.default_rng(0)
    spread = np.logspace(-1, 1, WIDTH)  # SmoothQuant has something to move
    names = ("first", "second")
    weights = [drawn.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5 * spread[:, None] for _ in names]
    bias = numpy_helper.from_array(drawn.normal(size=WIDTH).astype(np.float32), "bias")
    nodes, stored = [], [bias]
    for name, weight in zip(names, weights, strict=True):
        kept = f"{name}.float16" if half else name
        stored.append(numpy_helper.from_array(np.asarray(weight, "<f2" if half else "<f4"), kept))
        if half:
            nodes.append(helper.make_node("Cast", [kept], [name], f"{name}/Cast", to=1))
    nodes += [
        helper.make_node("MatMul", ["tokens", "first"], ["product"], "first/MatMul"),
        helper.make_node("Add", ["bias", "product"], ["biased"], "first/Add"),
        helper.make_node("Sigmoid", ["biased"], ["gate"], "Sigmoid"),
        helper.make_node("Mul", ["biased", "gate"], ["between"], "Mul"),
        helper.make_node("MatMul", ["between", "second"], ["output"], "second/MatMul"),
    ]
    shape = ["batch", "tokens", WIDTH]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    return onnx_file.save(model, folder, external=True)


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    drawn = np.random.default_rng(1)
    return [
        {"tokens": drawn.normal(size=(1, TOKENS, WIDTH)).astype(np.float32) * 2**i}
        for i in range(count)
    ]


def in_8_bits(source: Path, folder: Path, asked: Any, kept: Any = (), quick: bool = False) -> Path:
    """A graph prepared in `work` and quantized into `made`, both in the folder."""
    for name in ("work", "made"):
        (folder / name).mkdir()
    graph, _ = onnx_graph.prepare(source, folder / "work", lambda model: [], 1)
    return onnx_graph.quantized(graph, asked, lambda: None, kept, folder / "made", quick)


def quantized(folder: Path, half: bool = True) -> Any:
    """The layers in 8 bits."""
    return onnx.load(in_8_bits(layers(folder / "source", half), folder, samples()))


def stored(model: Any) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def test_a_weight_may_be_what_a_constant_gives(tmp_path: Path) -> None:
    """As older exporters write it."""
    (tmp_path / "source").mkdir()
    model = onnx.load(layers(tmp_path / "layers"))
    (first,) = [one for one in model.graph.initializer if one.name == "first"]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["first"], "Constant", value=first))
    model.graph.initializer.remove(first)
    source = onnx_file.save(model, tmp_path / "source")
    made = in_8_bits(source, tmp_path, samples())
    right, found = (
        onnx_graph.engine(file).compile(file, {})(samples()[1])["output"] for file in (source, made)
    )
    assert 0 < np.abs(right - found).max() < 0.1 * np.abs(right).max()


@contextlib.contextmanager
def as_it_is(*arguments: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize("limit", [onnx_file.INLINE_LIMIT, 4096])
def test_the_numbers_are_nncfs(tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "INLINE_LIMIT", limit)
    found = quantized(tmp_path / "found")
    for name in ("weights_in_file", "statistics_in_pieces"):
        monkeypatch.setattr(onnx_graph, name, as_it_is)
    right = quantized(tmp_path / "right")
    onnx.checker.check_model(found, full_check=True)
    assert (tmp_path / "found" / "made" / onnx_file.DATA).exists() == (limit == 4096)
    assert [node.op_type for node in found.graph.node] == [n.op_type for n in right.graph.node]
    numbers, theirs = stored(found), stored(right)
    assert numbers.keys() == theirs.keys()
    integers = [name for name, value in theirs.items() if value.dtype == np.int8]
    assert len([name for name in integers if theirs[name].ndim == 2]) == 2
    for name, value in theirs.items():
        if name in integers:  # the ranges are of the same numbers, to rounding
            assert np.abs(numbers[name].astype(int) - value).max() <= 1
            assert np.mean(numbers[name] != value) < 0.01
        else:
            assert np.allclose(numbers[name], value, rtol=1e-4, atol=1e-5), name


def test_weights_come_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is ever in the graph beside rounded weights are vectors."""
    put = onnx_stored._store
    held: list[list[int]] = []

    def looking(model: Any, folder: Path, store: Any) -> None:
        def one(alone: Any) -> None:
            held.append([len(weight.raw_data) for weight in alone.graph.initializer])
            store(alone)

        wide = [one for one in model.graph.initializer if np.prod(one.dims) == WIDTH**2]
        assert [one.name for one in wide] == ["first", "second"]
        assert not any(weight.raw_data for weight in wide)
        put(model, folder, one)

    monkeypatch.setattr(onnx_stored, "_store", looking)
    model = quantized(tmp_path)
    assert [max(sizes) for sizes in held] == [4 * WIDTH * WIDTH] * 2
    assert not [one for one in model.graph.initializer if one.name in ("first", "second")]


def test_what_stays_in_floating_point_is_written_as_it_was(tmp_path: Path) -> None:
    source = layers(tmp_path / "source")
    made = in_8_bits(source, tmp_path, samples(), kept=["second/MatMul"], quick=True)
    assert sorted(file.name for file in made.parent.iterdir()) == ["model.onnx"]  # small: one file
    found, right = (stored(onnx.load(file)) for file in (made, source))
    assert np.array_equal(found["second"], right["second"])
    assert "first" not in found
    engine = onnx_graph.engine(made)
    assert engine.name == "onnxruntime"
    outputs = [
        onnx_graph.engine(file).compile(file, {})(samples()[1])["output"] for file in (source, made)
    ]
    assert 0 < np.abs(outputs[0] - outputs[1]).max() < 0.1 * np.abs(outputs[0]).max()


def test_values_are_told_as_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ir_pieces, "LIMIT", 1000)
    model = onnx.load(layers(tmp_path / "layers"), load_external_data=False)
    told: list[int] = []
    found: dict[str, list[np.ndarray]] = {}
    names = ["output", "biased", "tokens"]
    for name, value in values(
        model, names, samples(), tmp_path / "layers", lambda: told.append(len(found))
    ):
        found.setdefault(name, []).append(value)
    assert told == [3, 3, 3]
    numbers = stored(onnx.load(tmp_path / "layers" / "model.onnx"))
    assert found.keys() == set(names)
    for i, sample in enumerate(samples()):
        biased = sample["tokens"] @ numbers["first"] + numbers["bias"]
        output = biased / (1 + np.exp(-biased)) @ numbers["second"]
        for name, right in (("biased", biased), ("output", output), ("tokens", sample["tokens"])):
            assert np.allclose(found[name][i], right, rtol=1e-4, atol=1e-4)


def test_a_decoder_whose_weights_are_all_in_files(
    exported_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a large one's: what is written has them in a file, too, also biases of convolutions."""
    monkeypatch.setattr(onnx_file, "INLINE_LIMIT", 4096)
    monkeypatch.setattr(onnx_file, "_WORTH", 16)
    (tmp_path / "source").mkdir()
    model = onnx.load(exported_onnx / "vae_decoder" / onnx_file.FILE)
    source = onnx_file.save(model, tmp_path / "source")
    drawn = np.random.default_rng(3)
    asked = [
        {"latent_sample": drawn.normal(size=(1, 4, 8, 8)).astype(np.float32)} for _ in range(3)
    ]
    made = in_8_bits(source, tmp_path, asked[:2])
    for folder in (source.parent, tmp_path / "work", made.parent):
        assert (folder / onnx_file.DATA).exists()
    right, found = (
        onnx_graph.engine(file).compile(file, {})(asked[2])["sample"] for file in (source, made)
    )
    assert 0 < np.linalg.norm(right - found) < 0.3 * np.linalg.norm(right)
