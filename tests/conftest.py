"""Checkpoints and folders that several rooms' tests use, made once per run."""

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
