"""The families that can be exported: told by their class, checked before any weight is read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from plans import planned
from pleinair.export import architecture, families
from pleinair.export.families import stable_diffusion, upscaler, xl
from pleinair.export.families.beside import SAFETY_CHECKER, TINY_VAE
from pleinair.export.families.family import Family, GraphKind, SubModel, Tokenizer
from pleinair.export.families.original import UNET
from pleinair.export.graphs import vae
from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub import selection

_NETWORKS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_BESIDE = {
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
_XL = {
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}
_REFINER = {"text_encoder": [None, None], "tokenizer": [None, None]}
_UPSCALER = {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": 350}
_VAE_GRAPHS = ["vae_decoder", "vae_encoder"]


def _index(pipeline: str, **changes: Any) -> dict[str, Any]:
    return {"_class_name": pipeline, **_NETWORKS, **_BESIDE, **changes}


@pytest.mark.parametrize(
    ("index", "family", "submodels"),
    [
        (_index("StableDiffusionPipeline"), stable_diffusion.FAMILY, list(_NETWORKS)),
        (_index("LatentConsistencyModelPipeline"), stable_diffusion.FAMILY, list(_NETWORKS)),
        (
            _index("StableDiffusionInstructPix2PixPipeline"),
            stable_diffusion.FAMILY,
            list(_NETWORKS),
        ),
        (_index("StableDiffusionUpscalePipeline", **_UPSCALER), upscaler.FAMILY, list(_NETWORKS)),
        (
            _index("StableDiffusionXLPipeline", **_XL),
            xl.FAMILY,
            ["text_encoder", "text_encoder_2", "unet", "vae"],
        ),
        (
            _index("StableDiffusionXLImg2ImgPipeline", **_XL | _REFINER),
            xl.FAMILY,
            ["text_encoder_2", "unet", "vae"],
        ),
    ],
)
def test_a_family_is_told_by_its_pipeline(
    index: dict[str, Any], family: Family, submodels: list[str]
) -> None:
    assert families.of(index, "here") is family
    present = family.present(index)
    assert list(present) == submodels
    graphs = [graph for submodel in present.values() for graph in submodel.graphs]
    assert graphs == [name for name in submodels if name != "vae"] + _VAE_GRAPHS
    tokenizers = [one.tokenizer.folder for one in present.values() if one.tokenizer]
    encoders = [name for name in submodels if name.startswith("text_encoder")]
    assert tokenizers == [name.replace("text_encoder", "tokenizer") for name in encoders]


def test_no_pipeline_is_of_two_families() -> None:
    pipelines = [name for family in families.FAMILIES for name in family.pipelines]
    assert len(pipelines) == len(set(pipelines))
    single_files = [
        (family, task.pipeline)
        for family, original in families.originals()
        for task in original.tasks.values()
    ]
    assert all(pipeline in family.pipelines for family, pipeline in single_files)


def test_every_class_is_one_of_its_library() -> None:
    declared = [one for family in families.FAMILIES for one in family.submodels.values()]
    for submodel in (*declared, SAFETY_CHECKER, TINY_VAE):
        with pytest.raises(SourceError, match=rf"a Stranger, and only {submodel.class_name} can"):
            architecture.build(submodel.cls, {"_class_name": "Stranger"}, "here")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (_index("FluxPipeline"), r"a FluxPipeline cannot be exported; Stable Diffusion, .* can"),
        ({}, "a nameless pipeline cannot be exported"),
        (
            _index("StableDiffusionPipeline", unet=["diffusers", "UNet2DModel"]),
            "unet is a UNet2DModel, and only UNet2DConditionModel can be exported",
        ),
        (_index("StableDiffusionPipeline", vae=[None, None]), "vae is a None, and only"),
        (_index("StableDiffusionPipeline", **_REFINER), "text_encoder is a None, and only"),
        (_index("StableDiffusionXLPipeline"), "text_encoder_2 is a None, and only"),
        (
            _index("StableDiffusionPipeline", image_encoder=["transformers", "CLIPVisionModel"]),
            "with image_encoder cannot be exported",
        ),
        (_index("StableDiffusionPipeline", **_UPSCALER), "with low_res_scheduler cannot be"),
    ],
)
def test_what_no_family_declares_is_refused_in_one_line(
    index: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        families.of(index, "somewhere/model")
    assert str(caught.value).startswith("somewhere/model: ")
    assert "\n" not in str(caught.value)


_XL_UNET = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 96 + 6 * 8,
}
_UPSCALING_UNET = {"in_channels": 7, "num_class_embeds": 1000}


@pytest.mark.parametrize(
    ("family", "unet", "message"),
    [
        (stable_diffusion.FAMILY, {"in_channels": 9}, None),
        (stable_diffusion.FAMILY, {"num_class_embeds": 5}, "has num_class_embeds, for which"),
        (stable_diffusion.FAMILY, {"addition_embed_type": "text_time"}, "addition_embed_type"),
        (upscaler.FAMILY, _UPSCALING_UNET, None),
        (upscaler.FAMILY, _UPSCALING_UNET | {"num_class_embeds": None}, "takes noise levels by"),
        (upscaler.FAMILY, _UPSCALING_UNET | {"class_embed_type": "timestep"}, "takes noise levels"),
        (upscaler.FAMILY, _UPSCALING_UNET | {"in_channels": 4}, "takes 4 channels; an upscaler's"),
        (xl.FAMILY, _XL_UNET, None),
        (xl.FAMILY, {}, "the addition_embed_type None"),
        (xl.FAMILY, _XL_UNET | {"addition_time_embed_dim": 7}, "takes 144 values .* brings 138"),
    ],
)
def test_a_unet_that_the_runtime_could_not_feed(
    family: Family, unet: dict[str, Any], message: str | None
) -> None:
    index = {"_class_name": family.pipelines[0]}
    configs = {"unet": dict(unet), "vae": {}, "text_encoder_2": {"projection_dim": 96}}
    if message is not None:
        with pytest.raises(SourceError, match=message):
            family.complete(configs, index, "here")
        return
    family.complete(configs, index, "here")
    added = {"text_encoder_projection_dim": 96, "requires_aesthetics_score": False}
    assert configs["unet"] == unet | (added if family is xl.FAMILY else {})


def test_a_single_file_is_of_one_kind() -> None:
    entrance = f"{UNET}input_blocks.1.1.proj_in.weight"
    sizes = f"{UNET}label_emb.0.0.weight"
    to_k = f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    states: list[tuple[dict[str, torch.Tensor], Any]] = [
        ({}, stable_diffusion.SD1),
        ({entrance: torch.zeros(4, 4, 1, 1)}, stable_diffusion.SD1),
        ({entrance: torch.zeros(4, 4)}, stable_diffusion.SD2),
        ({f"{UNET}label_emb.weight": torch.zeros(9, 4)}, upscaler.UPSCALER),
        ({sizes: torch.zeros(4, 4)}, xl.XL),
        ({sizes: torch.zeros(4, 4), to_k: torch.zeros(4, 2048)}, xl.XL),
        ({sizes: torch.zeros(4, 4), to_k: torch.zeros(4, 1280)}, xl.REFINER),
        ({"conditioner.embedders.0.model.x": torch.zeros(1), sizes: torch.zeros(1)}, xl.REFINER),
    ]
    for state, expected in states:
        fitting = [original for _, original in families.originals() if original.fits(state)]
        assert fitting == [expected]
        assert families.detect(state)[1] is expected


def _copy_as_it_is(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    (target / "spiece.model").write_bytes((source / "spiece.model").read_bytes())


# As in a file of its own: no UNet, no CLIP, a tokenizer that is copied, a text encoder to spare.
_OTHER = Family(
    "Another",
    pipelines=("AnotherPipeline",),
    submodels={
        "text_encoder_9": SubModel(
            "transformers.T5EncoderModel",
            {},
            tokenizer=Tokenizer(
                "tokenizer_9",
                _copy_as_it_is,
                lambda folder, openvino: None,
                check=lambda folder, config, file: None,
            ),
            optional=True,
        ),
        "transformer": SubModel("diffusers.SD3Transformer2DModel", {}),
        "vae": SubModel("diffusers.AutoencoderKL", {"vae_decoder": GraphKind(vae.vae_decoder, 4)}),
    },
    settings={"spoken": "by the family"},
)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Its configs, without weights."""
    folder = tmp_path / "checkpoint"
    t5 = {"d_ff": 32, "d_kv": 8, "d_model": 16, "num_heads": 2, "num_layers": 1, "vocab_size": 9}
    transformer = {"_class_name": "SD3Transformer2DModel", "num_layers": 1, "sample_size": 8}
    transformer |= {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 16}
    transformer |= {"caption_projection_dim": 16, "pooled_projection_dim": 16}
    _write(folder / "text_encoder_9" / "config.json", t5)
    _write(folder / "transformer" / "config.json", transformer)
    _write(folder / "vae" / "config.json", {"_class_name": "AutoencoderKL"})
    scheduler = {"_class_name": "EulerDiscreteScheduler", "num_train_timesteps": 1000}
    _write(folder / "scheduler" / "scheduler_config.json", scheduler)
    index = {
        "_class_name": "AnotherPipeline",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder_9": ["transformers", "T5EncoderModel"],
        "tokenizer_9": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write(folder / "model_index.json", index)
    (folder / "tokenizer_9").mkdir()
    (folder / "tokenizer_9" / "spiece.model").write_bytes(b"pieces")
    return folder


def test_a_line_of_the_registry_adds_a_family(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="a AnotherPipeline cannot be exported"):
        planned(checkpoint)
    monkeypatch.setattr(families, "FAMILIES", [*families.FAMILIES, _OTHER])
    plan = planned(checkpoint)
    assert list(plan.submodels) == ["text_encoder_9", "transformer", "vae"]
    assert all(size > 0 for size in plan.sizes.values())
    plan.write_configs(tmp_path / "target")
    index = json.loads((tmp_path / "target" / "model_index.json").read_text(encoding="utf-8"))
    theirs = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
    assert index == theirs | {"spoken": "by the family"}
    assert (tmp_path / "target" / "tokenizer_9" / "spiece.model").read_bytes() == b"pieces"
    absent = {"text_encoder_9": [None, None], "tokenizer_9": [None, None]}
    _write(checkpoint / "model_index.json", theirs | absent)
    assert list(planned(checkpoint).submodels) == ["transformer", "vae"]


def test_the_hub_is_asked_for_what_an_index_names(checkpoint: Path) -> None:
    """Of any family, known or not, without a list of names."""
    index = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
    paths = [path for path in checkpoint.rglob("*") if path.is_file()]
    files = [path.relative_to(checkpoint).as_posix() for path in paths]
    files += ["vae/diffusion_pytorch_model.safetensors", "transformer/openvino_model.bin"]
    files += [f"text_encoder_9/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    with pytest.raises(SourceError, match="no weights in a/b/transformer"):
        selection.checkpoint(files, "a/b", index)
    files.append("transformer/diffusion_pytorch_model.safetensors")
    chosen = selection.checkpoint(files, "a/b", index)
    assert set(chosen) == set(files) - {"transformer/openvino_model.bin"}
    spared = index | {"text_encoder_9": [None, None], "tokenizer_9": [None, None]}
    smaller = selection.checkpoint(files, "a/b", spared)
    assert set(smaller) == {name for name in chosen if "_9/" not in name}
    assert selection.is_ready_made(["transformer/openvino_model.xml"])
    assert not selection.is_ready_made(files)
