"""In a program: negative prompts, callbacks, warm-up, cancelling, closing."""

import asyncio
import gc
import io
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import instruction_folder, model_folder, opened, upscaler_folder, xl_folder
from pleinair.runtime import PipelineOutput
from pleinair.runtime.errors import PromptError, SettingError

PICTURE = Image.new("RGB", (64, 64), (10, 200, 30))
QUICK: dict[str, Any] = {"num_inference_steps": 3, "output_type": "latent"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "tree")


@pytest.fixture
def pipe(folder: Path) -> Any:
    return opened(folder)


# Negative prompts.


@pytest.mark.parametrize("make", [model_folder, xl_folder])
@pytest.mark.parametrize("second", ["fog", "fog " * 100, ""])
@pytest.mark.parametrize("more", [{}, {"cache_interval": 2}, {"guidance_stop": 0.7}], ids=str)
def test_each_prompt_has_its_negative(
    tmp_path: Path, make: Any, second: str, more: dict[str, Any]
) -> None:
    pipe = opened(make(tmp_path / "model"))
    asked = {**QUICK, **more}
    both = pipe(["boat", "boat"], negative_prompt=["rain", second], seed=1, **asked)
    alone = [pipe("boat", "rain", seed=1, **asked), pipe("boat", second, seed=2, **asked)]
    for found, expected in zip(both.images, alone, strict=True):
        np.testing.assert_array_equal(found, expected.images[0])
    assert not np.array_equal(*(pipe("boat", text, seed=1, **asked).images[0] for text in "ab"))


def test_every_negative_prompt_is_read_before_any_work(pipe: Any) -> None:
    with pytest.raises(PromptError):
        pipe(["a", "b"], negative_prompt=["x", "fog " * 200], long_prompt="stop")
    assert pipe.engine.compiled == []
    pipe.plan("a", "fog " * 200, long_prompt="stop", guidance_scale=1)  # nobody sees it


def test_a_plan_counts_by_the_first_negative(pipe: Any) -> None:
    asked = {**QUICK, "cache_interval": 3, "cache_guidance": "kept"}
    changing = pipe.plan(["a", "b"], negative_prompt=["[x:y:0.4]", "z"], **asked)
    constant = pipe.plan(["a", "b"], negative_prompt=["z", "[x:y:0.4]"], **asked)
    assert changing.evaluations != constant.evaluations


def test_each_picture_records_its_negative(pipe: Any) -> None:
    out = pipe(["boat", "tree"], negative_prompt=["rain", "snow"], num_inference_steps=1)
    for image, words in zip(out.images, ("rain", "snow"), strict=True):
        assert f"Negative prompt: {words}\n" in image.info["parameters"]


def test_several_prompts_joined_by_and_have_their_negatives(pipe: Any) -> None:
    texts = {"prompt": ["boat AND tree", "boat"], "negative_prompt": ["rain", "snow"]}
    out = pipe(**texts, seed=1, guidance_rescale=0.5, **QUICK)
    alone = pipe("boat AND tree", "rain", seed=1, guidance_rescale=0.5, **QUICK)
    np.testing.assert_array_equal(out.images[0], alone.images[0])
    for same in ("boat AND tree", ["snow", "boat AND tree"]):
        with pytest.raises(PromptError, match="negative_prompt is the prompt itself"):
            pipe(texts["prompt"], negative_prompt=same, **QUICK)


# Callbacks.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latents": np.zeros((1, 4, 8, 9), np.float32)}, r"are of shape \(1, 4, 8, 9\); give"),
        ({"latents": np.full((1, 4, 8, 8), np.nan, np.float32)}, "hold values that are no num"),
        ({"latents": np.full((1, 4, 8, 8), 1e300)}, "hold values that are no numbers"),
        ({"latents": np.zeros((1, 4, 8, 8), complex)}, "is .*; give a numpy array of numbers"),
        ({"latents": [[0]]}, r"is \[\[0\]\]; give a numpy array of numbers"),
        ({"latents": None}, "is None; give a numpy array of numbers"),
        (np.zeros((1, 4, 8, 8), np.float32), "gave back ndarray; give a dict with new latents"),
        ("stop", "gave back str; give a dict"),
    ],
    ids=["shape", "nan", "overflow", "complex", "list", "none", "array", "text"],
)
def test_what_a_callback_must_not_hand_back(pipe: Any, given: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"callback_on_step_end .*{message}|{message}") as caught:
        pipe("boat", **QUICK, callback_on_step_end=lambda *_: given)
    assert "callback_on_step_end" in str(caught.value)


@pytest.mark.parametrize("given", [None, True, {}, {"other": 1}, np.True_])
def test_what_a_callback_may_hand_back(pipe: Any, given: Any) -> None:
    plain = pipe("boat", seed=1, **QUICK)
    found = pipe("boat", seed=1, **QUICK, callback_on_step_end=lambda *_: given)
    np.testing.assert_array_equal(found.images[0], plain.images[0])


@pytest.mark.parametrize("given", [False, np.False_])
def test_a_callback_stops_the_run(pipe: Any, given: Any) -> None:
    out = pipe("boat", **QUICK, callback_on_step_end=lambda *_: given)
    assert (out.stopped, out.images) == (True, [])


