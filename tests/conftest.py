"""Checkpoints and folders that several rooms' tests use, made once per run."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pleinair.runtime.engines import telemetry

sys.path.insert(0, str(Path(__file__).parent))  # `import checkpoints` from any room
telemetry.switch_off()  # some tests import openvino themselves

# About a worker a core, and tensors so small that more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


Make = Callable[[Path], object]
"""Writes a folder."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors, for a worker waits a fifth of its time for others."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Mark the long tests; a line of `long.LONG` that names none is an error in a whole run."""
    import long

    stale = long.mark(items)
    if stale and [Path(arg).name for arg in session.config.args] == ["tests"]:
        raise pytest.UsageError(f"tests/long.py names no test by: {', '.join(sorted(stale))}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """What is imported here stays: no collection of garbage looks through it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
        # The graphs of torch, many small objects that live for seconds, are garbage soon enough.
        gc.set_threshold(10_000)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `made` makes folders."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the workers' own folders stand in it
    return root / "made"


@pytest.fixture(scope="session")
def made(shared: Path) -> Callable[[str, Make], Path]:
    """`made("kind/name", make)`: the folder that `make` writes. Read-only: tests share it.

    It is made once a run, whichever of pytest-xdist's workers asks first.
    """

    def get(name: str, make: Make) -> Path:
        folder = shared / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                staged = folder.parent / "staged" / folder.name
                make(staged)
                staged.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session", autouse=True)
