"""What stands beside the four graphs: the safety checker and the tiny decoder."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import checkpoints
from pleinair.export import architecture, export_model, families, weights
from pleinair.export.checkpoint import open_checkpoint
from pleinair.export.families.beside import SAFETY_CHECKER
from pleinair.export.tiny_vae import open_tiny_vae
from pleinair.runtime.errors import SourceError


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_guarded_folder(exported_guarded: Path, guarded_checkpoint: Path) -> None:
    manifest = read(exported_guarded / "pleinair.json")
    for part in ("safety_checker", "vae_decoder_tiny"):
        for form, file in (("openvino", "openvino_model.xml"), ("onnx", "model.onnx")):
            assert f"{part}/{file}" in manifest["files"]
            assert manifest["parity"][part][form]["max_rel"] < 1e-4
    assert manifest["source"]["tiny_vae"] == {"kind": "folder", "name": "tiny_vae"}
    index = read(exported_guarded / "model_index.json")
    assert index["safety_checker"] == [None, None]  # else optimum looks for PyTorch's weights
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    facts = read(exported_guarded / "safety_checker" / "config.json")
    assert len(facts["concept_embeds_weights"]) == 17
    assert len(facts["special_care_embeds_weights"]) == 3
    ours = exported_guarded / "feature_extractor" / "preprocessor_config.json"
    assert read(ours) == read(guarded_checkpoint / "feature_extractor" / ours.name)


def test_without_the_checker(
    guarded_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the graphs that are exported in any case, one will do here."""
    family = families.of(read(guarded_checkpoint / "model_index.json"), "here")
    kept = {
        name: one if name == "text_encoder" else dataclasses.replace(one, graphs={})
        for name, one in family.submodels.items()
    }
    monkeypatch.setattr(families, "FAMILIES", [dataclasses.replace(family, submodels=kept)])
    folder = export_model(guarded_checkpoint, tmp_path / "model", safety_checker=False)
    assert not (folder / "safety_checker").exists()
    assert not (folder / "feature_extractor").exists()
    assert read(folder / "model_index.json")["feature_extractor"] == [None, None]


def test_a_checker_that_is_named_but_not_there(guarded_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(guarded_checkpoint, tmp_path / "pruned")
    shutil.rmtree(folder / "safety_checker")
    with pytest.raises(SourceError, match=r"is not there; bring it, or .*--no-safety-checker"):
        open_checkpoint(folder).preprocessor()


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_keys_are_strict(guarded_checkpoint: Path, change: str) -> None:
    checkpoint = open_checkpoint(guarded_checkpoint)
    state = checkpoint.weights("safety_checker")
    assert "vision_model.vision_model.embeddings.position_ids" in state
    if change == "missing":
        del state["concept_embeds"]
    else:
        state["vision_model.stranger"] = state["concept_embeds"]
    module = architecture.build(SAFETY_CHECKER.cls, checkpoint.config("safety_checker"), "here")
    with pytest.raises(SourceError, match="lacks 1 weight: con" if change == "missing" else "str"):
        weights.load(module, state, "here")


def test_a_tiny_vae_of_another_model(tmp_path: Path) -> None:
    tiny = open_tiny_vae(checkpoints.autoencoder_tiny(tmp_path / "tiny"))
    vae = {"latent_channels": 4, "block_out_channels": [32] * 4}
    tiny.require_fit(vae)
    with pytest.raises(SourceError, match="8x8 pixels of 4 channels, the model's VAE 4x4 of 16"):
        tiny.require_fit({"latent_channels": 16, "block_out_channels": [32] * 3})
    with pytest.raises(SourceError, match="neither the folder of a tiny VAE nor a hub id"):
        open_tiny_vae(tmp_path / "nowhere" / "at" / "all")