def test_latents_of_other_numbers_are_taken_as_ours(pipe: Any) -> None:
    def doubled(_: Any, step: int, t: Any, shown: dict[str, Any]) -> dict[str, Any]:
        return {"latents": np.asarray(shown["latents"], np.float64)}

    plain = pipe("boat", seed=1, **QUICK)
    found = pipe("boat", seed=1, **QUICK, callback_on_step_end=doubled)
    np.testing.assert_array_equal(found.images[0], plain.images[0])
    assert found.images[0].dtype == np.float32


# Pictures.


def test_an_open_file_serves_two_passes(pipe: Any) -> None:
    file = io.BytesIO()
    PICTURE.save(file, "PNG")

    class Pipe(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return file.readinto(buffer)

    file.seek(0)
    asked = {"strength": 0.5, "enlarge": 2, "seed": 1, "num_inference_steps": 4}
    found = pipe("boat", image=Pipe(), **asked)
    expected = pipe("boat", image=PICTURE, **asked)
    assert np.array_equal(found.images[0], expected.images[0])


# Warm-up and closing.


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"guidance_scale": 1},
        {"cache_interval": 3},
        {"image": PICTURE, "strength": 0.5},
        {"output_type": "latent"},
    ],
    ids=lambda asked: ", ".join(asked) or "plain",
)
def test_after_a_warm_up_nothing_is_compiled(pipe: Any, asked: dict[str, Any]) -> None:
    pipe.warm_up([(48, 64)], **asked)
    compiled, called = list(pipe.engine.compiled), set(pipe.engine.calls)
    assert compiled
    pipe("a boat", width=48, height=64, **asked)
    assert pipe.engine.compiled == compiled
    assert set(pipe.engine.calls) == called  # each has run once


def test_of_two_passes_the_first_one_s_graphs_stay(pipe: Any) -> None:
    pipe.warm_up([(48, 64)], enlarge=2)
    number = len(pipe.engine.compiled)
    pipe("boat", width=48, height=64, **QUICK)
    assert len(pipe.engine.compiled) == number
    assert (1, 4, 8, 8) in [shapes.get("sample") for _, shapes, _ in pipe.engine.compiled]


@pytest.mark.parametrize("make", [instruction_folder, upscaler_folder, xl_folder])
def test_other_families_warm_up(tmp_path: Path, make: Any) -> None:
    pipe = opened(make(tmp_path / "model"))
    pipe.warm_up()
    assert pipe.engine.calls["unet"] >= 1
    assert pipe.engine.calls["vae_decoder"] == 1


def test_a_warm_up_is_checked_as_a_call(pipe: Any) -> None:
    for wrong in ([(48,)], [48, 64], "48x64", [("48", "64")], [(0, 0)], [(50, 50)]):
        with pytest.raises(SettingError, match=r"^(sizes|width|height) is"):
            pipe.warm_up(wrong)
    assert pipe.engine.compiled == []


def test_closed_it_holds_no_graphs(folder: Path) -> None:
    with opened(folder) as pipe:
        pipe("boat", **QUICK)
        graphs = [weakref.ref(kept.graph) for kept in pipe.parts.shelf._kept]
        assert graphs
    gc.collect()
    assert not any(graph() for graph in graphs)
    number = len(pipe.engine.compiled)
    pipe("boat", **QUICK)  # compiled anew
    assert len(pipe.engine.compiled) == 2 * number


@pytest.mark.parametrize("size", [(0, 64), (-8, 64), (10**9, 10**9), (50, 50)])
def test_start_noise_of_sizes_that_there_are(pipe: Any, size: tuple[int, int]) -> None:
    with pytest.raises(SettingError, match="width"):
        pipe.start_noise(1, *size)


@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 4, 8, 8), (1, 3, 8, 8), (1, 4, 0, 8)])
def test_previews_of_latents_alone(pipe: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match=r"latents are of shape .*; give \(1, 4, rows, columns"):
        pipe.preview(np.zeros(shape, np.float32))


# While something else goes on.


def test_an_awaited_picture_is_the_call_s(pipe: Any) -> None:
    async def paint() -> PipelineOutput:
        return await pipe.paint_async("boat", "rain", seed=1, **QUICK)

    out = asyncio.run(paint())
    expected = pipe("boat", "rain", seed=1, **QUICK)
    np.testing.assert_array_equal(out.images[0], expected.images[0])


def test_an_awaited_call_is_checked(pipe: Any) -> None:
    for wrong in ({"width": 63}, {"callback_on_stage": 3}):
        with pytest.raises(SettingError, match=r"^(width|callback_on_stage) is"):
            asyncio.run(pipe.paint_async("boat", **wrong))


def test_cancelling_ends_the_picture_within_a_step_and_frees_it(pipe: Any) -> None:
    seen: list[weakref.ref[Any]] = []
    threads: set[threading.Thread] = set()

    async def cancelled() -> bool:
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def look(_: Any, step: int, t: Any, shown: dict[str, Any]) -> None:
            seen.append(weakref.ref(shown["latents"]))
            threads.add(threading.current_thread())
            time.sleep(0.01)
            if step == 2:
                loop.call_soon_threadsafe(begun.set)

        task = asyncio.create_task(
            pipe.paint_async("boat", num_inference_steps=900, callback_on_step_end=look)
        )
        await begun.wait()
        steps = len(seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended = len(seen)
        await asyncio.sleep(0.1)
        assert len(seen) == ended  # it has ended, and not only been left alone
        return ended - steps <= 2

    assert asyncio.run(cancelled())
    assert threading.current_thread() not in threads
    gc.collect()
    assert not any(latents() is not None for latents in seen)
    assert pipe("boat", num_inference_steps=1).images  # and another one is painted