def _own_cache(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled models and fetched ones are kept in the run's own folders; no config is read.

    What one worker has compiled the other finds there, and so do the processes that tests start.
    Commands paint in float32, as those do that pictures are compared with; pipelines are opened
    with the exact profile.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLEINAIR_CACHE", str(shared / "cache"))
        patch.setenv("PLEINAIR_PROFILE", "exact")
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[Callable[..., int | None]]:
    """A graph computes in a thread where the test does not say in how many, as torch does here.

    It is the same picture, but for a rounding here and there: threads would only wait for each
    other, and for the other worker's. What a process of its own paints takes the usual ones.
    """
    from pleinair.runtime.engines import choice

    usual = choice._cpu_threads

    def threads(asked: int | None, streams: int) -> int | None:
        return 1 if asked is None and streams == 1 else usual(asked, streams)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_cpu_threads", threads)
        yield usual


@pytest.fixture
def usual_threads(_one_thread: Callable[..., int | None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph computes in as many threads as it does for users."""
    from pleinair.runtime.engines import choice

    monkeypatch.setattr(choice, "_cpu_threads", _one_thread)


@pytest.fixture(scope="session")
def both(made: Callable[[str, Make], Path]) -> Callable[..., tuple[Path, Path]]:
    """`both(name, make, engine)`: a checkpoint, and its export for an engine, float32, as `made`.

    Without an engine the export has both formats.
    """

    def get(name: str, make: Make, engine: str = "both") -> tuple[Path, Path]:
        checkpoint = made(f"checkpoint/{name}", make)
        formats = {"openvino": ("openvino",), "onnxruntime": ("onnx",)}
        export = _exported(made, checkpoint, *formats.get(engine, ("openvino", "onnx")))
        return checkpoint, made(f"exported/{engine}/{name}", export)

    return get


@pytest.fixture
def traced_once(made: Callable[[str, Make], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's exports copy the graphs that others have traced: see traces.py."""
    import traces

    traces.share(made, monkeypatch)


@pytest.fixture(scope="session")
def compilations(shared: Path) -> Any:
    from compilations import Compilations

    return Compilations(shared, Path(__file__).parents[1] / "models")


@pytest.fixture
def compiled_once(compilations: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipelines of folders that tests share have graphs in common: see compilations.py."""
    from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
    from pleinair.runtime.engines.openvino import OpenVinoEngine

    for engine in (OpenVinoEngine, OnnxRuntimeEngine):
        monkeypatch.setattr(engine, "compile", compilations.once(engine.compile))


def _exported(
    made: Callable[[str, Make], Path], checkpoint: Path, *formats: str, **options: object
) -> Make:
    import traces
    from pleinair.export import export_model

    def export(target: Path) -> None:
        with traces.shared(made):
            export_model(checkpoint, target, formats, "fp32", **options)

    return export


@pytest.fixture(scope="session")
def tiny_checkpoint(made: Callable[[str, Make], Path]) -> Path:
    """A random Stable Diffusion checkpoint of about 2 M parameters, as a diffusers folder."""
    from checkpoints import tiny_stable_diffusion

    return made("checkpoint/tiny-model", tiny_stable_diffusion)


@pytest.fixture(scope="session")
def exported_openvino(made: Callable[[str, Make], Path], tiny_checkpoint: Path) -> Path:
    """`tiny_checkpoint` as OpenVINO IR with float32 weights. Read-only: tests share it."""
    return made("exported/tiny-openvino", _exported(made, tiny_checkpoint, "openvino"))


@pytest.fixture(scope="session")
def exported_onnx(made: Callable[[str, Make], Path], tiny_checkpoint: Path) -> Path:
    """`tiny_checkpoint` as ONNX with float32 weights. Read-only: tests share it."""
    return made("exported/tiny-onnx", _exported(made, tiny_checkpoint, "onnx"))


@pytest.fixture(scope="session")
def guarded_checkpoint(made: Callable[[str, Make], Path]) -> Path:
    """A random checkpoint with a safety checker; `tiny_vae/` in it is an AutoencoderTiny."""
    import checkpoints

    def make(folder: Path) -> None:
        checkpoints.tiny_stable_diffusion(folder, old_keys=False)
        checkpoints.add_safety_checker(folder, checkpoints.safety_checker())
        checkpoints.autoencoder_tiny(folder / "tiny_vae")

    return made("checkpoint/guarded-sd", make)


@pytest.fixture(scope="session")
def exported_guarded(made: Callable[[str, Make], Path], guarded_checkpoint: Path) -> Path:
    """`guarded_checkpoint` in both formats, with checker and tiny decoder. Read-only."""
    tiny = guarded_checkpoint / "tiny_vae"
    export = _exported(made, guarded_checkpoint, "openvino", "onnx", tiny_vae=tiny)
    return made("exported/guarded", export)


@pytest.fixture(scope="session")
def pocket_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer that models/pocket's training makes. Read-only: tests share it."""
    from pleinair.models.pocket.training import tokenizer

    work = tmp_path_factory.mktemp("pocket")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "WORK", work)
        tokenizer.main()
    return work / "tokenizer"


@pytest.fixture(scope="session")
def optimum_python() -> str:
    """The Python of an environment that has optimum, which does not fit into ours."""
    python = os.environ.get("PLEINAIR_OPTIMUM_PYTHON")
    if not python:
        pytest.skip("PLEINAIR_OPTIMUM_PYTHON is not set; README.md says how")
    return python


@pytest.fixture(scope="session")
def optimum(optimum_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """optimum, to export and to paint: see optimum_process.py."""
    from optimum_process import Optimum

    process = Optimum(optimum_python, tmp_path_factory.mktemp("optimum") / "log.txt")
    yield process
    process.close()


@pytest.fixture(scope="session")
def optimum_openvino(
    made: Callable[[str, Make], Path], optimum: Any, tiny_checkpoint: Path
) -> Path:
    """`tiny_checkpoint` as optimum-cli exports it to OpenVINO. Read-only: tests share it."""
    return made("optimum/openvino", partial(optimum.export, "openvino", tiny_checkpoint))


@pytest.fixture(scope="session")
def optimum_onnx(made: Callable[[str, Make], Path], optimum: Any, tiny_checkpoint: Path) -> Path:
    """`tiny_checkpoint` as optimum-cli exports it to ONNX. Read-only: tests share it."""
    return made("optimum/onnx", partial(optimum.export, "onnx", tiny_checkpoint))
