"""Which kind of model a folder is: by its name, and by the channels that its parts have."""

from pathlib import Path
from typing import Any

import pytest

from fakes import instruction_folder, model_folder, upscaler_folder, xl_folder
from pleinair.runtime.errors import BundleError
from pleinair.runtime.families import FAMILIES, Family, check_named, open_model
from pleinair.runtime.families.instruction import Instruction
from pleinair.runtime.families.stable_diffusion import StableDiffusion
from pleinair.runtime.families.upscaler import Upscaler
from pleinair.runtime.families.xl import StableDiffusionXL
from pleinair.runtime.model.bundle import Bundle

FOLDERS = {
    "stable diffusion": (model_folder, StableDiffusion),
    "xl": (xl_folder, StableDiffusionXL),
    "upscaler": (upscaler_folder, Upscaler),
    "instruction": (instruction_folder, Instruction),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_of_one_family(name: str, tmp_path: Path) -> None:
    make, family = FOLDERS[name]
    found = open_model(make(tmp_path / "tree"))
    assert type(found) is family
    assert [
        one for one in FAMILIES if one.named(found.bundle.index) and one.fits(found.bundle)
    ] == [family]


@pytest.mark.parametrize("prefix", ["", "OV", "ORT", "Onnx"])
def test_names_of_other_programs_are_the_same(prefix: str) -> None:
    assert StableDiffusion.named({"_class_name": f"{prefix}StableDiffusionPipeline"})
    assert not StableDiffusion.named({"_class_name": f"{prefix}StableDiffusionXLPipeline"})
    assert not StableDiffusion.named({})


@pytest.mark.parametrize(
    ("channels", "more", "family"),
    [
        (4, {}, StableDiffusion),
        (9, {}, StableDiffusion),
        (8, {}, Instruction),
        (7, {"num_class_embeds": 1000}, Upscaler),
    ],
)
def test_of_a_shared_name_the_channels_tell(
    channels: int, more: dict[str, Any], family: type[Family], tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "tree", unet={"in_channels": channels, **more})
    bundle = Bundle.open(folder)
    assert [one for one in FAMILIES if one.named(bundle.index) and one.fits(bundle)] == [family]


def test_channels_of_no_family_are_refused_by_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree", unet={"in_channels": 5})
    with pytest.raises(BundleError, match=r"takes 5 channels, the VAE has 4; only these can be"):
        open_model(folder)


def test_an_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree", "KandinskyPipeline")
    with pytest.raises(BundleError, match=r"a KandinskyPipeline model; .*Stable Diffusion XL"):
        open_model(folder)
    check_named(tmp_path, {"_class_name": "OVStableDiffusionPipeline"})
    with pytest.raises(BundleError, match="a nameless model"):
        check_named(tmp_path, {})


def test_a_folder_without_a_part_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    (folder / "vae_decoder" / "openvino_model.xml").unlink()
    with pytest.raises(BundleError, match=r"the vae_decoder graph \(\.xml\) is missing"):
        open_model(folder)


def test_families_are_told_apart_by_what_people_call_them() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
