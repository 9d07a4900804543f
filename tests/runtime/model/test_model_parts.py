"""Parts: what an engine is asked to compile, what is kept, and what counts as the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime.engines.shelf import Shelf, Together
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.graphs.cut import Cut
from pleinair.runtime.graphs.shared_rows import SharedRows
from pleinair.runtime.graphs.weights import ChangedWeights
from pleinair.runtime.model.footprint import Working, footprint
from pleinair.runtime.model.parts import PartGraph, Parts

MB = 1 << 20
SHAPES = {"sample": (2, 4, 8, 8), "timestep": ()}


class Engine:
    name, device, format = "openvino", "CPU", "openvino"
    precision, streams, threads = "f32", 1, None

    def __init__(self) -> None:
        self.compiled: list[tuple[str, dict[str, Any], list[Any]]] = []

    def compile(self, path: Path, shapes: Any, edits: Any = ()) -> Any:
        self.compiled.append((path.parent.name, dict(shapes), list(edits)))
        return lambda feeds: {name: np.zeros(1) for name in sorted(feeds)}


def parts(folder: Path, **changed: Any) -> Parts:
    files = {}
    for name in ("unet", "vae_decoder"):
        files[name] = folder / name / "openvino_model.xml"
        files[name].parent.mkdir(parents=True)
        files[name].write_text(
            f'<net><data element_type="f32" offset="0" size="{100 * MB}"/></net>'
        )
    given = {
        "engine": Engine(),
        "files": files,
        "input_names": {"unet": {"sample": "latent_model_input", "timestep": "t"}},
        "changed": {},
        "working": lambda part, shapes: Working("denoiser", 1),
        "cuts": 4,
        "shelf": Shelf(),
    }
    return Parts(**{**given, **changed})


def test_inputs_go_by_the_graph_s_own_names(tmp_path: Path) -> None:
    made = parts(tmp_path)
    graph = made.graph("unet", SHAPES)
    assert made.engine.compiled == [("unet", {"latent_model_input": (2, 4, 8, 8), "t": ()}, [])]
    feeds = {"sample": np.zeros(1), "timestep": np.zeros(1), "other": np.zeros(1)}
    assert list(graph(feeds)) == ["latent_model_input", "other", "t"]
    assert made.inputs("unet", "sample", "other") == ("latent_model_input", "other")
    assert made.inputs("vae_decoder", "latent_sample") == ("latent_sample",)


def test_a_graph_is_compiled_once_for_a_size_and_edits(tmp_path: Path) -> None:
    made = parts(tmp_path)
    first = made.graph("unet", SHAPES)
    assert made.graph("unet", {**SHAPES, "sample": [2, 4, 8, 8]}) is first
    assert made.graph("unet", SHAPES, [SharedRows(("sample",))]) is not first
    assert made.graph("unet", {**SHAPES, "sample": (1, 4, 8, 8)}) is not first
    assert made.graph("unet", SHAPES) is not first  # one of a name is kept
    assert len(made.engine.compiled) == 4


def test_full_and_shallow_are_kept_side_by_side(tmp_path: Path) -> None:
    made = parts(tmp_path)
    full, shallow = Cut(1, shallow=False), Cut(1, shallow=True)
    first = made.graph("unet", SHAPES, [full]), made.graph("unet", SHAPES, [shallow])
    again = made.graph("unet", SHAPES, [full]), made.graph("unet", SHAPES, [shallow])
    assert first == again
    assert len(made.engine.compiled) == 2


def test_changed_weights_are_the_first_edit(tmp_path: Path) -> None:
    changed = ChangedWeights({"conv_in.weight": lambda weight: weight})
    made = parts(tmp_path, changed={"unet": changed})
    made.graph("unet", SHAPES, [Cut(0, shallow=True)])
    made.graph("vae_decoder", {"latent_sample": (1, 4, 8, 8)})
    (_, _, edits), (_, _, none) = made.engine.compiled
    assert edits == [changed, Cut(0, shallow=True)]
    assert none == []


def test_a_limit_counts_a_shallow_graph_s_share(tmp_path: Path) -> None:
    made = parts(tmp_path)
    file = made.files["unet"]
    needs = [footprint(file, "openvino", Working("denoiser", 1), share=share) for share in (1, 0.5)]
    edits = [[Cut(1, shallow=False)], [Cut(1, shallow=True)]]
    made.shelf.most = 200 * MB + sum(needs)
    together = Together()
    for edit in edits:
        made.graph("unet", SHAPES, edit, together)
    made.shelf.most -= 1
    made.graph("unet", SHAPES, edits[0], Together())
    with pytest.raises(SettingError, match="the unet, shallow takes about"):
        made.graph("unet", SHAPES, edits[1], together)


def test_what_fits_at_no_size_is_refused(tmp_path: Path) -> None:
    made = parts(tmp_path, shelf=Shelf(250 * MB))
    with pytest.raises(SettingError, match="and the unet takes about"):
        made.check_memory("unet", "vae_decoder")
    parts(tmp_path / "other").check_memory("unet")  # without a limit nothing is read


def halves(file: Path, values: list[float]) -> Path:
    """A graph with one constant in half precision."""
    file.parent.mkdir(parents=True)
    size = 2 * len(values)
    file.write_text(f'<net><data element_type="f16" offset="0" size="{size}"/></net>')
    file.with_suffix(".bin").write_bytes(np.array(values, "<f2").tobytes())
    return file


NAN = np.full(1, np.nan)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, broken: float) -> None:
    file = halves(tmp_path / "unet" / "openvino_model.xml", [1, broken])
    graph = PartGraph(lambda feeds: {"sample": NAN}, file, changed=False)
    with pytest.raises(EngineError, match=r"unet.openvino_model\.bin: holds weights that are no"):
        graph({"sample": np.zeros(1)})


def test_values_that_are_no_numbers_name_the_graph(tmp_path: Path) -> None:
    file = halves(tmp_path / "unet" / "openvino_model.xml", [1, -np.inf])  # as in a mask
    graph = PartGraph(lambda feeds: {"sample": NAN}, file, changed=True)
    with pytest.raises(EngineError, match="with what the LoRA files change: gives values that are"):
        graph({"sample": np.zeros(1)})
    assert graph({"sample": NAN})  # what it was given is not its fault


def test_an_engine_s_error_names_the_graph() -> None:
    def fail(feeds: Any) -> Any:
        raise EngineError("has no input x")

    with pytest.raises(EngineError, match=r"unet\.xml: has no input x"):
        PartGraph(fail, Path("unet.xml"), changed=False)({})
    with pytest.raises(EngineError, match=r"unet\.xml: gives nothing"):
        PartGraph(lambda feeds: {}, Path("unet.xml"), changed=False)({})
