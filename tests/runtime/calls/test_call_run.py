"""A plan carried out: which graphs are compiled for which shapes, told when, and how long."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import model_folder, opened
from pleinair.runtime.engines.shelf import Shelf
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.graphs.cut import Cut
from pleinair.runtime.graphs.shared_rows import SharedRows
from pleinair.runtime.graphs.upsampling import TransposedUpsamplers
from pleinair.runtime.model.footprint import Working

ALONE = (TransposedUpsamplers(),)
TOGETHER = (TransposedUpsamplers(), SharedRows(("sample", "timestep")))
PICTURE = Image.new("RGB", (64, 64), (10, 200, 30))
QUICK: dict[str, Any] = {"seed": 1, "num_inference_steps": 3}


@pytest.fixture
def pipe(tmp_path: Path) -> Any:
    return opened(model_folder(tmp_path / "tree"))


def unets(pipe: Any) -> list[tuple[tuple[int, ...], tuple[Any, ...]]]:
    return [
        (shapes["sample"], edits) for part, shapes, edits in pipe.engine.compiled if part == "unet"
    ]


def test_each_part_is_compiled_once_for_the_size(pipe: Any) -> None:
    pipe("boat", width=32, **QUICK)
    pipe("tree", width=32, **QUICK)
    shapes = {part: shapes for part, shapes, _ in pipe.engine.compiled}
    assert len(pipe.engine.compiled) == len(shapes) == 3
    assert shapes["text_encoder"] == {"input_ids": (1, 77)}
    assert shapes["unet"] == {"sample": (2, 4, 8, 4), "encoder_hidden_states": (2, 77, 8)}
    assert shapes["vae_decoder"] == {"latent_sample": (1, 4, 8, 4)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [((2, 4, 8, 8), TOGETHER)]),
        ({"guidance_scale": 1}, [((1, 4, 8, 8), ALONE)]),
        ({"guidance_stop": 0.5}, [((1, 4, 8, 8), ALONE)]),
        (
            {"cache_interval": 2},
            [
                ((2, 4, 8, 8), (Cut(0, False), *TOGETHER)),
                ((2, 4, 8, 8), (Cut(0, True), *TOGETHER)),
            ],
        ),
        ({"width": 96, "tile": 32, "guidance_scale": 1}, [((1, 4, 4, 4), ALONE)]),
    ],
    ids=str,
)
def test_the_denoiser_s_graphs(pipe: Any, arguments: dict[str, Any], expected: Any) -> None:
    pipe("boat", **QUICK, **arguments)
    assert unets(pipe) == expected


def test_a_longer_prompt_needs_another_shape(pipe: Any) -> None:
    pipe(["boat", "boat " * 100], **QUICK)
    tokens = [
        shapes["encoder_hidden_states"]
        for part, shapes, _ in pipe.engine.compiled
        if part == "unet"
    ]
    assert tokens == [(2, 77, 8), (2, 154, 8)]


def test_a_picture_is_encoded_once_for_all_images(pipe: Any) -> None:
    pipe("boat", image=PICTURE, num_images_per_prompt=3, **QUICK)
    assert pipe.engine.calls["vae_encoder"] == 1
    assert pipe.engine.calls["vae_decoder"] == 3
    assert pipe.engine.calls["text_encoder"] == 2  # the prompt, and the empty one


def test_stages_begin_and_advance(pipe: Any) -> None:
    heard: list[tuple[str, int, int]] = []
    pipe(
        "boat", image=PICTURE, strength=1, callback_on_stage=lambda *now: heard.append(now), **QUICK
    )
    loads = [now for now in heard if now[0] == "load"]
    assert loads[0] == ("load", 0, 4)
    assert loads[-1] == ("load", 4, 4)
    denoised = [now for now in heard if now[0] == "denoise"]
    assert denoised == [("denoise", done, 3) for done in range(4)]
    assert [now for now in heard if now[0] == "decode"] == [("decode", 0, 1), ("decode", 1, 1)]


class Clock:
    """Time that passes only where something is computed or compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pipe: Any) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)
        compile = pipe.engine.compile

        def compiled(path: Path, *arguments: Any) -> Any:
            self.now += 100
            graph = compile(path, *arguments)
            seconds = {"unet": 10, "text_encoder": 1, "vae_encoder": 3, "vae_decoder": 5}

            def run(feeds: Any) -> Any:
                self.now += seconds[path.parent.name]
                return graph(feeds)

            return run

        pipe.engine.compile = compiled


