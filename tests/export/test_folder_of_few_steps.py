"""`--few-steps`: one command from a checkpoint and a LoRA to a folder that paints in few steps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
from checkpoints import autoencoder_tiny, tiny_controlnet
from plans import planned
from pleinair.export import cli, export_model
from pleinair.export.solver import Solver
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import ExportError, SourceError

Files = Any


@pytest.fixture(scope="module")
def lora(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """`lora(name)`: a LoRA file of this name for the tiny checkpoint."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    weights = {key: 0.1 * value for key, value in loras.factors(unet, 5).items()}
    folder = tmp_path_factory.mktemp("few")
    return lambda name: loras.kohya(folder / f"{name}.safetensors", weights)


@pytest.mark.parametrize(
    ("name", "solver", "recommended"),
    [
        ("lcm-lora", "LCMScheduler", {"steps": 4, "guidance_scale": 1.0, "scheduler": "lcm"}),
        (
            "TCD-SD15-LoRA",
            "TCDScheduler",
            {"steps": 4, "guidance_scale": 0.0, "scheduler": "tcd", "eta": 0.3},
        ),
        (
            "Hyper-SD15-2steps-lora",
            "DDIMScheduler",
            {"steps": 2, "guidance_scale": 0.0, "scheduler": "ddim"},
        ),
        ("add_detail", "PNDMScheduler", None),
    ],
)
def test_a_merged_lora_says_what_the_folder_recommends(
    tiny_checkpoint: Path, lora: Files, name: str, solver: str, recommended: Any
) -> None:
    plan = planned(tiny_checkpoint, lora(name))
    config = plan.schedulers["scheduler"]
    assert plan.recommended() == recommended
    assert config["_class_name"] == solver
    assert plan.index["scheduler"] == ["diffusers", solver]
    assert (config.get("timestep_spacing") == "trailing") == (solver == "DDIMScheduler")


def test_the_kind_is_said_where_no_name_says_it(tiny_checkpoint: Path, lora: Files) -> None:
    plan = planned(tiny_checkpoint, lora("mine"), few_steps="dmd2")
    assert plan.recommended() == {
        "steps": 4,
        "guidance_scale": 0.0,
        "scheduler": "lcm",
        "timesteps": (999, 749, 499, 249),
        "profile": "balanced",
    }
    with pytest.raises(SourceError, match=r"distilled to few steps; .*--few-steps pcm, lcm"):
        planned(tiny_checkpoint, lora("mine"), few_steps="auto")


def test_a_solver_that_is_asked_for_stands_in_place_of_the_lora_s(
    tiny_checkpoint: Path, lora: Files
) -> None:
    plan = planned(tiny_checkpoint, lora("TCD-LoRA"), solver=Solver("ddim"), few_steps="auto")
    assert plan.schedulers["scheduler"]["_class_name"] == "DDIMScheduler"
    assert plan.recommended() == {"steps": 4, "guidance_scale": 0.0, "profile": "balanced"}


def test_what_cannot_be_is_refused_before_any_work(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="few_steps is fast; give auto, or pcm, lcm"):
        export_model(tiny_checkpoint, tmp_path / "out", few_steps="fast")
    net = tiny_controlnet(tmp_path / "net")
    with pytest.raises(ExportError, match="is a ControlNet, which takes no LoRA"):
        export_model(net, tmp_path / "out", few_steps="lcm")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match="nncf is needed; install it with"):
        export_model(tiny_checkpoint, tmp_path / "out", few_steps="lcm")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_one_command(
    tiny_checkpoint: Path, lora: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = tmp_path / "tiny_vae"
    autoencoder_tiny(tiny)
    words = [str(tiny_checkpoint), str(tmp_path / "quick"), "--lora", str(lora("lcm-lora"))]
    assert cli.main([*words, "--tiny-vae", str(tiny), "--few-steps", "auto", "--quiet"]) == 0
    folder = tmp_path / "quick"
    assert capsys.readouterr().out == f"{folder}\n"
    described = json.loads((folder / "pleinair.json").read_text(encoding="utf-8"))
    assert described["recommended"] == {
        "steps": 4,
        "guidance_scale": 1.0,
        "scheduler": "lcm",
        "profile": "balanced",
        "vae": "tiny",
    }
    # Calibrated on the steps that are painted: four of LCM, of the prompt's branch alone.
    assert described["int8"]["unet"]["openvino"]["steps"] == 4
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    assert pipe.profile.name == "balanced"
    plan = pipe.plan("boat", seed=1)
    assert (plan.decoder, plan.settings.scheduler) == ("vae_decoder_tiny", "lcm")
    assert plan.evaluations == {"full": 4}
    assert len(plan.guidance.batches[0]) == 1
    exact = StableDiffusionPipeline.from_pretrained(folder, profile="exact")
    near, far = (np.asarray(one("boat", seed=1).images[0], float) for one in (pipe, exact))
    assert 0 < np.abs(near - far).mean() < 12
