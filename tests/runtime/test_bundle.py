"""Folders of every layout open; what is missing, truncated or mismatched is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.errors import BundleError, PleinairError
from pleinair.runtime.model.bundle import Bundle

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def folder(exported_openvino: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(exported_openvino, tmp_path / "model")


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_describes_the_model(exported_openvino: Path) -> None:
    bundle = Bundle.open(exported_openvino)
    assert set(bundle.graphs["openvino"]) == {"text_encoder", "unet", "vae_decoder", "vae_encoder"}
    family = families.of(bundle)
    assert family.name == "Stable Diffusion"
    assert (family.space.factor, family.space.channels, family.size) == (8, 4, 64)
    assert family.space.scale == pytest.approx(0.18215)
    assert bundle.scheduler["beta_schedule"] == "scaled_linear"


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/openvino_model.xml",
        "unet/openvino_model.bin",
        "vae_decoder/openvino_model.bin",
        "text_encoder/openvino_model.xml",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    if name.startswith("tokenizer"):
        (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=Path(name).parts[0].replace(".", r"\.")):
        StableDiffusionPipeline.from_pretrained(folder, profile="exact")


def test_without_the_picture_encoder_text_to_image_still_works(folder: Path) -> None:
    shutil.rmtree(folder / "vae_encoder")
    (folder / "pleinair.json").unlink()
    assert "vae_encoder" not in Bundle.open(folder).graphs["openvino"]


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("name", ["unet/openvino_model.bin", "vae_decoder/openvino_model.xml"])
def test_a_truncated_file_is_named(folder: Path, name: str, manifest: bool) -> None:
    if not manifest:
        (folder / "pleinair.json").unlink()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=Path(name).name.replace(".", r"\.")):
        Bundle.open(folder)


def test_verify_finds_a_changed_byte(folder: Path) -> None:
    Bundle.open(folder).verify()
    weights = folder / "unet" / "openvino_model.bin"
    data = bytearray(weights.read_bytes())
    data[1000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"openvino_model\.bin"):
        Bundle.open(folder).verify()


def test_mismatched_parts_are_named(folder: Path) -> None:
    rewrite(folder / "text_encoder" / "config.json", hidden_size=768)
    (folder / "pleinair.json").unlink()
    with pytest.raises(BundleError, match="text encoder gives 768"):
        families.open_model(folder)


def test_other_unets_are_refused(folder: Path) -> None:
    rewrite(folder / "unet" / "config.json", in_channels=6)
    (folder / "pleinair.json").unlink()
    with pytest.raises(BundleError, match="6 channels"):
        families.open_model(folder)


def test_other_pipelines_are_refused(folder: Path) -> None:
    rewrite(folder / "model_index.json", _class_name="OVKandinskyPipeline")
    (folder / "pleinair.json").unlink()
    with pytest.raises(BundleError, match="a OVKandinskyPipeline model; only those of these kinds"):
        families.open_model(folder)


def test_a_checkpoint_is_told_how_to_be_converted(tiny_checkpoint: Path) -> None:
    with pytest.raises(BundleError, match="pleinair-export"):
        Bundle.open(tiny_checkpoint)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_json_that_is_none_is_named(folder: Path, content: str) -> None:
    (folder / "unet" / "config.json").write_text(content)
    (folder / "pleinair.json").unlink()
    with pytest.raises(BundleError, match=r"unet.config\.json"):
        Bundle.open(folder)


def test_a_graph_of_another_kind_is_an_error_not_a_picture(folder: Path) -> None:
    (folder / "pleinair.json").unlink()
    for end in ("xml", "bin"):
        shutil.copy(
            folder / "vae_decoder" / f"openvino_model.{end}",
            folder / "unet" / f"openvino_model.{end}",
        )
    with pytest.raises(PleinairError, match="no input"):
        StableDiffusionPipeline.from_pretrained(folder, profile="exact")(
            "boat", num_inference_steps=1
        )


def test_older_onnx_folders_of_diffusers(exported_onnx: Path, tmp_path: Path) -> None:
    """They carry no config.json in their parts, and another class name."""
    folder = shutil.copytree(exported_onnx, tmp_path / "model")
    (folder / "pleinair.json").unlink()
    rewrite(folder / "model_index.json", _class_name="OnnxStableDiffusionPipeline")
    for config in folder.glob("*/config.json"):
        config.unlink()
    arguments = {"seed": 1, "num_inference_steps": 2, "width": 64, "height": 64}
    new = StableDiffusionPipeline.from_pretrained(exported_onnx, profile="exact")(
        "boat", **arguments
    )
    old = StableDiffusionPipeline.from_pretrained(folder, profile="exact")("boat", **arguments)
    assert np.array_equal(new.images[0], old.images[0])


@pytest.mark.parametrize("batch", [None, 2])
def test_the_flat_folder_of_stable_diffusion_openvino(
    exported_openvino: Path, tiny_checkpoint: Path, tmp_path: Path, batch: int | None
) -> None:
    """bes-dev's layout: flat files, other input names, the scaling inside the decoder, and
    a UNet that may be frozen at one size and at a batch of 2."""
    flat = flat_folder(exported_openvino, tiny_checkpoint, tmp_path / "flat", batch)
    arguments = {"seed": 1, "num_inference_steps": 3, "width": 64, "height": 64}
    arguments |= {"scheduler": "lms", "guidance_scale": 7.5}
    theirs = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")(
        "boat", **arguments
    )
    tokenizer = exported_openvino / "tokenizer"
    ours = StableDiffusionPipeline.from_pretrained(flat, tokenizer=tokenizer, profile="exact")(
        "boat", **arguments
    )
    difference = np.asarray(ours.images[0], int) - np.asarray(theirs.images[0], int)
    assert np.abs(difference).max() <= 1
    with pytest.raises(BundleError, match="no tokenizer here"):
        StableDiffusionPipeline.from_pretrained(flat, profile="exact")


def flat_folder(source: Path, checkpoint: Path, flat: Path, batch: int | None) -> Path:
    import openvino as ov
    import torch
    from diffusers import UNet2DConditionModel

    core = ov.Core()
    flat.mkdir()
    names = {
        "text_encoder": {"input_ids": "tokens"},
        "unet": {"sample": "latent_model_input", "timestep": "t"},
        "vae_decoder": {"latent_sample": "latents"},
        "vae_encoder": {"sample": "init_image"},
    }
    for part, renamed in names.items():
        model = core.read_model(source / part / "openvino_model.xml")
        if part == "unet" and batch:
            # Traced with constants for shapes, as in 2022: it cannot be given another batch.
            unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet").eval()
            example = {
                "sample": torch.randn(batch, 4, 8, 8),
                "timestep": torch.tensor(1.0),
                "encoder_hidden_states": torch.randn(batch, 77, unet.config.cross_attention_dim),
            }
            with torch.no_grad():
                model = ov.convert_model(
                    unet,
                    example_input=example,
                    input=[(name, ov.PartialShape(list(x.shape))) for name, x in example.items()],
                )
        for old, new in renamed.items():
            model.input(old).get_tensor().set_names({new})
        if part == "vae_decoder":
            processed = ov.preprocess.PrePostProcessor(model)
            processed.input(0).preprocess().scale(0.18215)
            model = processed.build()
            model.input(0).get_tensor().set_names({"latents"})
        ov.save_model(model, flat / f"{part}.xml", compress_to_fp16=False)
    return flat
