"""`--scheduler` and `--timestep-spacing`: what a folder names in place of its checkpoint's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from checkpoints import tiny_controlnet
from pleinair.export import cli, export_model
from pleinair.export.solver import Solver
from pleinair.runtime import families, schedulers
from pleinair.runtime.errors import SchedulerError
from pleinair.runtime.model import catalog

PNDM: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


@pytest.mark.parametrize("name", ["lcm", "euler", "dpmpp_2m_karras", "ddim"])
def test_it_is_diffusers_from_config(name: str) -> None:
    import diffusers

    ours = Solver(name).config(PNDM)
    kind = getattr(diffusers, ours["_class_name"])
    options = {"use_karras_sigmas": True} if name.endswith("karras") else {}
    theirs = kind.from_config(diffusers.PNDMScheduler.from_config(PNDM).config, **options)
    read = kind.from_config(ours)
    theirs.set_timesteps(4)
    read.set_timesteps(4)
    assert read.timesteps.tolist() == theirs.timesteps.tolist()
    for option in ("beta_schedule", "steps_offset", "use_karras_sigmas"):
        assert read.config.get(option) == theirs.config.get(option)


def test_nothing_named_changes_nothing() -> None:
    assert Solver().config(PNDM) == PNDM


def test_only_the_spacing() -> None:
    found = Solver(timestep_spacing="trailing").config({**PNDM, "_class_name": "DDIMScheduler"})
    assert found["_class_name"] == "DDIMScheduler"
    solver = schedulers.from_config(found)
    solver.set_timesteps(4)
    assert solver.timesteps.tolist() == [999, 749, 499, 249]


def test_what_another_class_only_assumed_is_dropped() -> None:
    own = {**PNDM, "_use_default_values": ["set_alpha_to_one"]}
    assert "set_alpha_to_one" not in Solver("lcm").config(own)


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        ({"name": "quick"}, "no scheduler is named 'quick': choose one of ddim"),
        ({"timestep_spacing": "even"}, "choose from: leading, linspace, trailing"),
    ],
)
def test_an_unknown_one_is_refused_before_any_work(solver: dict[str, str], says: str) -> None:
    with pytest.raises(SchedulerError, match=says):
        Solver(**solver)


def test_a_controlnet_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny_controlnet(tmp_path / "net")
    words = [str(source), str(tmp_path / "out"), "--scheduler", "lcm", "--quiet"]
    assert cli.main(words) == 2
    assert "is a ControlNet, which takes no LoRA and has no scheduler" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("solver", [None, "lcm", "heun"])
def test_the_folder_says_what_the_catalog_recommends_for_its_source(
    tiny_checkpoint: Path, tmp_path: Path, solver: str | None
) -> None:
    """Not with LCM's solver: with such a LoRA merged it is another model than its source.

    Another solver that is asked for takes the place of the recommended one.
    """
    source = tmp_path / "sd-turbo"
    shutil.copytree(tiny_checkpoint, source)
    folder = export_model(source, tmp_path / "renamed", precision="fp32", scheduler=solver)
    described = json.loads((folder / "pleinair.json").read_text(encoding="utf-8"))
    found = families.open_model(folder).recommended
    if solver is None:
        known = {"size": 512, "steps": 1, "guidance_scale": 0.0, "scheduler": "euler_a"}
        assert described["recommended"] == known
        assert found == catalog.Recommended(**known)
    elif solver == "heun":
        assert described["recommended"] == {"size": 512, "steps": 1, "guidance_scale": 0.0}
        assert found.scheduler is None
    else:
        assert "recommended" not in described
        assert (found.steps, found.guidance_scale, found.scheduler) == (4, 1.0, "lcm")