def test_every_second_counts_once(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are compiled inside of encoding: that is loading, and no encoding."""
    pipe.engine.device = "GPU"  # where nothing is compiled beside other work
    Clock(monkeypatch, pipe)
    found = pipe(["boat", "boat " * 100], image=PICTURE, strength=1, **QUICK).timings
    assert found.load == 100 * 5  # two shapes of the UNet
    assert found.encode == 1 + 2 + 1 + 3  # texts of a piece, of two, the empty one; the picture
    assert found.steps == [10] * 6
    assert found.decode == 2 * 5
    assert found.total == found.load + found.encode + sum(found.steps) + found.decode


def test_graphs_that_work_in_every_step_are_kept_together(
    pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []
    graph = Shelf.graph

    def watched(self: Any, name: str, *arguments: Any, **more: Any) -> Any:
        asked.append((name, more["together"]))
        return graph(self, name, *arguments, **more)

    monkeypatch.setattr(Shelf, "graph", watched)
    groups = []
    for _ in range(2):
        asked.clear()
        pipe("boat", cache_interval=2, **QUICK)
        found = dict(asked)
        assert found["text_encoder"] is found["vae_decoder"] is None
        assert found["unet"] is found["unet, shallow"] is not None
        groups.append(found["unet"])
    assert groups[0] is not groups[1]  # of a call alone


def test_a_later_prompt_that_does_not_fit_is_refused_before_the_first_is_painted(
    tmp_path: Path,
) -> None:
    """As with transformers, whose memory grows with a prompt's tokens."""
    pipe = opened(model_folder(tmp_path / "small"), max_memory="2GB")

    def working(part: str, shapes: Any) -> Working:
        tokens = shapes["encoder_hidden_states"][1] if part == "unet" else 0
        return Working("denoiser", 100_000 * tokens)

    pipe.parts.working = working
    pipe("boat", **QUICK)
    pipe.engine.calls.clear()
    with pytest.raises(SettingError, match="max_memory is"):
        pipe(["boat", "boat " * 100], **QUICK)
    assert pipe.engine.calls["unet"] == 0
    pipe(["boat", "tree"], **QUICK)
    assert pipe.engine.calls["unet"] == 6


def test_what_is_painted_where_a_mask_keeps_the_rest(pipe: Any) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (72, 80, 3), np.uint8))
    mask = Image.new("L", picture.size, 0)
    mask.paste(255, (40, 0, 80, 72))
    out = pipe("boat", image=picture, mask_image=mask, keep_unmasked=True, **QUICK)
    found, original = np.asarray(out.images[0]), np.asarray(picture)
    assert found.shape == original.shape
    assert np.array_equal(found[:, :40], original[:, :40])
    assert (found[:, 48:] == 128).all()  # what the fake decoder paints


class Parts:
    """An engine whose graphs of some parts are only compiled when they may be, and may fail.

    order: what happened: a part compiled, or called for the first time.
    """

    def __init__(self, pipe: Any, held: str = "", fails: str = "") -> None:
        self.go, self.order, self.threads = threading.Event(), [], set()
        compile = pipe.engine.compile

        def compiled(path: Path, *arguments: Any) -> Any:
            part = path.parent.name
            if part == held:
                assert self.go.wait(10)
            if part == fails:
                raise EngineError("no such thing")
            self.order.append(f"compile {part}")
            self.threads.add((part, threading.current_thread().name))
            graph = compile(path, *arguments)

            def run(feeds: Any) -> Any:
                if f"call {part}" not in self.order:
                    self.order.append(f"call {part}")
                return graph(feeds)

            return run

        pipe.engine.compile = compiled


def test_the_denoiser_is_compiled_while_the_prompt_is_read(pipe: Any) -> None:
    parts = Parts(pipe, held="unet")
    heard = lambda stage, done, total: parts.go.set() if (stage, done) == ("encode", 1) else None  # noqa: E731
    pipe("boat", callback_on_stage=heard, **QUICK)
    assert parts.order.index("call text_encoder") < parts.order.index("compile unet")


def test_the_decoder_is_compiled_while_the_steps_are_computed(pipe: Any) -> None:
    parts = Parts(pipe, held="vae_decoder")

    def stepped(_: Any, step: int, *__: Any) -> None:
        if step == 1:
            parts.go.set()

    pipe("boat", callback_on_step_end=stepped, **QUICK)
    assert parts.order.index("call unet") < parts.order.index("compile vae_decoder")
    assert parts.order[-1] == "call vae_decoder"


def test_callbacks_are_called_in_the_thread_of_the_call(pipe: Any) -> None:
    seen = set()
    pipe("boat", callback_on_stage=lambda *_: seen.add(threading.current_thread()), **QUICK)
    assert seen == {threading.current_thread()}


def test_a_decoder_that_cannot_be_compiled_ends_the_call_at_the_next_step(pipe: Any) -> None:
    Parts(pipe, fails="vae_decoder")
    steps: list[int] = []

    def stepped(_: Any, step: int, *__: Any) -> None:
        steps.append(step)
        time.sleep(0.05)

    with pytest.raises(EngineError, match="no such thing"):
        pipe("boat", callback_on_step_end=stepped, seed=1, num_inference_steps=50)
    assert len(steps) < 10


@pytest.mark.parametrize("ends", [KeyboardInterrupt, SettingError, False])
def test_an_ended_call_leaves_nothing_running(pipe: Any, ends: Any) -> None:
    parts = Parts(pipe, held="vae_decoder")

    def stepped(*_: Any) -> bool:
        threading.Timer(0.05, parts.go.set).start()
        if ends:
            raise ends("enough")
        return False

    with contextlib.suppress(KeyboardInterrupt, SettingError):
        assert pipe("boat", callback_on_step_end=stepped, **QUICK).stopped
    assert not [one for one in threading.enumerate() if "pleinair-compile" in one.name]
    assert len(pipe("boat", **QUICK).images) == 1


def test_nothing_is_compiled_ahead_on_a_gpu_or_in_little_memory(pipe: Any, tmp_path: Path) -> None:
    limited = opened(model_folder(tmp_path / "limited"), max_memory="8GB")
    pipe.engine.device = "GPU"
    for one in (pipe, limited):
        parts = Parts(one)
        one("boat", **QUICK)
        assert {thread for _, thread in parts.threads} == {threading.current_thread().name}
