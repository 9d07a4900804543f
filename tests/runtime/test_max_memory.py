"""A limit on memory: parts come and go, pictures do not change, and what cannot fit is refused."""

import gc
import threading
import weakref
from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.engines.shelf import Shelf, Together
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model.footprint import bytes_of, footprint, weights

QUICK: dict[str, Any] = {"seed": 7, "num_inference_steps": 3, "width": 64, "height": 64}
MB = 1 << 20


@pytest.fixture(params=["openvino", "onnxruntime"])
def folder(request: pytest.FixtureRequest) -> Path:
    name = {"openvino": "openvino", "onnxruntime": "onnx"}[request.param]
    return request.getfixturevalue(f"exported_{name}")


def beside_graphs() -> int:
    """Bytes that a limit has to leave for what is no graph: the least that is no mistake."""

    def holds_nothing(most: int) -> bool:
        try:
            Shelf(most).check("unet", 0)
        except SettingError:
            return False
        return True

    return bisect_left(range(1 << 30), True, key=holds_nothing)


@pytest.fixture
def narrow(folder: Path) -> int:
    """A limit that holds any one part of the tiny model, and not two."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, profile="exact")
    shapes = {
        "text_encoder": {"input_ids": (1, 77)},
        "unet": {"sample": (2, 4, 8, 8), "encoder_hidden_states": (2, 77, 128)},
        "vae_decoder": {"latent_sample": (1, 4, 8, 8)},
    }
    needs = [
        footprint(pipe.parts.files[part], pipe.engine.name, pipe.family.working(part, shape))
        for part, shape in shapes.items()
    ]
    assert max(needs) < sum(sorted(needs)[:2])
    return beside_graphs() + max(needs)


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, list[Any]]:
    """A pipeline, and its compiled graphs as they come: (part, weak reference)."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, profile="exact", **options)
    compile, made = pipe.engine.compile, []

    def noted(path: Path, *arguments: Any) -> Any:
        graph = compile(path, *arguments)
        made.append((path.parent.name, weakref.ref(graph)))
        return graph

    monkeypatch.setattr(pipe.engine, "compile", noted)
    return pipe, made


