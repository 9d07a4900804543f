"""One shelf for several pipelines: what they have in common is compiled once, its limit is one."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import Shelf, StableDiffusionPipeline
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model.footprint import footprint

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK: dict[str, Any] = {"seed": 7, "num_inference_steps": 2, "width": 64, "height": 64}
ALL = ["text_encoder", "unet", "vae_decoder"]


@pytest.fixture
def folder(exported_openvino: Path) -> Path:
    return exported_openvino


def opened(folder: Path, shelf: Shelf | None, compiled: list[str], **options: Any) -> Any:
    """A pipeline that says what it compiles."""
    options = {"profile": "exact", **options}
    engine = "onnxruntime" if (folder / "unet" / "model.onnx").exists() else "openvino"
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine=engine, shelf=shelf, **options)
    compile = pipe.engine.compile

    def noted(path: Path, *arguments: Any) -> Any:
        compiled.append(path.parent.name)
        return compile(path, *arguments)

    pipe.engine.compile = noted
    return pipe


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_a_second_pipeline_finds_the_first_one_s_graphs(
    format: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"exported_{format}")
    shelf, compiled = Shelf(), []
    first = opened(folder, shelf, compiled)("boat", **QUICK).images[0]
    assert sorted(compiled) == ALL
    second = opened(folder, shelf, compiled)("boat", **QUICK).images[0]
    assert sorted(compiled) == ALL
    assert np.array_equal(first, second)


def test_of_another_precision_they_are_others(folder: Path, monkeypatch: Any) -> None:
    shelf, compiled = Shelf(), []
    exact = opened(folder, shelf, compiled)
    other = opened(folder, shelf, compiled)
    monkeypatch.setattr(other.engine, "precision", "bf16")  # as far as the shelf can tell
    monkeypatch.setattr(other.engine, "compile", exact.engine.compile)
    asked = []
    for pipe in (exact, other):
        compiled.clear()
        pipe("boat", **QUICK)
        asked.append(sorted(compiled))
    assert asked == [ALL, ["unet", "vae_decoder"]]  # text encoders are float32 in any case


def test_two_models_stay_side_by_side(folder: Path, tmp_path: Path) -> None:
    shelf, compiled = Shelf(), []
    (tmp_path / "other").symlink_to(folder)
    pipes = [opened(path, shelf, compiled) for path in (folder, tmp_path / "other")]
    for _ in range(2):
        for pipe in pipes:
            pipe("boat", **QUICK)
    assert sorted(compiled) == sorted(ALL * 2)


def test_two_models_under_one_limit_take_turns(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(folder)
    compiled: list[str] = []
    free = opened(folder, None, compiled)
    expected = free("boat", **QUICK).images[0]
    needs = footprint(
        free.parts.files["unet"],
        free.engine.name,
        free.family.working("unet", {"sample": (2, 4, 8, 8)}),
    )
    shelf = Shelf((200 << 20) + 2 * needs)  # room for one model's largest part, and not two models
    pipes = [opened(path, shelf, compiled) for path in (folder, tmp_path / "other")]
    compiled.clear()
    for _ in range(2):
        for pipe in pipes:
            assert np.array_equal(pipe("boat", **QUICK).images[0], expected)
            gc.collect()
            held = sum(kept.needs for kept in shelf._kept)
            assert (200 << 20) + held <= shelf.most
    assert len(compiled) > 2 * len(ALL)


def test_two_sizes_by_turns_are_compiled_once_each_under_a_limit(folder: Path) -> None:
    compiled: list[str] = []
    pipe = opened(folder, Shelf(1 << 30), compiled)
    sizes = [{"width": 64, "height": 64}, {"width": 96, "height": 64}]
    for size in sizes * 3:
        pipe("boat", **{**QUICK, **size})
    assert sorted(compiled) == sorted([*ALL, "unet", "vae_decoder"])  # a text has no size


def test_without_a_limit_one_size_stays(folder: Path) -> None:
    compiled: list[str] = []
    pipe = opened(folder, Shelf(), compiled)
    for width in (64, 96, 64):
        pipe("boat", **{**QUICK, "width": width})
    assert sorted(compiled) == sorted(["text_encoder", *["unet", "vae_decoder"] * 3])


def test_of_other_threads_they_are_others(folder: Path) -> None:
    shelf, compiled = Shelf(), []
    for threads in (1, 2, 1):
        opened(folder, shelf, compiled, threads=threads)("boat", **QUICK)
    assert sorted(compiled) == sorted(ALL * 3)


def test_closing_one_leaves_the_others_graphs(folder: Path) -> None:
    shelf, compiled = Shelf(), []
    with opened(folder, shelf, compiled) as pipe:
        pipe("boat", **QUICK)
    opened(folder, shelf, compiled)("boat", **QUICK)
    assert sorted(compiled) == ALL
    shelf.clear()
    opened(folder, shelf, compiled)("boat", **QUICK)
    assert sorted(compiled) == sorted(ALL * 2)


def test_a_limit_is_the_shelf_s(folder: Path) -> None:
    with pytest.raises(SettingError, match="max_memory and shelf are both given"):
        StableDiffusionPipeline.from_pretrained(folder, shelf=Shelf(), max_memory="2GB")
    with pytest.raises(SettingError, match="the unet takes about"):
        StableDiffusionPipeline.from_pretrained(folder, shelf=Shelf(1 << 20), profile="exact")
