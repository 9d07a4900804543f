"""Compiled models kept on disk: found again, kept apart, and never trusted blindly."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import controlnet
from openvino_core import Call
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.cache import Cache, cache_folder
from pleinair.runtime.engines.choice import choose
from pleinair.runtime.engines.openvino import OpenVinoEngine, native_precision
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.graphs.float32 import EXACT
from pleinair.runtime.graphs.residuals import Residuals
from pleinair.runtime.graphs.weights import ChangedWeights
from pleinair.runtime.model import catalog
from pleinair.runtime.model.bundle import Bundle

BUNDLE = Bundle.open(catalog.bundled())
FILE = BUNDLE.graph("unet", "openvino")
WIDTH = BUNDLE.config("unet")["cross_attention_dim"]
SHAPES = {"sample": (1, 4, 8, 8), "encoder_hidden_states": (1, 77, WIDTH)}
DECODER = BUNDLE.graph("vae_decoder", "openvino")
LATENTS = {"latent_sample": (1, 4, 4, 4)}


def engine(folder: Path | None, **options: Any) -> OpenVinoEngine:
    return OpenVinoEngine(cache_dir=folder, **options)


def kinds_of(calls: list[Call]) -> list[str]:
    """Whether models were compiled or imported, in turn; the list is empty again then."""
    kinds = [call.kind for call in calls]
    calls.clear()
    return kinds


def made_of(shapes: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def decoded(engine: OpenVinoEngine) -> np.ndarray:
    return next(iter(engine.compile(DECODER, LATENTS)(made_of(LATENTS)).values()))


@pytest.fixture(scope="module")
def right() -> np.ndarray:
    return decoded(engine(None))


def test_the_second_time_nothing_is_compiled(
    tmp_path: Path, right: np.ndarray, core_calls: list[Call]
) -> None:
    for options in ({}, {}, {"threads": 1}):
        assert np.array_equal(decoded(engine(tmp_path, **options)), right)
    assert kinds_of(core_calls) == ["compile", "import", "import"]
    (file,) = tmp_path.iterdir()
    # A few bytes for each operation: the weights stay where they are.
    assert file.stat().st_size < DECODER.stat().st_size * 3


def kinds() -> Iterator[tuple[str, dict[str, Any], dict[str, np.ndarray]]]:
    """All ways in which one file becomes different graphs: name, how it is compiled, its feeds."""
    config = {
        name: BUNDLE.config("unet")[name] for name in ("block_out_channels", "layers_per_block")
    }
    ends = controlnet(config).residuals(1, 8, 8)
    larger = {**SHAPES, "sample": (1, 4, 8, 16)}
    tripled = {"mid_block.resnets.0.conv1.weight": lambda weight: weight * 3}
    yield "plain", {"shapes": SHAPES}, {}
    yield "larger", {"shapes": larger}, {}
    yield "steered", {"shapes": SHAPES, "edits": [Residuals(ends)]}, made_of(ends, 1)
    yield "changed", {"shapes": SHAPES, "edits": [ChangedWeights(tripled)]}, {}
    for branch in (0, 1):
        yield f"whole {branch}", {"shapes": SHAPES, "edits": [Cut(branch, shallow=False)]}, {}


def answers(folder: Path, calls: list[Call]) -> tuple[dict[str, np.ndarray], set[str]]:
    """Graph -> what it says, and those that were compiled."""
    said: dict[str, np.ndarray] = {}
    compiled = set()

    def ask(name: str, how: dict[str, Any], feeds: dict[str, np.ndarray]) -> None:
        found = engine(folder).compile(FILE, **how)(feeds)
        said[name] = found.pop("out_sample")
        compiled.update({name} if "compile" in kinds_of(calls) else ())
        for features in found.values():
            shallow = {**how, "edits": [Cut(how["edits"][0].branch, shallow=True)]}
            ask(name.replace("whole", "shallow"), shallow, {**feeds, DEEP_FEATURES: features * 2})

    for name, how, more in kinds():
        ask(name, how, {**made_of(how["shapes"]), "timestep": np.array(501.5), **more})
    return said, compiled


def test_one_file_opened_in_many_ways(tmp_path: Path, core_calls: list[Call]) -> None:
    """No two of them are taken for each other, and each says again what it said at first."""
    expected, compiled = answers(tmp_path, core_calls)
    assert compiled == expected.keys()
    assert len(expected) == 8
    found, compiled = answers(tmp_path, core_calls)
    assert compiled == {"changed"}  # its weights are in no file
    for name, said in found.items():
        assert np.array_equal(said, expected[name]), name
    same = {"larger", "whole 0", "whole 1"}  # another shape, or what the plain one says
    alike = [said for name, said in expected.items() if name not in same]
    for i, one in enumerate(alike):
        assert all(np.abs(one - other).max() > 1e-4 for other in alike[:i])


@pytest.mark.skipif(native_precision() != "bf16", reason="a processor without bfloat16")
def test_precisions_are_kept_apart(tmp_path: Path, right: np.ndarray) -> None:
    said = {
        precision: [decoded(engine(tmp_path, precision=precision)) for _ in range(2)]
        for precision in ("f32", "bf16")
    }
    assert len(list(tmp_path.iterdir())) == 2
    assert all(np.array_equal(one, other) for one, other in said.values())
    assert np.array_equal(said["f32"][0], right)
    assert not np.array_equal(said["bf16"][0], right)


@pytest.mark.skipif(native_precision() != "bf16", reason="a processor without bfloat16")
def test_what_is_exact_is_kept_apart(tmp_path: Path, right: np.ndarray) -> None:
    half, (x,) = engine(tmp_path, precision="bf16"), made_of(LATENTS).values()
    for _ in range(2):
        found = half.compile(DECODER, LATENTS, [EXACT])({"latent_sample": x})
        assert np.array_equal(next(iter(found.values())), right)
        assert not np.array_equal(decoded(half), right)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_version_s_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core_calls: list[Call]
) -> None:
    import openvino

    decoded(engine(tmp_path))
    monkeypatch.setattr(openvino, "get_version", lambda: "2031.1")
    decoded(engine(tmp_path))
    assert kinds_of(core_calls) == ["compile", "compile"]


def test_a_model_put_in_its_place_is_another(
    tmp_path: Path, right: np.ndarray, core_calls: list[Call]
) -> None:
    file = tmp_path / "model" / DECODER.name
    file.parent.mkdir()
    for part in (DECODER, DECODER.with_suffix(".bin")):
        (file.parent / part.name).write_bytes(part.read_bytes())
    runner = engine(tmp_path / "cache")
    feeds = made_of(LATENTS)
    before = runner.compile(file, LATENTS)(feeds)
    weights = file.with_suffix(".bin")
    numbers = np.frombuffer(weights.read_bytes(), np.uint8).copy()
    numbers[:2000] = 0
    time = weights.stat().st_mtime_ns + 1
    weights.unlink()
    weights.write_bytes(numbers.tobytes())
    os.utime(weights, ns=(time, time))
    after = runner.compile(file, LATENTS)(feeds)
    assert kinds_of(core_calls) == ["compile", "compile"]
    (one,), (other,) = before.values(), after.values()
    assert np.array_equal(one, right)
    assert not np.array_equal(one, other)


def shorter(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    middle = len(content) // 2
    return (
        content[:middle]
        + bytes(255 - byte for byte in content[middle:][:64])
        + content[middle + 64 :]
    )


@pytest.mark.parametrize(
    "spoil",
    [shorter, garbled, lambda _: b"", lambda content: os.urandom(len(content))],
    ids=["shorter", "garbled", "empty", "random"],
)
def test_a_spoilt_one_is_made_anew(
    tmp_path: Path, right: np.ndarray, spoil: Any, core_calls: list[Call]
) -> None:
    decoded(engine(tmp_path))
    core_calls.clear()
    (file,) = tmp_path.iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    for expected in ("compile", "import"):
        assert np.array_equal(decoded(engine(tmp_path)), right)
        assert kinds_of(core_calls) == [expected]


def test_one_that_the_engine_refuses_is_made_anew(
    tmp_path: Path, right: np.ndarray, core_calls: list[Call]
) -> None:
    """Whole, but of no use: a driver or a plugin was changed without its version."""
    decoded(engine(tmp_path))
    (file,) = tmp_path.iterdir()
    Cache(tmp_path).write(file.stem, b"\0" * 4096)
    core_calls.clear()
    assert np.array_equal(decoded(engine(tmp_path)), right)
    assert kinds_of(core_calls) == ["import", "compile"]


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, right: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="pleinair"):
        assert np.array_equal(decoded(engine(tmp_path / "file" / "cache")), right)
    (record,) = caplog.records
    assert "cache_dir" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_two_processes_at_once(tmp_path: Path, right: np.ndarray) -> None:
    """They fill the same cache while they read from it, round after round."""
    program = (
        "import sys, test_cache\nfrom pathlib import Path\n"
        "folder, right = Path(sys.argv[1]), test_cache.decoded(test_cache.engine(None))\n"
        "for _ in range(4):\n"
        "    for file in folder.glob('*.blob'): file.unlink(missing_ok=True)\n"
        "    assert (test_cache.decoded(test_cache.engine(folder)) == right).all()\n"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [one.wait(timeout=300) for one in both] == [0, 0]
    assert [file.suffix for file in tmp_path.iterdir()] == [".blob"]
    assert np.array_equal(decoded(engine(tmp_path)), right)


def test_the_oldest_are_removed(tmp_path: Path) -> None:
    """At most 1 GiB is kept; b and c are large files of which nothing is written."""
    kept = Cache(tmp_path)
    for age, (key, size) in enumerate({"a": 1000, "b": 600 << 20, "c": 423 << 20}.items()):
        kept.write(key, bytes(1000))
        if size > 1000:
            os.truncate(tmp_path / f"{key}.blob", size)
        os.utime(tmp_path / f"{key}.blob", (age, age))
    assert kept.read("a") == bytes(1000)  # used just now
    kept.write("d", bytes(1000))
    assert {file.stem for file in tmp_path.iterdir()} == {"a", "b", "c", "d"}
    kept.write("d", bytes(2 << 20))
    assert {file.stem for file in tmp_path.iterdir()} == {"a", "c", "d"}


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLEINAIR_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    decoded(choose(BUNDLE.graphs, "openvino", cache_dir=None))
    assert not list(tmp_path.iterdir())
    for options, folder in (({}, "own"), ({"cache_dir": tmp_path / "named"}, "named")):
        decoded(choose(BUNDLE.graphs, "openvino", **options))
        assert [file.suffix for file in (tmp_path / folder).iterdir()] == [".blob"]
    monkeypatch.delenv("PLEINAIR_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pleinair"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "pleinair"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "pleinair"


@pytest.mark.parametrize("profile", ["exact", "native"])
def test_a_picture_is_the_same(tmp_path: Path, profile: str) -> None:
    """Also where 16 bits tell which of two orders numbers were added in."""
    pictures = [
        StableDiffusionPipeline.from_pretrained(
            BUNDLE.path, engine="openvino", cache_dir=folder, profile=profile
        )("boat", seed=1, num_inference_steps=4, width=96).images[0]
        for folder in (None, tmp_path, tmp_path)
    ]
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)
