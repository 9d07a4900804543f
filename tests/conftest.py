"""Checkpoints and folders that several rooms' tests use, made once per run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `import checkpoints` from any room


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Stable Diffusion checkpoint of about 2 M parameters, as a diffusers folder."""
    from checkpoints import tiny_stable_diffusion

    return tiny_stable_diffusion(tmp_path_factory.mktemp("checkpoint") / "tiny-sd")


@pytest.fixture(scope="session")
def exported_openvino(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint` as OpenVINO IR with float32 weights. Read-only: tests share it."""
    from pleinair.export import export_model

    target = tmp_path_factory.mktemp("exported") / "tiny-openvino"
    return export_model(tiny_checkpoint, target, formats=["openvino"], precision="fp32")


@pytest.fixture(scope="session")
def exported_onnx(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint` as ONNX with float32 weights. Read-only: tests share it."""
    from pleinair.export import export_model

    target = tmp_path_factory.mktemp("exported") / "tiny-onnx"
    return export_model(tiny_checkpoint, target, formats=["onnx"], precision="fp32")


@pytest.fixture(scope="session")
def guarded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with a safety checker; `tiny_vae/` in it is an AutoencoderTiny."""
    import checkpoints

    folder = tmp_path_factory.mktemp("guarded") / "guarded-sd"
    checkpoints.tiny_stable_diffusion(folder, old_keys=False)
    checkpoints.add_safety_checker(folder, checkpoints.safety_checker())
    checkpoints.autoencoder_tiny(folder / "tiny_vae")
    return folder


@pytest.fixture(scope="session")
def exported_guarded(guarded_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`guarded_checkpoint` in both formats, with checker and tiny decoder. Read-only."""
    from pleinair.export import export_model

    target = tmp_path_factory.mktemp("exported") / "guarded"
    formats = ["openvino", "onnx"]
    tiny = guarded_checkpoint / "tiny_vae"
    return export_model(guarded_checkpoint, target, formats, "fp32", tiny_vae=tiny)


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
def optimum_openvino(
    optimum_python: str, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`tiny_checkpoint` as optimum-cli exports it to OpenVINO. Read-only: tests share it."""
    return _optimum_export("openvino", optimum_python, tiny_checkpoint, tmp_path_factory)


@pytest.fixture(scope="session")
def optimum_onnx(
    optimum_python: str, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`tiny_checkpoint` as optimum-cli exports it to ONNX. Read-only: tests share it."""
    return _optimum_export("onnx", optimum_python, tiny_checkpoint, tmp_path_factory)


def _optimum_export(
    engine: str, python: str, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    target = tmp_path_factory.mktemp("optimum") / engine
    peer = Path(__file__).parent / "export" / "peer.py"
    done = subprocess.run(
        [python, str(peer), f"export-{engine}", str(checkpoint), str(target)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return target