def test_one_part_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch, narrow: int) -> None:
    free, all_of_them = opened(folder, monkeypatch)
    expected = [np.asarray(free("boat", **QUICK).images[0]) for _ in range(2)]
    pipe, made = opened(folder, monkeypatch, max_memory=narrow)
    found = [np.asarray(pipe("boat", **QUICK).images[0]) for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    order = ["text_encoder", "unet", "vae_decoder"]
    assert sorted(part for part, _ in all_of_them) == order
    assert [part for part, _ in made] == order * 2
    gc.collect()
    assert sum(graph() is not None for _, graph in made) == 1
    assert all(graph() is not None for _, graph in all_of_them)


def test_nothing_goes_that_has_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, made = opened(folder, monkeypatch, max_memory="8GB")
    for _ in range(2):
        pipe("boat", **QUICK)
    assert [part for part, _ in made] == ["text_encoder", "unet", "vae_decoder"]


def test_threads_take_turns(folder: Path, monkeypatch: pytest.MonkeyPatch, narrow: int) -> None:
    pipe, _ = opened(folder, monkeypatch, max_memory=narrow)
    free = StableDiffusionPipeline.from_pretrained(folder, profile="exact")
    painted: dict[int, Any] = {}

    def paint(seed: int) -> None:
        painted[seed] = pipe("boat", **{**QUICK, "seed": seed}).images[0]

    threads = [threading.Thread(target=paint, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for seed in (1, 2):
        assert np.array_equal(painted[seed], free("boat", **{**QUICK, "seed": seed}).images[0])


def test_what_never_fits_is_refused_at_once(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with pytest.raises(SettingError, match=r"max_memory is 0\.20 GB, and the unet takes about"):
        StableDiffusionPipeline.from_pretrained(
            exported_openvino, max_memory="200MB", profile="exact"
        )
    monkeypatch.chdir(tmp_path)
    assert main(["--model", str(exported_openvino), "--max-memory", "10MB"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert line.startswith("error: --max-memory is 0.01 GB")


def test_too_large_a_picture_is_refused_before_it_is_painted(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, made = opened(exported_openvino, monkeypatch, max_memory="400MB")
    pipe("boat", **QUICK)
    made.clear()
    with pytest.raises(SettingError, match="paint smaller, with tile"):
        pipe("boat", **{**QUICK, "width": 2048, "height": 2048})
    assert not {part for part, _ in made} & {"unet", "vae_decoder"}
    pipe("boat", **{**QUICK, "width": 256, "height": 128, "tile": 64, "num_inference_steps": 1})


class _Graph:
    def __call__(self, feeds: Any) -> dict[str, Any]:
        return {}


def test_what_works_in_every_step_stays_together() -> None:
    """UNet, its shallow part, ControlNets: else each step would load what the last one dropped."""
    made: list[str] = []
    graphs: dict[str, weakref.ref[_Graph]] = {}
    call = Together()

    def graph(name: str, needs: int, together: Together | None = call) -> Any:
        def compile() -> _Graph:
            made.append(name)
            one = _Graph()
            graphs[name] = weakref.ref(one)
            return one

        return kept.graph(name, "", compile, needs=needs, together=together)

    def alive() -> list[str]:
        gc.collect()
        return [name for name, one in graphs.items() if one() is not None]

    kept = Shelf(beside_graphs() + 100 * MB)
    unet, shallow = graph("unet", 60 * MB), graph("unet, shallow", 10 * MB)
    net, decoder = graph("controlnet", 30 * MB), graph("vae_decoder", 50 * MB, None)
    for _ in range(3):
        for one in (unet, shallow, net):
            one({})
    assert made == ["unet", "unet, shallow", "controlnet"]
    decoder({})
    assert alive() == ["unet, shallow", "controlnet", "vae_decoder"]
    unet({})  # for which what works beside it stays, though it was used longer ago
    assert alive() == ["unet", "unet, shallow", "controlnet"]
    with pytest.raises(SettingError, match="controlnet_1"):
        graph("controlnet_1", 50 * MB)
    other = Together()  # of another call, without the shallow part
    graph("unet", 60 * MB, other)
    graph("controlnet", 30 * MB, other)


def test_sizes_are_read() -> None:
    said = {"2GB": 2 * 10**9, "1.5 gib": 3 * 2**29, "800MB": 8 * 10**8, "4096": 4096, 77: 77}
    assert {text: bytes_of(text) for text in said} == said
    assert bytes_of(None) is None
    for text in ("lots", "-2GB", "2 G", "0", 0, "2TB"):
        with pytest.raises(SettingError, match="max_memory"):
            bytes_of(text)


def test_weights_are_counted_as_they_are_computed_with(
    exported_openvino: Path, exported_onnx: Path, tmp_path: Path
) -> None:
    """In both formats, and at half precision, as float32."""
    import openvino

    file = exported_openvino / "unet" / "openvino_model.xml"
    whole = file.with_suffix(".bin").stat().st_size
    assert weights(file) == pytest.approx(whole, rel=0.02)
    assert weights(exported_onnx / "unet" / "model.onnx") == pytest.approx(whole, rel=0.02)
    half = tmp_path / "half.xml"
    openvino.save_model(openvino.Core().read_model(file), half, compress_to_fp16=True)
    assert half.with_suffix(".bin").stat().st_size == pytest.approx(whole / 2, rel=0.02)
    assert weights(half) == pytest.approx(whole, rel=0.02)


def test_a_shallow_part_is_counted_as_the_small_one(exported_openvino: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")
    file = pipe.bundle.graph("unet", "openvino")
    working = pipe.family.working("unet", {"sample": (1, 4, 8, 8)})
    needs = [footprint(file, "openvino", working, share=share) for share in (1 / 6, 4 / 6, 1)]
    assert needs == sorted(set(needs))
    assert footprint(file, "openvino", working, changed=0.5) > needs[2]
