"""Models of few steps: kinds told by published file names, and their authors' settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import SCHEDULER, FakeEngine, model_folder, opened
from pleinair.runtime import StableDiffusionPipeline, schedulers
from pleinair.runtime.adapters.lora import Lora
from pleinair.runtime.errors import PleinairError
from pleinair.runtime.families import distillation, open_model
from pleinair.runtime.families.distillation import KINDS, among, of_kind, of_name
from pleinair.runtime.model.catalog import FEW_STEPS, Recommended

TRAILING = {"timestep_spacing": "trailing"}
# Name -> what its authors' model card gives to diffusers: the class, its options, and the call.
PUBLISHED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lcm-lora-sdv1-5": ("LCM", {}, {"num_inference_steps": 4}),
    "LCM_LoRA_Weights_SD15": ("LCM", {}, {"num_inference_steps": 4}),
    "TCD-SD15-LoRA": ("TCD", {}, {"num_inference_steps": 4, "eta": 0.3}),
    "Hyper-SD15-2steps-lora": ("DDIM", TRAILING, {"num_inference_steps": 2}),
    "Hyper-SDXL-8steps-lora": ("DDIM", TRAILING, {"num_inference_steps": 8}),
    "Hyper-SD15-1step-lora": ("TCD", {}, {"num_inference_steps": 1, "eta": 1.0}),
    "sdxl_lightning_4step_lora": ("EulerDiscrete", TRAILING, {"num_inference_steps": 4}),
    "sdxl_lightning_8step_lora": ("EulerDiscrete", TRAILING, {"num_inference_steps": 8}),
    "dmd2_sdxl_4step_lora_fp16": ("LCM", {}, {"timesteps": [999, 749, 499, 249]}),
    "pcm_sd15_smallcfg_2step_converted": ("DDIM", TRAILING, {"num_inference_steps": 2}),
    "pcm_sdxl_lcmlike_lora_converted": ("LCM", {}, {"num_inference_steps": 4}),
    "sd_xl_turbo_lora_v1": ("EulerAncestralDiscrete", TRAILING, {"num_inference_steps": 4}),
    "flash-sdxl": ("LCM", {}, {"num_inference_steps": 4}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_timesteps_are_those_of_the_authors(name: str) -> None:
    import diffusers

    solver, options, call = PUBLISHED[name]
    kind = getattr(diffusers, f"{solver}Scheduler")
    theirs = kind.from_config(diffusers.DDIMScheduler.from_config(SCHEDULER).config, **options)
    asked = {name: value for name, value in call.items() if name != "eta"}
    theirs.set_timesteps(**asked)
    found = of_name(name)
    assert found is not None
    eta = {} if found.eta is None else {"eta": found.eta}
    ours = schedulers.from_config(found.config(SCHEDULER), found.scheduler, **eta)
    if found.timesteps:
        ours.take_timesteps(found.timesteps)
    else:
        ours.set_timesteps(found.steps)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    assert (
        type(ours).__name__
        == type(schedulers.from_config({"_class_name": f"{solver}Scheduler"})).__name__
    )
    assert found.eta == call.get("eta")
    assert found.guidance_scale <= 1


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("Hyper-SDXL-8steps-CFG-lora", 5.0),
        ("pcm_sd15_normalcfg_8step_converted", 7.5),
        ("pcm_sd15_smallcfg_8step_converted", 0.0),
        ("lcm-lora-sdxl", 1.0),
    ],
)
def test_some_keep_their_guidance(name: str, scale: float) -> None:
    found = of_name(name)
    assert found is not None
    assert found.guidance_scale == scale


@pytest.mark.parametrize(
    "name",
    [
        "hyper_realistic_skin_v3",
        "lightning_strikes",
        "porsche_turbo",
        "flash_photography",
        "falcma",
        "add_detail",
        "",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    assert of_name(name) is None


def lora(path: str, weight: float = 1.0, *titles: str) -> Lora:
    return Lora(Path(path), weight, {}, titles=titles)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (lora("a/lcm-lora-sdv1-5.safetensors"), "lcm"),
        (lora("lcm_lora/pytorch_lora_weights.safetensors"), "lcm"),
        (lora("hub/models--h1t--TCD-SD15-LoRA/snapshots/1f/pytorch_lora_weights.bin"), "tcd"),
        (lora("lcm/style.safetensors"), None),
        (lora("quick.safetensors", 1.0, "SDXL Lightning 4step"), "lightning"),
        (lora("tcd.safetensors", 1.0, "LCM"), "tcd"),
    ],
    ids=str,
)
def test_a_file_is_told_by_its_name_its_title_or_its_folder(file: Lora, kind: str | None) -> None:
    found = distillation.of_file(file)
    assert (found and found.kind) == kind


def test_the_first_that_acts_counts(caplog: pytest.LogCaptureFixture) -> None:
    files = [lora("style.safetensors"), lora("lcm.safetensors", 0.0), lora("tcd.safetensors", 0.7)]
    with caplog.at_level("INFO", "pleinair"):
        found = among(files, SCHEDULER)
    assert found is not None
    assert found.kind == "tcd"
    assert "tcd.safetensors is distilled to few steps (TCD: 4 steps of tcd, guidance scale 0)" in (
        caplog.text
    )
    assert among(files[:2], SCHEDULER) is None


def test_a_model_of_other_noise_keeps_its_solver() -> None:
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    found = among([lora("Hyper-SD3-8steps-CFG-lora.safetensors")], flow)
    assert found is not None
    assert (found.scheduler, found.steps, found.guidance_scale) == (None, 8, 5.0)
    assert found.config(flow) == flow


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_solved(kind: str) -> None:
    found = of_kind(kind, [lora("mine_8step.safetensors")], "some-model")
    assert found.steps == 8
    solver = schedulers.from_config(found.config(SCHEDULER), found.scheduler)
    solver.set_timesteps(found.steps)
    assert solver.timesteps[0] >= 979


def test_spacing_says_nothing_of_what_a_live_configuration_assumed() -> None:
    live = {**SCHEDULER, "_use_default_values": ["timestep_spacing", "eta"]}
    found = of_name("sdxl_lightning_4step")
    assert found is not None
    solver = schedulers.from_config(found.config(live), found.scheduler)
    solver.set_timesteps(4)
    assert solver.timesteps.tolist() == [999, 749, 499, 249]


@pytest.fixture
def pipe(tmp_path: Path) -> Any:
    """A model with a LoRA of DMD2's kind and TCD's noise on it."""
    family = open_model(model_folder(tmp_path / "tree"))
    found = replace(KINDS["dmd2"][2], scheduler="tcd", eta=0.3)
    distilled = family.distilled(found)
    assert family.recommended.steps == 20  # the model that others use is as it was
    return StableDiffusionPipeline(distilled, FakeEngine(distilled))


def test_it_paints_so_where_nothing_else_is_asked_for(pipe: Any) -> None:
    settings = pipe.plan("boat").settings
    assert settings.timesteps == (999, 749, 499, 249)
    assert (settings.steps, settings.scheduler, settings.eta) == (4, "tcd", 0.3)
    assert not settings.guidance.guides
    picture = pipe("boat", seed=1)
    assert len(picture.timings.steps) == 4
    (unet,) = (shapes for part, shapes, _ in pipe.engine.compiled if part == "unet")
    assert unet["sample"][0] == 1  # the branch with the prompt alone


def test_what_is_asked_for_wins(pipe: Any) -> None:
    more = pipe.plan("boat", num_inference_steps=8).settings
    assert (more.timesteps, more.steps, more.scheduler, more.eta) == (None, 8, "tcd", 0.3)
    other = pipe.plan("boat", scheduler="ddim").settings
    assert (other.timesteps, other.steps, other.eta) == (None, 4, 0.0)
    assert pipe.plan("boat", eta=0).settings.eta == 0.0
    assert pipe.plan("boat", guidance_scale=3).settings.guidance.guides


def test_timesteps_are_given_as_a_list_or_a_text(tmp_path: Path) -> None:
    pipe = opened(model_folder(tmp_path / "tree"))
    for given in ([999, 500, 10], "999,500, 10"):
        settings = pipe.plan("boat", scheduler="lcm", timesteps=given).settings
        assert (settings.timesteps, settings.steps) == ((999, 500, 10), 3)
    assert pipe("boat", seed=1, scheduler="lcm", timesteps=[999, 10]).images[0].info


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"timesteps": "999;1"}, "timesteps is '999;1'; give whole numbers with commas"),
        ({"timesteps": []}, r"timesteps is \[\]"),
        ({"timesteps": [1, 2]}, r"timesteps are \[1, 2\]; give whole numbers that fall"),
        ({"timesteps": [9, 1], "num_inference_steps": 3}, "leave one of them out"),
        ({"timesteps": [9, 1], "scheduler": "euler"}, "Euler makes its timesteps itself"),
    ],
)
def test_timesteps_that_cannot_be_are_refused(
    tmp_path: Path, asked: dict[str, Any], says: str
) -> None:
    pipe = opened(model_folder(tmp_path / "tree"))
    with pytest.raises(PleinairError, match=says) as caught:
        pipe.plan("boat", **{"scheduler": "lcm", **asked})
    assert "\n" not in str(caught.value)


TINY = ("vae_encoder", "vae_decoder_tiny")
INT8 = (*TINY, "unet_int8", "vae_decoder_int8")
STATED = {"steps": 4, "guidance_scale": 0.0, "vae": "tiny", "profile": "balanced"}


def test_a_folder_recommends_decoder_profile_and_noise(tmp_path: Path) -> None:
    stated = {**STATED, "scheduler": "tcd", "eta": 0.3, "timesteps": [999, 9]}
    folder = model_folder(tmp_path / "tree", parts=INT8, manifest={"recommended": stated})
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    assert pipe.profile.name == "balanced"
    plan = pipe.plan("boat")
    assert plan.decoder == "vae_decoder_tiny"
    assert (plan.settings.eta, plan.settings.timesteps) == (0.3, (999, 9))
    assert pipe.plan("boat", vae="full").decoder == "vae_decoder"
    exact = StableDiffusionPipeline.from_pretrained(folder, profile="exact")
    assert exact.profile.name == "exact"
    assert open_model(folder).recommended == Recommended(
        64, 4, 0.0, "tcd", 0.3, (999, 9), "tiny", "balanced"
    )


def test_what_a_folder_lacks_is_not_recommended(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree", manifest={"recommended": STATED})
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    assert pipe.profile.name == "native"
    assert pipe.plan("boat").decoder == "vae_decoder"


def test_a_picture_says_what_was_recommended(pipe: Any) -> None:
    from pleinair.runtime.record import metadata

    said = metadata.of_picture(pipe("boat", seed=1).images[0])
    assert said["timesteps"] == "999,749,499,249"
    assert (said["eta"], said["scheduler"], said["num_inference_steps"]) == (0.3, "tcd", 4)
    again = {name: said[name] for name in ("timesteps", "eta", "scheduler", "num_inference_steps")}
    assert pipe.plan("boat", **again).settings.timesteps == (999, 749, 499, 249)


def test_the_names_of_kinds_are_declared_with_the_options() -> None:
    """Where help finds them without loading anything."""
    assert tuple(distillation.KINDS) == FEW_STEPS
