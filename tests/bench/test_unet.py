"""The variants of the UNet compute the same, only compiled in different ways."""

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints_xl import tiny_stable_diffusion_xl
from pleinair.bench import turns, unet
from pleinair.bench.__main__ import main
from pleinair.bench.worker import Watch
from pleinair.runtime import families


def job_of(variant: unet.Variant, model: Path, size: int = 64) -> dict[str, Any]:
    options = argparse.Namespace(size=size, evaluations=2, threads=2)
    return unet.job(variant, families.open_model(model), options)


@pytest.mark.parametrize("variant", unet.VARIANTS, ids=str)
def test_every_variant_predicts_what_torch_does(
    variant: unet.Variant, tiny_checkpoint: Path, exported_openvino: Path, exported_onnx: Path
) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    model = exported_onnx if variant.format == "onnx" else exported_openvino
    job = job_of(variant, model)
    random = np.random.default_rng(1)
    sample = random.standard_normal(job["inputs"]["sample"], np.float32)
    embedding = random.standard_normal(job["inputs"]["encoder_hidden_states"], np.float32)
    feeds = {"sample": sample, "timestep": np.asarray(300), "encoder_hidden_states": embedding}
    module = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    with torch.no_grad():
        expected = module(torch.tensor(sample), 300, torch.tensor(embedding)).sample.numpy()
    (found,) = unet.compiled(job)(feeds).values()
    assert found.shape == (variant.batch, 4, 8, 8)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_dynamic_means_any_size(exported_openvino: Path) -> None:
    job = job_of(unet.Variant("openvino", "dynamic", 1), exported_openvino)
    graph = unet.compiled(job)
    for side in (8, 16):
        sample = np.zeros((1, 4, side, side), np.float32)
        embedding = np.zeros(job["inputs"]["encoder_hidden_states"], np.float32)
        feeds = {"sample": sample, "timestep": np.asarray(1), "encoder_hidden_states": embedding}
        assert next(iter(graph(feeds).values())).shape == sample.shape


def test_command_puts_batch_1_twice_beside_batch_2_once(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        assert target == "pleinair.bench.unet:evaluate"
        measured = unet.evaluate(job, Watch(time.perf_counter(), io.StringIO()))
        assert len(measured["evaluations"]) == 2
        return measured | {"compile": 1.0, "evaluations": [3.0, 3.0], "peak_memory": None}

    monkeypatch.setattr(turns, "run_fresh", here)
    file = tmp_path / "unet.json"
    command = ["unet", str(exported_openvino), "--size", "64", "--evaluations", "2"]
    assert main([*command, "--rounds", "1", "--json", str(file)]) == 0
    summary = json.loads(file.read_text(encoding="utf-8"))["summary"]
    assert len(summary) == 3  # OpenVINO's variants; the folder has no ONNX
    assert summary["openvino, static, batch 1"]["s a guided step"]["median"] == 6.0
    assert summary["openvino, static, batch 2"]["s a guided step"]["median"] == 3.0


@pytest.mark.slow
def test_what_xl_is_told_beside_the_prompt_is_fed(both: Any) -> None:
    _, folder = both("tiny-xl", tiny_stable_diffusion_xl)
    for variant in unet.VARIANTS[1:4]:
        job = job_of(variant, folder)
        assert job["inputs"]["time_ids"] == [variant.batch, 6]
        measured = unet.evaluate(job, Watch(time.perf_counter(), io.StringIO()))
        assert len(measured["evaluations"]) == 2


def test_a_size_that_the_model_has_no_pictures_of(exported_openvino: Path, capsys: Any) -> None:
    assert main(["unet", str(exported_openvino), "--size", "63"]) == 2
    assert "size is 63; give a multiple of 8" in capsys.readouterr().err
