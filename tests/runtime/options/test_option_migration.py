"""diffusers' names: each is taken, or says in one line what it is here."""

import inspect
import re
from typing import Any

import pytest

import pleinair.runtime
from fakes import model_folder, opened
from pleinair.runtime import Pipeline, StableDiffusionPipeline, schedulers
from pleinair.runtime.errors import SettingError
from pleinair.runtime.families import GROUPS
from pleinair.runtime.options import migration
from pleinair.runtime.options.option import declared

# How a pipeline is put together and kept, which no script for painting calls.
INSIDE = """
    add_watermarker check_image config_name encode_image extract_init_dict get_config_dict
    get_guidance_scale_embedding get_timesteps has_compatibles ignore_for_config
    lora_state_dict load_lora_into_text_encoder load_lora_into_transformer load_lora_into_unet
    maybe_convert_prompt model_cpu_offload_seq numpy_to_pil pack_weights parameters
    prepare_control_image prepare_extra_step_kwargs prepare_image prepare_image_latents
    prepare_ip_adapter_image_embeds prepare_mask_latents register_for_auto_class
    register_modules register_to_config save_config to_json_file to_json_string upcast_vae
    write_lora_layers text_encoder_name transformer_name unet_name
    image_guidance_scale denoising_end denoising_start joint_attention_kwargs
    skip_guidance_layers
"""
OPTIONS = {name for group in GROUPS for name in declared(group)}
PLAN = set(inspect.signature(StableDiffusionPipeline.plan).parameters)
OPENING = set(inspect.signature(StableDiffusionPipeline.from_pretrained).parameters)


@pytest.fixture
def pipe(tmp_path: Any) -> Any:
    return opened(model_folder(tmp_path / "tree"))


def theirs() -> list[Any]:
    diffusers = pytest.importorskip("diffusers")
    named = migration.PIPELINES - {
        name for name in migration.PIPELINES if name.startswith(("Auto", "Diffusion"))
    }
    return [getattr(diffusers, name) for name in (*sorted(named), "StableDiffusionPipeline")]


def test_every_argument_of_diffusers_is_known() -> None:
    asked = {name for one in theirs() for name in inspect.signature(one.__call__).parameters}
    assert asked - {"self", "kwargs"} - OPTIONS - PLAN <= migration.CALL.keys()


def test_every_argument_of_opening_is_known() -> None:
    source = inspect.getsource(theirs()[0].from_pretrained)
    asked = set(re.findall(r'kwargs\.pop\(\s*"(\w+)"', source))
    assert len(asked) > 10
    assert asked - OPENING <= migration.OPENING.keys()


def test_every_method_of_diffusers_is_known() -> None:
    known = migration.ATTRIBUTES.keys() | migration.NOTHING.keys() | set(INSIDE.split())
    for one in theirs():
        public = {name for name in dir(one) if not name.startswith("_")}
        ours = {name for name in public if name in dir(StableDiffusionPipeline)}
        assert public - ours <= known, one


def test_nothing_that_is_here_is_said_to_be_otherwise(pipe: Any) -> None:
    assert not migration.CALL.keys() & (OPTIONS | PLAN)
    assert not migration.OPENING.keys() & OPENING
    for names in (migration.ATTRIBUTES, migration.NOTHING):
        assert not names.keys() & {*dir(StableDiffusionPipeline), *vars(pipe)}


def test_every_line_is_one_and_short() -> None:
    tables = (migration.CALL, migration.OPENING, migration.ATTRIBUTES, migration.CLASSES)
    for table in tables:
        for one in table.values():
            assert 5 < len(one.here) < 120
            assert "\n" not in one.here


@pytest.mark.parametrize("name", sorted(migration.CALL))
def test_an_argument_says_what_to_give(pipe: Any, name: str) -> None:
    with pytest.raises(SettingError) as caught:
        pipe("boat", **{name: object()})
    here = migration.CALL[name].here
    assert str(caught.value) == f"{name} is diffusers' name and is not taken here: {here}"
    pipe.plan("boat", **{name: None})


def test_values_that_change_nothing_are_taken(pipe: Any) -> None:
    pipe.plan("boat", return_dict=True, callback_on_step_end_tensor_inputs=["latents"])
    with pytest.raises(SettingError, match=r"return_dict .* out\.images"):
        pipe.plan("boat", return_dict=False)


@pytest.mark.parametrize("name", sorted(migration.OPENING))
def test_an_argument_of_opening_says_what_to_give(name: str, tmp_path: Any) -> None:
    with pytest.raises(SettingError, match=f"^{name} is diffusers'"):
        Pipeline.from_pretrained(tmp_path, **{name: object()})


def test_an_unknown_argument_of_opening_is_a_type_error(tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="from_pretrained has no argument 'zebra'"):
        Pipeline.from_pretrained(tmp_path, zebra=1)


@pytest.mark.parametrize("name", sorted(migration.ATTRIBUTES))
def test_an_attribute_says_what_it_is_here(pipe: Any, name: str) -> None:
    for thing in (pipe, StableDiffusionPipeline):
        assert not hasattr(thing, name)
        with pytest.raises(migration.MigrationError, match=f"^{name} is diffusers'"):
            getattr(thing, name)
    with pytest.raises(migration.MigrationError, match=f"^{name} is diffusers'"):
        setattr(pipe, name, None)


@pytest.mark.parametrize("name", sorted(migration.NOTHING))
def test_what_is_so_anyway_does_nothing(pipe: Any, name: str) -> None:
    assert getattr(pipe, name)(disable=True) is None


def test_attributes_that_nobody_knows(pipe: Any) -> None:
    for thing in (pipe, StableDiffusionPipeline):
        with pytest.raises(AttributeError, match="has no attribute 'zebra'"):
            _ = thing.zebra
    pipe.mine = 3  # a program's
    assert pipe.mine == 3


@pytest.mark.parametrize("name", sorted(migration.PIPELINES))
def test_pipelines_go_by_their_names(name: str) -> None:
    assert getattr(pleinair.runtime, name) is Pipeline


@pytest.mark.parametrize(
    "name", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", *migration.CLASSES]
)
def test_other_classes_say_what_to_give(name: str) -> None:
    with pytest.raises(ImportError, match=f"^{name} is diffusers' name"):
        exec(f"from pleinair.runtime import {name}")


def test_a_device(pipe: Any) -> None:
    assert pipe.to("cpu") is pipe.to("CPU", "torch.float32") is pipe
    for place in ("cuda", "torch.float16", "cuda:0"):
        with pytest.raises(SettingError, match=rf"cannot go to '?{place}'?; open it there"):
            pipe.to(place)


def test_the_names_of_schedulers_are_where_the_table_says() -> None:
    assert "ddim" in schedulers.names()
