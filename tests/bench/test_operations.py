"""A graph's time is told by what its operations were before OpenVINO compiled them."""

import json
from pathlib import Path
from typing import Any

import pytest

from pleinair.bench.__main__ import main
from pleinair.bench.operations import class_of
from pleinair.runtime.model import catalog


def test_command(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "operations.json"
    command = ["operations", str(catalog.bundled()), "--steps", "3", "--rounds", "2"]
    assert main([*command, "--json", str(file)]) == 0
    records = json.loads(file.read_text(encoding="utf-8"))["records"]
    assert len(records) == 2
    for record in records:
        graphs = {graph["part"]: graph for graph in record["graphs"]}
        assert {name: graph["evaluations"] for name, graph in graphs.items()} == {
            "text_encoder": 2,
            "unet": 3,
            "vae_decoder": 1,
        }
        for graph in graphs.values():
            worked = {
                name for name in ("convolution", "linear", "attention") if graph["flops"][name]
            }
            assert worked <= graph["seconds"].keys()
            assert all(graph["seconds"][name] > 0 for name in worked)
        assert (
            graphs["unet"]["number"]["attention"] >= 14
        )  # one a block's self- and cross-attention
        assert graphs["text_encoder"]["number"].get("convolution", 0) == 0
        assert sum(sum(graph["seconds"].values()) for graph in graphs.values()) < record["process"]
    table = capsys.readouterr().out
    assert "| unet | all | " in table
    assert "| vae_decoder | convolution | " in table


@pytest.mark.parametrize(
    ("kind", "taken_in", "found"),
    [
        ("Convolution", {"Convolution", "Add"}, "convolution"),
        ("FullyConnected", {"MatMul"}, "linear"),
        ("FullyConnectedQuantizedLegacy", {""}, "linear"),
        ("Subgraph", {"ScaledDotProductAttention", "Transpose"}, "attention"),
        ("Subgraph", {"Softmax", ""}, "attention"),
        ("Subgraph", {"Add", "FakeQuantize"}, "element by element"),
        ("MVN", {"GroupNormalization"}, "norms"),
        ("Reduce", {"ReduceL2"}, "norms"),
        ("Reorder", set(), "layout"),
        ("Math", {"Sin"}, "element by element"),
    ],
)
def test_class(kind: str, taken_in: set[str], found: str) -> None:
    assert class_of(kind, taken_in) == found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--steps", "0"], "steps"),
        (["--rounds", "0"], "rounds is 0; give 1 or more"),
        (["--size", "63"], "63"),
        (["--profile", "balanced,stps=3"], "'stps' is no setting"),
    ],
)
def test_mistakes(more: list[str], words: str, capsys: Any) -> None:
    assert main(["operations", str(catalog.bundled()), *more]) == 2
    assert words in capsys.readouterr().err
