"""Weights stay in their file: a network, its trace and its graphs hold none of them."""

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pleinair.export import ir_pieces, lora, onnx_model, openvino_ir, parity, weights
from pleinair.export.formats import Backend
from pleinair.export.graphs.graph import Graph, Inputs, Wrapper, normal
from pleinair.export.stored_weight import stored_weights

_WIDTH = 64


class _Network(nn.Module):
    """A layer of each kind whose weight may stay; one of them is used twice, one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_WIDTH, _WIDTH)
        self.conv = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.turned = nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.norm = nn.LayerNorm(_WIDTH)
        self.other = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.norm(self.turned(self.words(ids)))
        columns = self.conv(rows.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
        result: Tensor = self.turned(columns)
        return result


class _Wrapped(Wrapper):
    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.model(ids)
        return result


def _state(dtype: torch.dtype = torch.float32) -> weights.State:
    shapes = {key: value.shape for key, value in _Network().state_dict().items()}
    return {key: (normal(*shape) / 8).to(dtype) for key, shape in shapes.items()}


def _loaded(tmp_path: Path, dtype: torch.dtype = torch.float32) -> _Network:
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(_state(dtype), file)
    with torch.device("meta"):
        network = _Network()
    weights.load(network, weights.read_weights([file]), "tiny")
    return network


def _reference(dtype: torch.dtype = torch.float32) -> _Network:
    network = _Network()
    network.load_state_dict({key: value.float() for key, value in _state(dtype).items()})
    return network.eval()


def _graph(network: nn.Module) -> Graph:
    def ids(batch: int, tokens: int) -> Inputs:
        return {"ids": torch.arange(batch * tokens).reshape(batch, tokens) % _WIDTH}

    return Graph(
        name="tiny",
        module=_Wrapped(network).eval(),
        inputs={"ids": {0: "batch", 1: "tokens"}},
        outputs={"out": {0: "batch", 1: "tokens"}},
        cases=[lambda: ids(2, 7), lambda: ids(1, 5)],
    )


_IDS = torch.tensor([[3, 1, 4], [1, 5, 9]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_network_computes_with_what_stays_in_its_file(tmp_path: Path, dtype: torch.dtype) -> None:
    network = _loaded(tmp_path, dtype)
    assert len(stored_weights(network)) == 4
    for _ in range(2):  # what was read is forgotten, and read again
        with torch.no_grad():
            assert torch.allclose(network(_IDS), _reference(dtype)(_IDS), atol=1e-5)
        assert all(weight.is_meta for weight in stored_weights(network).values())
        assert len(stored_weights(network)) == 4


def test_values_that_are_not_mapped_are_not_lost() -> None:
    """Pages are given back of files alone."""
    network = _Network()
    weights.load(network, {key: value.double() for key, value in _state().items()}, "tiny")
    with torch.no_grad():
        for _ in range(2):
            assert torch.allclose(network(_IDS), _reference()(_IDS), atol=1e-5)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("backend", [openvino_ir, onnx_model])
@pytest.mark.parametrize("is_large", [True, False])
def test_graphs_hold_every_weight(
    tmp_path: Path, backend: Backend, half: bool, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pleinair.export.onnx_file.INLINE_LIMIT", 4096 if is_large else 10**9)
    network = _loaded(tmp_path)
    if half:
        weights.round_to_half(network, "tiny")
    graph = _graph(network)
    backend.write(graph, tmp_path / "written", half=half)
    plain = _reference()
    if half:
        weights.round_to_half(plain, "tiny")
    expected = parity.reference(_graph(plain))
    found = backend.run(tmp_path / "written", expected.inputs)
    parity.compare(expected, found, "tiny", tolerance=1e-5)
    size = sum(file.stat().st_size for file in (tmp_path / "written").iterdir())
    assert size < (2 if half else 4) * 3 * _WIDTH**2 + 60_000, "the weight of no use is left out"


def test_a_lora_is_merged_when_a_weight_is_read(tmp_path: Path) -> None:
    network = _loaded(tmp_path)
    lora.merge(
        network, {"turned.weight": lambda weight: weight * 2, "conv.bias": lambda bias: bias + 1}
    )
    plain = _reference()
    with torch.no_grad():
        plain.turned.weight *= 2
        plain.conv.bias += 1
        assert torch.allclose(network(_IDS), plain(_IDS), atol=1e-5)


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    state = _state()
    state["conv.weight"][3, 4] = np.nan
    with pytest.raises(weights.SourceError, match=r"tiny: the weight conv\.weight holds"):
        weights.load(_Network(), state, "tiny")


@pytest.mark.parametrize("limit", [1, 40_000, 10**9])
def test_a_graph_in_pieces_gives_what_it_gives_as_a_whole(tmp_path: Path, limit: int) -> None:
    graph = _graph(_reference())
    openvino_ir.write(graph, tmp_path, half=True)
    file = tmp_path / openvino_ir.FILE
    cases = [{name: value.numpy() for name, value in case().items()} for case in graph.cases]
    found = list(ir_pieces.run(lambda: openvino.Core().read_model(file), cases, limit))
    weights.round_to_half(graph.module, "tiny")
    for right, got in zip(parity.reference(graph).outputs, found, strict=True):
        assert got.keys() == right.keys()
        assert np.allclose(got["out"], right["out"], atol=1e-5)
