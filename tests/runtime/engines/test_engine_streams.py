"""Several pictures at once: streams of one compiled graph, and threads shared out among them."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as opset

from fakes import POCKET
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines import cores
from pleinair.runtime.engines.choice import choose
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.engines.shelf import Shelf
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model.footprint import Working, footprint

QUICK: dict[str, Any] = {"num_inference_steps": 2}
GRAPHS = {form: {"unet": POCKET / "unet" / name} for form, name in [("openvino", "x.xml")]}


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def shared_out(request: pytest.FixtureRequest) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        POCKET, engine=request.param, threads=2, streams=2
    )


def test_painted_at_once_each_picture_is_the_one_painted_alone(
    shared_out: StableDiffusionPipeline,
) -> None:
    """More callers than streams, in threads and in paint_async."""

    def picture(seed: int) -> Any:
        return np.asarray(shared_out("a red apple", seed=seed, **QUICK).images[0])

    async def awaited(seeds: range) -> list[Any]:
        calls = (shared_out.paint_async("a red apple", seed=seed, **QUICK) for seed in seeds)
        return [np.asarray(output.images[0]) for output in await asyncio.gather(*calls)]

    seeds = range(3)
    alone = [picture(seed) for seed in seeds]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(picture, seeds))
    for found in (together, asyncio.run(awaited(seeds))):
        assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize(
    ("threads", "streams", "performance", "pinned"),
    [
        (None, 1, None, True),
        (4, 1, None, True),
        (2, 1, None, False),
        (4, 2, None, False),
        (3, 1, 3, True),
        (2, 1, 3, False),
    ],
)
def test_threads_are_pinned_where_they_take_all_cores(
    slow: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int | None,
    streams: int,
    performance: int | None,
    pinned: bool,
) -> None:
    """OpenVINO pins the threads of each process to the same first cores."""
    monkeypatch.setattr(cores, "physical_cores", lambda: 4)
    monkeypatch.setattr(cores, "performance_cores", lambda: performance)
    engine = OpenVinoEngine(threads=threads, streams=streams)
    compiled = engine.compiled(engine.model(slow, {}))
    usual = openvino.Core().get_property("CPU", "ENABLE_CPU_PINNING")
    assert compiled.get_property("ENABLE_CPU_PINNING") is (pinned and usual)


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A graph that computes for some hundredths of a second."""
    x = opset.parameter([1, 600, 600], np.float32, name="x")
    y = x
    for _ in range(8):
        y = opset.tanh(opset.matmul(y, y, False, False))
    openvino.save_model(openvino.Model([y], [x], "slow"), tmp_path / "slow.xml")
    return tmp_path / "slow.xml"


@pytest.mark.parametrize("streams", [1, 2])
def test_as_many_calls_as_streams_are_computed_at_once(slow: Path, streams: int) -> None:
    graph = OpenVinoEngine(threads=2, streams=streams).compile(slow, {})
    assert graph._compiled.get_property("NUM_STREAMS") == streams
    x = np.ones((1, 600, 600), np.float32)
    graph({"x": x})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: graph({"x": x}), range(12)))
    assert len(graph._idle) <= streams  # requests made on demand, none for those that wait


def test_streams_are_in_the_key_of_a_kept_graph(slow: Path, tmp_path: Path) -> None:
    for streams in (1, 2, 1):
        OpenVinoEngine(threads=2, streams=streams, cache_dir=tmp_path / "kept").compile(slow, {})
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_kept_graph_has_its_streams(slow: Path, tmp_path: Path) -> None:
    for _ in range(2):  # compiled, then imported
        engine = OpenVinoEngine(threads=2, streams=2, cache_dir=tmp_path / "kept")
        graph = engine.compile(slow, {})
        assert graph._compiled.get_property("NUM_STREAMS") == 2


def test_a_failed_call_gives_its_request_back(slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = OpenVinoEngine(threads=1).compile(slow, {})
    for _ in range(3):
        with pytest.raises(Exception, match="cannot compute it"):
            graph({"x": np.ones((1, 2, 2), np.float32)})
    assert graph({"x": np.zeros((1, 600, 600), np.float32)})


@pytest.mark.parametrize(
    ("asked", "granted", "physical", "streams", "threads"),
    [
        (None, None, 64, 1, None),  # the engine's choice
        (None, 4, 64, 1, 4),  # a container of 4 CPUs on a host of 64
        (8, 4, 64, 1, 8),
        (None, None, 64, 2, 64),
        (None, 4, 64, 4, 4),
    ],
)
def test_threads_by_default(
    asked: int | None,
    granted: int | None,
    physical: int,
    streams: int,
    threads: int | None,
    usual_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores, "granted", lambda: granted)
    monkeypatch.setattr(cores, "physical_cores", lambda: physical)
    engine = choose(GRAPHS, "openvino", "cpu", threads=asked, streams=streams)
    assert engine.streams == streams
    assert engine._config.get("INFERENCE_NUM_THREADS") == threads


def test_more_streams_than_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "granted", lambda: 3)
    with pytest.raises(SettingError, match=r"streams is 4, more than there are threads .* 1 to 3"):
        choose(GRAPHS, "openvino", "cpu", streams=4)
    with pytest.raises(SettingError, match=r"streams is 2, .* give 1 to 1"):
        choose(GRAPHS, "openvino", "cpu", threads=1, streams=2)
    with pytest.raises(SettingError, match="streams is 0; give 1 or more"):
        choose(GRAPHS, streams=0)


def test_each_stream_has_working_memory() -> None:
    working, path = Working("denoiser", values=10**7), POCKET / "unet" / "openvino_model.xml"
    one, two, three = (footprint(path, "openvino", working, streams=number) for number in (1, 2, 3))
    assert three - two == two - one == working.bytes("openvino")


def test_under_a_limit_calls_of_one_graph_are_at_once() -> None:
    both = threading.Barrier(2, timeout=10)

    def graph(feeds: Any) -> dict[str, Any]:
        both.wait()  # breaks unless two are here
        return {}

    one = Shelf(1 << 30).graph("unet", "", lambda: graph)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, [{}, {}])) == [{}, {}]


def test_a_graph_at_work_makes_no_room() -> None:
    """The other waits for it, and only then takes its place."""
    shelf, order = Shelf((200 << 20) + 10), []
    begun = threading.Event()

    def unet(feeds: Any) -> dict[str, Any]:
        begun.set()
        time.sleep(0.05)
        order.append("unet done")
        return {}

    def compiled() -> Any:
        order.append("decoder compiled")
        return lambda feeds: {}

    first = shelf.graph("unet", "", lambda: unet, needs=8)
    second = shelf.graph("vae_decoder", "", compiled, needs=8)
    with ThreadPoolExecutor(2) as pool:
        painting = pool.submit(first, {})
        begun.wait(10)
        second({})
        painting.result()
    assert order == ["unet done", "decoder compiled"]
